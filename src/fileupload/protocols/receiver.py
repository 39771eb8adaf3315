"""The receiver: stores the bytes of an upload, within its policy, with hash and progress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from fileupload.errors import NoFile, UploadError
from fileupload.pool.parts import FileWriter
from fileupload.protocols.upload_request import UploadPolicy
from fileupload.settings import Settings
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of, timestamp
from fileupload.wsgi.request_body import BodyReader

_SPACE_CHECK_INTERVAL = 16 << 20  # the most bytes between two looks at the free space
_UPLOADS_IN_STEP = 64  # so many uploads may fill the same free space at once without using it up between two looks


class Sink(Protocol):
    """Where a receiver stores files: an attempt, or one part of a direct upload."""

    def create_file(self) -> FileWriter:
        """Begin the next file."""

    def discard_file(self) -> None:
        """Remove the last file."""

    def publish(self, status: UploadStatus) -> None:
        """Show other processes how far the upload is.

        :raises Superseded: the bucket belongs to another attempt.
        """


class Receiver:
    """Stores the files and fields of one upload in a sink.

    A protocol calls :meth:`begin_file`, :meth:`write` and :meth:`end_file` for each file, :meth:`add_field` for each
    text field and :meth:`publish_if_due` between two reads; then :meth:`complete` returns the descriptor.
    """

    def __init__(
        self,
        sink: Sink,
        policy: UploadPolicy,
        body: BodyReader,
        status: UploadStatus,
        *,
        hashes: bool,
        progress_interval: float,
    ) -> None:
        """Receive into *sink*.

        :param body: tells how much has come, and when.
        :param status: the status of the upload before its first byte.
        :param hashes: whether the SHA-256 of each file is computed.
        :param progress_interval: seconds between two publications of the progress.
        """
        self.status = status
        self._sink = sink
        self._policy = policy
        self._body = body
        self._limit: int | None = None  # of the bytes in all, where the current file must end
        self._total = 0
        self._total_before = 0  # bytes of the files before the current one
        self._space_check = 0
        self._files: list[UploadedFile] = []
        self._fields: dict[str, list[str]] = {}
        self._current: tuple[str, str, str] = ("", "", "")
        self._writer: FileWriter | None = None
        self._write: Callable[[bytes], None] | None = None
        self._hash = hashlib.sha256()
        self._hashes = hashes
        self._progress_interval = progress_interval
        self._published = False
        self._next_publish = body.now + progress_interval

    def begin_file(self, field: str, filename: str, content_type: str) -> None:
        """Begin the next file.

        :raises UploadError: the application's filter rejects it.
        """
        self._policy.file_filter.check_file(field, filename, content_type)
        self._writer = self._sink.create_file()
        self._write = self._writer.write
        self._current = (field, filename, content_type)
        self._total_before = self._total
        self._limit = self._policy.limit_from(self._total)
        if self._hashes:
            self._hash = hashlib.sha256()
        if not self._files:
            self.status = replace(self.status, state=State.UPLOADING, filename=filename, content_type=content_type)

    def write(self, data: bytes) -> None:
        """Store *data* in the current file.

        :raises TooLarge, PoolFull: a limit is passed.
        :raises OSError: the pool cannot store it.
        """
        self._total += len(data)
        if self._limit is not None and self._total > self._limit:
            self._policy.check_total(self._total, self._total_before)
        if self._total > self._space_check:
            # Other uploads store bytes meanwhile: the less room there is, the sooner comes the next look.
            room = self._policy.check_space(len(data))
            self._space_check = self._total + min(_SPACE_CHECK_INTERVAL, room // _UPLOADS_IN_STEP)
        assert self._write is not None
        if self._hashes:
            # In line, while the chunk is in the processor's cache.
            self._hash.update(data)
        self._write(data)

    def end_file(self) -> None:
        """End the current file."""
        assert self._writer is not None
        self._writer.close()
        field, filename, content_type = self._current
        size = self._total - self._total_before
        if size == 0 and not filename and field:
            # What browsers send for a file input in which nothing was chosen.
            self._sink.discard_file()
            return
        self._files.append(
            UploadedFile(
                field=field,
                filename=filename,
                content_type=content_type,
                size=size,
                sha256=self._hash.hexdigest() if self._hashes else None,
            )
        )

    def add_field(self, name: str, value: str) -> None:
        """Keep a text field.

        :raises UploadError: the application's filter rejects it.
        """
        self._policy.file_filter.check_field(name)
        self._fields.setdefault(name, []).append(value)

    def publish_if_due(self) -> None:
        """Publish the progress, if by the time of the next call it would be older than ``progress_interval``.

        :raises Superseded: the bucket belongs to another attempt.
        """
        body = self._body
        due = body.now + body.last_read_seconds >= self._next_publish
        if due or (not self._published and body.has_large_remainder):
            self._published = True
            self._next_publish = body.now + self._progress_interval
            self.status = replace(self.status, received=body.received, updated=timestamp())
            self._sink.publish(self.status)

    def failed(self, error: UploadError) -> UploadStatus:
        """Return the status of this upload after *error*."""
        return replace(self.status, received=self._body.received).failed(error)

    def complete(self) -> UploadStatus:
        """Return the status of the upload, now that all its files are stored.

        :raises NoFile: no file came.
        """
        if not self._files:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        return self.status.done(tuple(self._files), {name: tuple(values) for name, values in self._fields.items()})


def with_expiry(status: UploadStatus, settings: Settings) -> UploadStatus:
    """Return the *status* of a finished upload with the time at which it expires, if it does."""
    if not settings.expire_after or status.finished is None:
        return status
    return replace(status, expires=timestamp(seconds_of(status.finished) + settings.expire_after))
