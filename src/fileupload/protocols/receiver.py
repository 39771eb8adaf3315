"""Receive: take the bytes of a request into a bucket, within the limits, with hash and progress."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fileupload.errors import NoFile, PoolFull, TooLarge, TypeNotAllowed, UploadError
from fileupload.identifiers import Claims
from fileupload.pool.base import Attempt, Pool
from fileupload.pool.parts import FileWriter
from fileupload.settings import Settings, format_size
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of, timestamp
from fileupload.wsgi.headers import is_in_ranges
from fileupload.wsgi.request_body import BodyReader

_SPACE_CHECK = 16 << 20  # most bytes between two looks at the free space
_UPLOADS_IN_STEP = 64  # so many uploads may take the same room at once, and still none takes the last


class FileFilter:
    """What an application lets in. This one lets in all; the application's own raises what is wrong, in its words."""

    def begin(self, request: UploadRequest) -> None:
        """Note that an attempt begins: called when the first byte has come, before anything is stored of the upload."""

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        """Refuse a file when its head has come, before its bytes."""

    def check_field(self, name: str) -> None:
        """Refuse a text field."""


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """A request that brings an upload, with all that a protocol needs to receive it.

    :ivar owner: the application that begins the upload, as its status records it; empty for the middleware.
    """

    environ: dict[str, Any]
    query: dict[str, str]
    identifier: str
    claims: Claims
    pool: Pool
    settings: Settings
    body: BodyReader
    file_filter: FileFilter = dataclasses.field(default_factory=FileFilter)
    owner: str = ""

    @property
    def max_size(self) -> int | None:
        """The most bytes of files in this upload, by the setting and by the identifier; None for any."""
        limits = [limit for limit in (self.settings.max_size or None, self.claims.max_size) if limit is not None]
        return min(limits, default=None)

    def check_type(self, content_type: str, filename: str) -> None:
        """Refuse a file by what the client calls it.

        :raises TypeNotAllowed: its type or its extension is not among the allowed ones.
        """
        for ranges in (self.settings.content_types, self.claims.content_types):
            if ranges and not is_in_ranges(content_type, ranges):
                raise TypeNotAllowed(f"Files of type {content_type} are not accepted; send {', '.join(ranges)}.")
        allowed = self.settings.extensions
        if allowed and not filename.lower().endswith(tuple("." + extension for extension in allowed)):
            raise TypeNotAllowed(f"The name of the file must end in .{', .'.join(allowed)}.")

    def check_size(self, size: int | None) -> None:
        """Refuse *size* bytes of files if they are too many, or have no room in the pool.

        :raises TooLarge, PoolFull: they are, or have none.
        """
        limit = self.max_size
        if limit is not None and size is not None and size > limit:
            raise TooLarge(f"At most {format_size(limit)} can be sent here.")
        self.check_space(size or 0)

    def check_space(self, wanted: int) -> int:
        """Refuse *wanted* more bytes if the pool would fall under its reserve; return what then still has room.

        :raises PoolFull: it would.
        """
        free = self.pool.free_space() if self.settings.min_free_space else None
        if free is None:
            return sys.maxsize
        room = free - self.settings.min_free_space - wanted
        if room < 0:
            raise PoolFull
        return room

    def first_status(self) -> UploadStatus:
        """Return the status of this upload before its first byte."""
        now = timestamp()
        return UploadStatus(
            state=State.STARTING,
            size=self.body.length,
            started=now,
            updated=now,
            buffered=self.body.buffered,
            owner=self.owner,
        )


