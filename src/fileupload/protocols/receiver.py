"""The receiver: stores the files of an upload within its policy, computes their hashes and publishes the progress."""

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

_SPACE_CHECK_INTERVAL = 16 << 20  # bytes, at most, between two checks of the free space
_CONCURRENT_UPLOADS = 64  # this many uploads together cannot use up the free space between two checks


class Sink(Protocol):
    """The interface by which a receiver stores files: an attempt, or one part of a direct upload."""

    def create_file(self) -> FileWriter:
        """Begin the next file."""

    def discard_file(self) -> None:
        """Remove the last file."""

    def publish(self, status: UploadStatus) -> None:
        """Publish *status* to other processes.

        :raises Superseded: a newer attempt has taken over the bucket.
        """


class Receiver:
    """Stores the files and fields of one upload in a sink.

    A protocol calls :meth:`begin_file`, :meth:`write` and :meth:`end_file` for each file, :meth:`add_field` for each
    text field and :meth:`publish_if_due` between two reads; then :meth:`complete` returns the final status::

        receiver.begin_file("", "a.txt", "text/plain")
        for chunk in body.chunks():
            receiver.write(chunk)
            receiver.publish_if_due()
        receiver.end_file()
        attempt.finish(receiver.complete())
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
        """Store into *sink*.

        :param body: the reader of the body, for the bytes received and the time of the last read.
        :param status: the status of the upload before its first byte.
        :param hashes: whether to compute the SHA-256 of each file.
        :param progress_interval: seconds between two publications of the progress.
        """
        self.status = status
        self._sink = sink
        self._policy = policy
        self._body = body
        self._limit: int | None = None  # the value of _total that the current file must not pass
        self._total = 0  # bytes of all files
        self._total_before = 0  # bytes of the files before the current one
        self._space_check = 0  # the value of _total beyond which the free space is checked again
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
        """Begin the next file, which the policy has accepted."""
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

        :raises TooLarge, PoolFull: the upload passes a limit.
        :raises OSError: the pool cannot store the bytes.
        """
        self._total += len(data)
        if self._limit is not None and self._total > self._limit:
            self._policy.check_total(self._total, self._total_before)
        if self._total > self._space_check:
            # Other uploads fill the pool at the same time: the less space is free, the sooner the next check.
            room = self._policy.check_space(len(data))
            self._space_check = self._total + min(_SPACE_CHECK_INTERVAL, room // _CONCURRENT_UPLOADS)
        assert self._write is not None
        if self._hashes:
            # Before the write: the chunk is still in the processor's cache.
            self._hash.update(data)
        self._write(data)

    def end_file(self) -> None:
        """Close the current file, and add it to the files of the upload."""
        assert self._writer is not None
        self._writer.close()
        field, filename, content_type = self._current
        size = self._total - self._total_before
        if size == 0 and not filename and field:
            # Browsers send an empty file without a name for an empty file input.
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
        """Add a text field."""
        self._fields.setdefault(name, []).append(value)

    def publish_if_due(self) -> None:
        """Publish the progress, if it would be older than ``progress_interval`` at the time of the next call.

        An upload with much still to come publishes once at its start, so that its progress appears without delay.

        :raises Superseded: a newer attempt has taken over the bucket.
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
        """Return the final status of the upload: done, with its files and fields.

        :raises NoFile: the upload has no file, and the policy requires one.
        """
        if not self._files and self._policy.require_file:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        names = self._policy.file_filter.name_files([file.filename for file in self._files])
        files = tuple(replace(file, filename=name) for file, name in zip(self._files, names, strict=True))
        return self.status.done(files, {name: tuple(values) for name, values in self._fields.items()})


def with_expiry(status: UploadStatus, settings: Settings) -> UploadStatus:
    """Return the *status* of a finished upload with its expiry time, if the setting ``expire_after`` is on."""
    if settings.expire_after is None or status.finished is None:
        return status
    return replace(status, expires=timestamp(seconds_of(status.finished) + settings.expire_after))
