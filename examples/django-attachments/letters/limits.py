"""The limits of files that come with the form itself, as they do where no script runs."""

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, StopUpload


class LimitFiles(FileUploadHandler):
    """Keeps no more of a form's files than a bundle may hold; ``request.passes_limits`` tells that there were more."""

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
        """Leave the file to the handlers behind this one."""

    def _check(self) -> None:
        max_bytes = settings.ATTACHMENTS_MAX_BUNDLE_SIZE << 20
        if self._files > settings.ATTACHMENTS_MAX_BUNDLE_FILES or self._bytes > max_bytes:
            self.request.passes_limits = True
            # What still comes is read and dropped, so that the browser sees the answer.
            raise StopUpload(connection_reset=False)