class Receiver:
    """Takes the files and fields of one upload into one attempt."""

    def __init__(self, request: UploadRequest, attempt: Attempt, status: UploadStatus) -> None:
        self.status = status
        self._request = request
        self._attempt = attempt
        self._body = request.body
        self._max_size = request.max_size
        self._max_file_size = request.settings.max_file_size
        self._limit: int | None = None  # of the bytes in all, where the current file must end
        self._total = 0
        self._space_check = 0
        self._files: list[UploadedFile] = []
        self._fields: dict[str, list[str]] = {}
        self._current: tuple[str, str, str] = ("", "", "")
        self._size = 0
        self._writer: FileWriter | None = None
        self._write: Callable[[bytes], None] | None = None
        self._hash = hashlib.sha256()
        self._hashes = request.settings.checksum == "sha256"
        self._published = False
        self._next_publish = self._body.now + request.settings.progress_interval

    def begin_file(self, field: str, filename: str, content_type: str) -> None:
        """Begin the next file.

        :raises UploadError: the application does not let it in.
        """
        self._request.file_filter.check_file(field, filename, content_type)
        self._writer = self._attempt.create_file()
        self._write = self._writer.write
        self._current = (field, filename, content_type)
        self._size = 0
        of_this = self._total + self._max_file_size if self._max_file_size else None
        self._limit = min((limit for limit in (self._max_size, of_this) if limit is not None), default=None)
        if self._hashes:
            self._hash = hashlib.sha256()
        if not self._files:
            self.status = replace(self.status, state=State.UPLOADING, filename=filename, content_type=content_type)

    def write(self, data: bytes) -> None:
        """Take *data* into the current file.

        :raises TooLarge, PoolFull: a limit is passed.
        :raises OSError: the pool cannot store it.
        """
        self._size += len(data)
        self._total += len(data)
        if self._limit is not None and self._total > self._limit:
            self._refuse_size()
        if self._total > self._space_check:
            # Others store bytes meanwhile: the less room there is, the sooner we look again.
            room = self._request.check_space(len(data))
            self._space_check = self._total + min(_SPACE_CHECK, room // _UPLOADS_IN_STEP)
        assert self._write is not None
        if self._hashes:
            # In line, while the chunk is in the processor's cache.
            self._hash.update(data)
        self._write(data)

    def _refuse_size(self) -> None:
        if self._max_size is not None and self._total > self._max_size:
            raise TooLarge(f"At most {format_size(self._max_size)} can be sent here.")
        raise TooLarge(f"A file of at most {format_size(self._max_file_size)} can be sent here.")

    def end_file(self) -> None:
        """End the current file."""
        assert self._writer is not None
        self._writer.close()
        field, filename, content_type = self._current
        if self._size == 0 and not filename and field:
            # What browsers send for a file input in which nothing was chosen.
            self._attempt.discard_file()
            return
        self._files.append(
            UploadedFile(
                field=field,
                filename=filename,
                content_type=content_type,
                size=self._size,
                sha256=self._hash.hexdigest() if self._hashes else None,
            )
        )

    def add_field(self, name: str, value: str) -> None:
        """Take a text field.

        :raises UploadError: the application does not let it in.
        """
        self._request.file_filter.check_field(name)
        self._fields.setdefault(name, []).append(value)

    def publish_if_due(self) -> None:
        """Publish the progress, if by the time of the next call it would be older than it may be.

        :raises Superseded: the bucket is no longer this attempt's.
        """
        body = self._body
        if body.now + body.last_read_seconds >= self._next_publish or (
            not self._published and body.has_large_remainder
        ):
            self._published = True
            self._next_publish = body.now + self._request.settings.progress_interval
            self.status = replace(self.status, received=body.received, updated=timestamp())
            self._attempt.publish(self.status)

    def failed(self, error: UploadError) -> UploadStatus:
        """Return the status of this upload after *error*."""
        return replace(self.status, received=self._body.received).failed(error)

    def finish(self) -> UploadStatus:
        """Make the upload done, and return its status.

        :raises NoFile: no file came.
        :raises Superseded: the bucket is no longer this attempt's.
        """
        if not self._files:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        fields = {name: tuple(values) for name, values in self._fields.items()}
        status = with_expiry(self.status.done(tuple(self._files), fields), self._request.settings)
        self._attempt.finish(status)
        return status


def with_expiry(status: UploadStatus, settings: Settings) -> UploadStatus:
    """Return the *status* of a finished upload with the time at which it will be removed, if it will."""
    if not settings.expire_after or status.finished is None:
        return status
    return replace(status, expires=timestamp(seconds_of(status.finished) + settings.expire_after))
