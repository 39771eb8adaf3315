"""A bucket of a directory pool, as the app reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from fileupload.errors import FileMissing, lacks_descriptors
from fileupload.pool.base import Bucket, Condition
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.bucket_store import DirectoryBucketStore
from fileupload.pool.local_files import sync_names, write_complete_file
from fileupload.status import State, UploadStatus


class DirectoryBucket(Bucket):
    """A bucket whose files are in a directory."""

    def __init__(self, bucket: DirectoryBucketStore) -> None:
        self.id = bucket.id
        self._bucket = bucket

    def get_status(self) -> UploadStatus:
        """Return the current status of the upload."""
        return replace(self._bucket.status(), identifier=self.identifier)

    def get_filename(self, index: int = 0) -> str | None:
        """Return the path of a file of a finished upload; None if it is not finished, or the file was moved away."""
        try:
            with self._finished(index) as (attempt, fd), fs.opened(fs.open_file(str(index), fd)):
                return self._bucket.path_of(attempt, str(index))
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
            write_complete_file(source, os.fspath(path), durable=self._bucket.durable)

    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Move a file of a finished upload to *path*, replacing a file of that name."""
        with self._finished(index) as (_, fd):
            try:
                os.close(fs.open_file(str(index), fd))
            except OSError as error:
                raise _missing(error) from None
            fs.move_file(str(index), fd, os.fspath(path), durable=self._bucket.durable)

    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload; False if they were removed before."""
        try:
            # The descriptor is of the attempt for which the condition held, even if the bucket has a newer one by now.
            with self._finished(index, condition) as (_, fd):
                return fs.remove(str(index), fd)
        except FileMissing:
            return False

    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge`` until it is cleared."""
        try:
            with self._bucket.locked() as fd:
                status = self._bucket.read_status(fd)
                if status.state is not State.DONE or not (condition is None or condition(status)):
                    raise FileMissing
                self._bucket.write_status(fd, replace(status, kept=True), durable=self._bucket.durable)
                if self._bucket.durable:
                    sync_names(fd)
        except FileNotFoundError:
            raise FileMissing from None

    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none."""
        return self._bucket.clear(lambda _: True)

    def idle(self, *, correct: bool = False) -> float:
        """Return the seconds since something happened in the bucket."""
        try:
            return self._bucket.idle(self._bucket.stored_status(), correct=correct)
        except FileNotFoundError:
            return math.inf

    @contextmanager
    def _finished(self, index: int, condition: Condition | None = None) -> Iterator[tuple[str, int]]:
        """Open the directory that holds the file *index* of a finished upload; gives its name and a descriptor.

        :raises FileMissing: there is no such file, or *condition* does not hold of the upload.
        """
        try:
            with fs.opened(self._bucket.open()) as bucket:
                status = self._bucket.read_status(bucket)
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
    """Return the error to raise for a file that could not be opened: FileMissing, unless no descriptor was left."""
    return error if lacks_descriptors(error) else FileMissing()
