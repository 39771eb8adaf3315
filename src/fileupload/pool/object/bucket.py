"""A bucket of an object pool, as the app reads it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import BinaryIO

from fileupload.errors import FileMissing
from fileupload.pool.base import Bucket, Condition
from fileupload.pool.local_files import write_complete_file
from fileupload.pool.object.bucket_store import ObjectBucketStore
from fileupload.pool.object.direct import with_sent_parts
from fileupload.pool.object.reader import open_object
from fileupload.pool.object.snapshot import idle_time
from fileupload.pool.object.store import CopiesToStore, ObjectStore
from fileupload.status import State, UploadedFile, UploadStatus


class ObjectBucket(Bucket, CopiesToStore):
    """A bucket whose files are objects."""

    def __init__(self, bucket: ObjectBucketStore) -> None:
        self.id = bucket.id
        self._bucket = bucket
        self._store = bucket.store

    def get_status(self) -> UploadStatus:
        """Return the current status of the upload."""
        status = with_sent_parts(self._bucket, self._bucket.status())
        return replace(status, identifier=self.identifier)

    def idle(self, *, correct: bool = False) -> float:
        """Return the seconds since something happened in the bucket."""
        snapshot = self._bucket.snapshot()
        if not snapshot.keys:
            return math.inf
        return idle_time(with_sent_parts(self._bucket, self._bucket.status_of(snapshot)), snapshot)

    def get_filename(self, index: int = 0) -> str | None:
        """Return None: a file in an object store has no path. Use ``open``, ``download_to`` or ``url``."""
        return None

    def open(self, index: int = 0) -> BinaryIO:
        """Return a file of a finished upload, read from the store on demand; see ``reader``."""
        key, file = self._file(index)
        try:
            return open_object(self._store, key, file.size)
        except FileNotFoundError:
            raise FileMissing from None

    def url(self, index: int = 0, *, expires: float = 3600.0) -> str:
        """Return a presigned URL with which anyone can read a file for *expires* seconds."""
        key, file = self._file(index)
        return self._store.presigned_get_url(key, expires, filename=file.filename, content_type=file.content_type)

    def download_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, which gets its name once it is complete."""
        with self.open(index) as source:
            write_complete_file(source, os.fspath(path), durable=True)

    def copy_to(self, store: ObjectStore, key: str, index: int = 0) -> bool:
        """Let *store* copy a file of a finished upload, if the pool is in the same store."""
        source, _ = self._file(index)
        try:
            return store.copy_from(self._store, source, key)
        except FileNotFoundError:
            raise FileMissing from None

    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, and remove the object."""
        self.download_to(path, index)
        self.remove_file(index)

    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload; False if nothing was removed."""
        try:
            key, _ = self._file(index, condition)
        except FileMissing:
            return False
        exists = any(each.key == key for each in self._store.list(key))
        self._store.delete([key])
        return exists

    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge`` until it is cleared."""
        status = self._bucket.status()
        if status.state is not State.DONE or not (condition is None or condition(status)):
            raise FileMissing
        self._bucket.keep(status.attempt)

    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none."""
        return self._bucket.clear()

    def _file(self, index: int, condition: Condition | None = None) -> tuple[str, UploadedFile]:
        """Return the key of a file of a finished upload, and the description of the file.

        :raises FileMissing: there is no such file, or *condition* does not hold of the upload.
        """
        status = self._bucket.status()
        if status.state is not State.DONE or not 0 <= index < len(status.files):
            raise FileMissing
        if condition is not None and not condition(status):
            raise FileMissing
        return self._bucket.file_key(status.attempt, index), status.files[index]
