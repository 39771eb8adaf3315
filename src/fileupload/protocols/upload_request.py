"""A request that brings an upload, and the policy that says what may come with it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from fileupload.errors import PoolFull, TooLarge, TypeNotAllowed
from fileupload.formatting import format_size
from fileupload.identifiers import Claims
from fileupload.pool.base import Pool
from fileupload.settings import Settings, least
from fileupload.status import State, UploadStatus, timestamp
from fileupload.wsgi.headers import is_in_ranges
from fileupload.wsgi.request_body import BodyReader


class FileFilter:
    """Hook that accepts or rejects files and fields. The default accepts everything.

    An application's filter raises an UploadError with its own sentence to reject one.
    """

    def begin(self, request: UploadRequest) -> None:
        """Record that an attempt begins: called when the first byte has come, before anything is stored."""

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        """Accept or reject a file when its headers have come, before its bytes."""

    def check_field(self, name: str) -> None:
        """Accept or reject a text field."""


@dataclass(frozen=True, kw_only=True)
class UploadPolicy:
    """What may come in an upload: the limits of the settings, those of the identifier, and the application's filter.

    :ivar pool: where the bytes are stored, for its free space.
    :ivar max_size: the most bytes of all files together, or None.
    :ivar max_file_size: the most bytes of one file, or None.
    :ivar type_ranges: each a tuple of media ranges such as ``image/*``; a file's type must be in one of each tuple.
    :ivar extensions: the only ones that a file's name may have; empty for any.
    :ivar min_free_space: bytes that must stay free in the pool, or None.
    """

    pool: Pool
    max_size: int | None = None
    max_file_size: int | None = None
    type_ranges: tuple[tuple[str, ...], ...] = ()
    extensions: tuple[str, ...] = ()
    min_free_space: int | None = None
    file_filter: FileFilter = dataclasses.field(default_factory=FileFilter)

    @classmethod
    def of(cls, pool: Pool, settings: Settings, claims: Claims, file_filter: FileFilter) -> UploadPolicy:
        """Return the policy for an upload under an identifier with these *claims*."""
        return cls(
            pool=pool,
            max_size=least(settings.max_size or None, claims.max_size),
            max_file_size=settings.max_file_size or None,
            type_ranges=tuple(ranges for ranges in (settings.content_types, claims.content_types) if ranges),
            extensions=settings.extensions,
            min_free_space=settings.min_free_space or None,
            file_filter=file_filter,
        )

    def check_type(self, content_type: str, filename: str) -> None:
        """Accept or reject a file by the type and the name that the client gives it.

        :raises TypeNotAllowed: its type or its extension is not among the allowed ones.
        """
        for ranges in self.type_ranges:
            if not is_in_ranges(content_type, ranges):
                raise TypeNotAllowed(f"Files of type {content_type} are not accepted; send {', '.join(ranges)}.")
        if self.extensions and not filename.lower().endswith(tuple("." + extension for extension in self.extensions)):
            raise TypeNotAllowed(f"The name of the file must end in .{', .'.join(self.extensions)}.")

    def check_size(self, size: int | None) -> None:
        """Accept or reject *size* bytes of files.

        :param size: None where the client does not declare it.
        :raises TooLarge: they are more than the limit.
        :raises PoolFull: the pool has no room for them.
        """
        if self.max_size is not None and size is not None and size > self.max_size:
            raise TooLarge(f"At most {format_size(self.max_size)} can be sent here.")
        self.check_space(size or 0)

    def check_space(self, wanted: int) -> int:
        """Return the bytes that still have room in the pool after *wanted* more.

        :raises PoolFull: less than ``min_free_space`` would stay free.
        """
        free = self.pool.free_space() if self.min_free_space is not None else None
        if free is None or self.min_free_space is None:
            return sys.maxsize
        room = free - self.min_free_space - wanted
        if room < 0:
            raise PoolFull
        return room

    def check_total(self, total: int, of_files_before: int) -> None:
        """Reject an upload whose files have *total* bytes by now.

        :param of_files_before: the bytes of the files before the current one.
        :raises TooLarge: they, or those of the current file, are more than the limit.
        """
        if self.max_size is not None and total > self.max_size:
            raise TooLarge(f"At most {format_size(self.max_size)} can be sent here.")
        if self.max_file_size is not None and total - of_files_before > self.max_file_size:
            raise TooLarge(f"A file of at most {format_size(self.max_file_size)} can be sent here.")

    def limit_from(self, of_files_before: int) -> int | None:
        """Return the total at which the next file must end, or None; see :meth:`check_total`."""
        of_this = None if self.max_file_size is None else of_files_before + self.max_file_size
        return least(self.max_size, of_this)


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
    policy: UploadPolicy
    owner: str = ""

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
