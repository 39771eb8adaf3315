"""Limits of files that are sent with the form itself, as in browsers without scripts."""

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, StopUpload


class LimitFiles(FileUploadHandler):
    """Upload handler with the quotas of a bundle; ``request.passes_limits`` is set if a form exceeds them."""

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self._files = 0
        self._bytes = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._files += 1
        self._check()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self._bytes += len(raw_data)
        self._check()
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Return None: the next handlers complete the file."""

    def _check(self) -> None:
        max_bytes = settings.ATTACHMENTS_MAX_BUNDLE_SIZE << 20
        if self._files > settings.ATTACHMENTS_MAX_BUNDLE_FILES or self._bytes > max_bytes:
            self.request.passes_limits = True
            # The rest of the body is read and discarded, so that the browser gets the answer.
            raise StopUpload(connection_reset=False)
