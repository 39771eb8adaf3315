"""A bucket of a directory pool, as the app reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from fileupload.errors import FileMissing, lacks_descriptors
from fileupload.pool.base import Bucket, Condition
from fileupload.pool.directory import filesystem as fs
from fileupload.status import State, UploadStatus

if TYPE_CHECKING:
    from fileupload.pool.directory.pool import DirectoryPool


class DirectoryBucket(Bucket):
    """A bucket that is a folder."""

    def __init__(self, pool: DirectoryPool, bucket_id: str) -> None:
        self._pool = pool
        self.id = bucket_id

    def get_status(self) -> UploadStatus:
        """Return what is known of the upload now; unknown if it was cleared."""
        status = self._pool.stored_status(self.id)
        if status.state is State.UNKNOWN:
            status = self._pool.refusals.read(self.id) or status
        return replace(status, identifier=self.identifier)

    def get_filename(self, index: int = 0) -> str | None:
        """Return the path of a file of a finished upload, or None: not finished, or moved away."""
        try:
            with self._finished(index) as (attempt, fd), fs.opened(fs.open_file(str(index), fd)):
                return self._pool.path_of(self.id, attempt, str(index))
        except OSError as error:  # FileMissing is one
            if lacks_descriptors(error):
                raise
            return None

    def open(self, index: int = 0) -> BinaryIO:
        """Return a file of a finished upload, opened for reading bytes."""
        with self._finished(index) as (_, fd):
            try:
                return open(fs.open_file(str(index), fd), "rb")
            except OSError as error:
                raise _missing(error) from None

    def download_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*."""
        with self.open(index) as source:
            fs.write_whole(source, os.fspath(path), durable=self._pool.durable)

    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Move a file of a finished upload to *path*, where a file of that name is replaced."""
        with self._finished(index) as (_, fd):
            try:
                os.close(fs.open_file(str(index), fd))
            except OSError as error:
                raise _missing(error) from None
            fs.move_file(str(index), fd, os.fspath(path), durable=self._pool.durable)

    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload; False if they were not there any more."""
        try:
            # The folder is that of the attempt of which the condition holds, whatever is in the bucket by then.
            with self._finished(index, condition) as (_, fd):
                return fs.remove(str(index), fd)
        except FileMissing:
            return False

    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge``, until it is cleared."""
        try:
            with self._pool.directories.locked(self.id) as fd:
                status = self._pool.read_status(fd)
                if status.state is not State.DONE or not (condition is None or condition(status)):
                    raise FileMissing
                self._pool.write_status(fd, replace(status, kept=True), durable=self._pool.durable)
                if self._pool.durable:
                    os.fsync(fd)
        except FileNotFoundError:
            raise FileMissing from None

    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none any more."""
        return self._pool.clear(self.id)

    @contextmanager
    def _finished(self, index: int, condition: Condition | None = None) -> Iterator[tuple[str, int]]:
        """Give the name and a descriptor of the folder that holds the file of that *index*.

        :raises FileMissing: there is no such file, or *condition* does not hold of the upload.
        """
        try:
            with fs.opened(self._pool.directories.open(self.id)) as bucket:
                status = self._pool.read_status(bucket)
                if status.state is not State.DONE or not 0 <= index < len(status.files):
                    raise FileMissing
                if condition is not None and not condition(status):
                    raise FileMissing
                attempt = fs.open_directory(status.attempt, bucket)
        except FileMissing:
            raise
        except OSError as error:
            raise _missing(error) from None
        with fs.opened(attempt):
            yield status.attempt, attempt


def _missing(error: OSError) -> OSError:
    """Return what *error* says of a file: that it is missing, unless no descriptor is left to look for it."""
    return error if lacks_descriptors(error) else FileMissing()
