"""A request that holds an upload, the policy with its limits, and the application's filter of files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from fileupload.errors import PoolFull, TooLarge, TypeNotAllowed
from fileupload.formatting import format_size
from fileupload.identifiers import Claims
from fileupload.pool.base import Pool
from fileupload.settings import Settings, least
from fileupload.status import State, UploadStatus, timestamp
from fileupload.wsgi.headers import is_in_ranges
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BodyReader


class FileFilter:
    """Hook that accepts or rejects files and fields. The default accepts everything.

    To reject one, a subclass raises an :class:`~fileupload.errors.UploadError` with a sentence for the client::

        class Images(FileFilter):
            def check_file(self, field, filename, content_type):
                if not content_type.startswith("image/"):
                    raise TypeNotAllowed("Send an image.")
    """

    def begin(self, request: UploadRequest) -> None:
        """Note that an attempt begins: called after the first byte has arrived, before anything is stored.

        :raises UploadError: the upload is rejected.
        """

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        """Accept or reject a file: called after its headers have arrived, before its content.

        :raises UploadError: the file is rejected.
        """

    def check_field(self, name: str) -> None:
        """Accept or reject a text field.

        :raises UploadError: the field is rejected.
        """

    def name_files(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names under which the files of a complete upload are kept, in the order of the form."""
        return names


@dataclass(frozen=True, kw_only=True)
class UploadPolicy:
    """The limits of an upload: those of the settings, those of the identifier, and the application's filter.

    :ivar pool: the pool that stores the files, for its free space.
    :ivar max_size: the maximum size of all files together, in bytes, or None.
    :ivar max_file_size: the maximum size of one file, in bytes, or None.
    :ivar type_ranges: tuples of media ranges such as ``image/*``; a file's type must match one range of every tuple.
    :ivar extensions: the allowed filename extensions; empty for any.
    :ivar min_free_space: bytes that must stay free in the pool, or None.
    :ivar require_file: whether a form without a file is refused.
    """

    pool: Pool
    max_size: int | None = None
    max_file_size: int | None = None
    type_ranges: tuple[tuple[str, ...], ...] = ()
    extensions: tuple[str, ...] = ()
    min_free_space: int | None = None
    require_file: bool = True
    file_filter: FileFilter = dataclasses.field(default_factory=FileFilter)

    @classmethod
    def of(cls, pool: Pool, settings: Settings, claims: Claims, file_filter: FileFilter) -> UploadPolicy:
        """Return the policy for an upload under an identifier with these *claims*."""
        return cls(
            pool=pool,
            max_size=least(settings.max_size, claims.max_size),
            max_file_size=settings.max_file_size,
            type_ranges=tuple(ranges for ranges in (settings.content_types, claims.content_types) if ranges),
            extensions=settings.extensions,
            min_free_space=settings.min_free_space,
            require_file=bool(settings.require_file),
            file_filter=file_filter,
        )

    def check_type(self, content_type: str, filename: str) -> None:
        """Check the type and the name that the client declares for a file.

        :raises TypeNotAllowed: the type or the extension is not allowed.
        """
        for ranges in self.type_ranges:
            if not is_in_ranges(content_type, ranges):
                raise TypeNotAllowed(f"Files of type {content_type} are not accepted; send {', '.join(ranges)}.")
        if self.extensions and not filename.lower().endswith(tuple("." + extension for extension in self.extensions)):
            raise TypeNotAllowed(f"The name of the file must end in .{', .'.join(self.extensions)}.")

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        """Check the type and the name of a file, and call the application's filter.

        :raises UploadError: the file is rejected.
        """
        self.check_type(content_type, filename)
        self.file_filter.check_file(field, filename, content_type)

    def check_size(self, size: int | None) -> None:
        """Check the declared size of all files together.

        :param size: in bytes, or None if the client does not declare it.
        :raises TooLarge: the size is more than ``max_size``.
        :raises PoolFull: the pool has no space for them.
        """
        self._check_max_size(size or 0)
        self.check_space(size or 0)

    def check_file_size(self, size: int | None) -> None:
        """Check the declared size of an upload of one file.

        :param size: in bytes, or None if the client does not declare it.
        :raises TooLarge: the size is more than ``max_size`` or ``max_file_size``.
        :raises PoolFull: the pool has no space for the file.
        """
        self.check_total(size or 0, 0)
        self.check_space(size or 0)

    def _check_max_size(self, total: int) -> None:
        if self.max_size is not None and total > self.max_size:
            raise TooLarge(f"At most {format_size(self.max_size)} can be sent here.")

    def check_space(self, wanted: int) -> int:
        """Return how many bytes can still be stored after *wanted* more.

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
        """Check the size of the files so far.

        :param total: the bytes of all files, with the current one.
        :param of_files_before: the bytes of the files before the current one.
        :raises TooLarge: *total* is more than ``max_size``, or the current file more than ``max_file_size``.
        """
        self._check_max_size(total)
        if self.max_file_size is not None and total - of_files_before > self.max_file_size:
            raise TooLarge(f"A file of at most {format_size(self.max_file_size)} can be sent here.")

    def limit_from(self, of_files_before: int) -> int | None:
        """Return the largest total that :meth:`check_total` accepts during the next file, or None for any."""
        of_this = None if self.max_file_size is None else of_files_before + self.max_file_size
        return least(self.max_size, of_this)


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """A request that holds an upload, with everything that a protocol needs to receive it.

    :ivar filename: the name of the file, if it is not the one in the request.
    :ivar owner: the application that begins the upload, recorded in its status; empty for the middleware.
    """

    request: Request
    identifier: str
    claims: Claims
    pool: Pool
    settings: Settings
    body: BodyReader
    policy: UploadPolicy
    filename: str = ""
    owner: str = ""

    @property
    def environ(self) -> WSGIEnvironment:
        """The environ of the request."""
        return self.request.environ

    @property
    def query(self) -> dict[str, str]:
        """The fields of the request's query."""
        return self.request.query

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
