"""A bucket of an object pool, as the app reads it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from fileupload.errors import FileMissing
from fileupload.pool.base import Bucket, Condition
from fileupload.pool.directory.filesystem import write_whole
from fileupload.pool.object.reader import open_object
from fileupload.pool.object.snapshot import data_prefix_of
from fileupload.pool.object.store import ObjectStore
from fileupload.status import State, UploadedFile, UploadStatus

if TYPE_CHECKING:
    from fileupload.pool.object.pool import ObjectPool


class ObjectBucket(Bucket):
    """A bucket that is a set of keys."""

    def __init__(self, pool: ObjectPool, bucket_id: str) -> None:
        self._pool = pool
        self.id = bucket_id

    def get_status(self) -> UploadStatus:
        """Return what is known of the upload now; unknown if it was cleared."""
        return replace(self._pool.status(self.id), identifier=self.identifier)

    def get_filename(self, index: int = 0) -> str | None:
        """Return None: there is no path. Use ``open``, ``download_to`` or ``url``."""
        return None

    def open(self, index: int = 0) -> BinaryIO:
        """Return a file of a finished upload, read from the store as it is read here; seeking asks anew."""
        key, file = self._file(index)
        try:
            return open_object(self._pool.store, key, file.size)
        except FileNotFoundError:
            raise FileMissing from None

    def url(self, index: int = 0, *, expires: float = 3600.0) -> str:
        """Return an address under which anyone can read a file for *expires* seconds."""
        key, file = self._file(index)
        return self._pool.store.presigned_get_url(key, expires, filename=file.filename, content_type=file.content_type)

    def download_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, where it appears when it is whole."""
        with self.open(index) as source:
            write_whole(source, os.fspath(path), durable=True)

    def copy_to(self, store: ObjectStore, key: str, index: int = 0) -> bool:
        """Let *store* copy a file of a finished upload, if the pool is in it."""
        source, _ = self._file(index)
        try:
            return store.copy_from(self._pool.store, source, key)
        except FileNotFoundError:
            raise FileMissing from None

    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, and remove it here."""
        self.download_to(path, index)
        self.remove_file(index)

    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload; False if they were not there any more."""
        try:
            key, _ = self._file(index, condition)
        except FileMissing:
            return False
        there = any(each.key == key for each in self._pool.store.list(key))
        self._pool.store.delete([key])
        return there

    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge``, until it is cleared."""
        status = self._pool.status(self.id)
        if status.state is not State.DONE or not (condition is None or condition(status)):
            raise FileMissing
        self._pool.put_kept(self.id, status.attempt)

    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none any more."""
        return self._pool.clear(self.id)

    def _file(self, index: int, condition: Condition | None = None) -> tuple[str, UploadedFile]:
        """Return the key of a file, and what is known of it.

        :raises FileMissing: there is none, or *condition* does not hold of the upload.
        """
        status = self._pool.status(self.id)
        if status.state is not State.DONE or not 0 <= index < len(status.files):
            raise FileMissing
        if condition is not None and not condition(status):
            raise FileMissing
        return self._pool.key(self.id, "f", data_prefix_of(status.attempt), str(index)), status.files[index]
