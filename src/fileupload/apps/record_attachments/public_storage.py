"""Public storage of the files of records, from which another server delivers them: a folder, or an object store."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import partial
from typing import BinaryIO

from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import PoolStorage, Storage, StoredFile, holds_file
from fileupload.errors import FileMissing, SettingError, lacks_descriptors
from fileupload.identifiers import new_id
from fileupload.pool.base import Bucket, Pool
from fileupload.pool.fork_safety import ForkSafeExecutor
from fileupload.pool.local_files import make_directories, set_mode
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE, ObjectWriter
from fileupload.pool.object.reader import open_object
from fileupload.pool.object.store import CopiesToStore, ObjectStore
from fileupload.pool.s3.store import open_store
from fileupload.wsgi.headers import content_disposition

_CHUNK = 1 << 20  # bytes
_PART_UPLOAD_THREADS = 16  # parts that a process sends at the same time


class FolderStorage(Storage):
    """Stores files in a folder that a web server delivers; they are readable for all users."""

    needs_bucket = False

    def __init__(self, pool: Pool, base_path: str) -> None:
        """Store files below *base_path*, which is created if needed.

        :raises SettingError: the folder cannot be used.
        """
        super().__init__(pool)
        try:
            make_directories(base_path, 0o755)
        except OSError as error:
            raise SettingError(f"setting 'base_path' cannot be {base_path!r}: {error.strerror}") from None
        self._base = os.path.realpath(base_path)
        if not os.access(self._base, os.R_OK | os.W_OK | os.X_OK):
            raise SettingError(f"setting 'base_path' cannot be {base_path!r}: this process may not write there")

    def is_taken(self, location: str) -> bool:
        """Return whether any file is at this location."""
        return os.path.lexists(self._path(location))

    def size_of(self, location: str) -> int | None:
        """Return the size of a regular file in the folder; symbolic links are not followed."""
        path = self._path(location)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        regular = stat.S_ISREG(found.st_mode) and os.path.realpath(path) == path
        return found.st_size if regular else None

    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Move the file out of its bucket."""
        path = self._path(file.location)
        while True:
            try:
                make_directories(os.path.dirname(path), 0o755)
                bucket.move_to(path)
            except FileMissing:
                raise
            except FileNotFoundError:  # race: another request has removed the folder, which was still empty
                continue
            break
        set_mode(path, 0o644)

    def open(self, file: StoredFile) -> BinaryIO:
        """Open the file in the folder."""
        try:
            return open(os.open(self._path(file.location), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
        except OSError as error:
            if lacks_descriptors(error):
                raise
            raise FileMissing from None

    def remove_bytes(self, file: StoredFile) -> None:
        """Remove the file, the folders that are empty then, and the bucket with its status."""
        path = self._path(file.location)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with contextlib.suppress(OSError):  # not empty
            while (path := os.path.dirname(path)) != self._base:
                os.rmdir(path)
        # This storage never marks buckets as kept: a kept bucket belongs to another application by now.
        self.pool.clear(file.bucket_id, unless_kept=True, condition=partial(holds_file, file))

    def ping(self) -> None:
        """Write a file, and remove it."""
        path = os.path.join(self._base, f".heartbeat-{new_id()}")
        try:
            with open(path, "xb") as file:
                file.write(b"heartbeat")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _path(self, location: str) -> str:
        return os.path.join(self._base, *location.split("/"))


class ObjectStorage(Storage):
    """Stores files as objects in an object store, which delivers them."""

    needs_bucket = False

    def __init__(self, pool: Pool, store: ObjectStore, prefix: str, acl: str = "", cache_control: str = "") -> None:
        """Store objects with keys that begin with *prefix*.

        :param acl: the canned ACL of each object, such as ``public-read``; empty for the store's default.
        :param cache_control: the header Cache-Control of each object; empty: none.
        """
        super().__init__(pool)
        self._store = store
        self._prefix = prefix
        self._acl = acl
        self._cache_control = cache_control
        self._part_executor = ForkSafeExecutor(_PART_UPLOAD_THREADS, "fileupload-public")
        self.address = store.public_url(prefix + "x").removesuffix("x")

    def is_taken(self, location: str) -> bool:
        """Return whether any object is at this location."""
        return self.size_of(location) is not None

    def size_of(self, location: str) -> int | None:
        """Return the size of the object."""
        try:
            return self._store.stat(self._prefix + location).size
        except FileNotFoundError:
            return None

    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Copy the file inside of the store if the pool is in the same store, otherwise upload it."""
        disposition = content_disposition(file.filename, inline=file.is_shown)
        store = self._store.with_object_headers(
            file.mimetype, disposition=disposition, acl=self._acl, cache_control=self._cache_control
        )
        key = self._prefix + file.location
        if not (isinstance(bucket, CopiesToStore) and bucket.copy_to(store, key)):
            self._send(file, bucket, ObjectWriter(store, self._part_executor, key, expected=file.size))

    @staticmethod
    def _send(file: StoredFile, bucket: Bucket, writer: ObjectWriter) -> None:
        try:
            with bucket.open() as source:
                while data := source.read(_CHUNK):
                    writer.write(data)
            if writer.taken != file.size:
                raise OSError(errno.EIO, "the file in the pool is incomplete", file.location)
            writer.close()
        except BaseException:
            writer.abandon()
            raise

    def open(self, file: StoredFile) -> BinaryIO:
        """Open the object."""
        try:
            return open_object(self._store, self._prefix + file.location, file.size)
        except FileNotFoundError:
            raise FileMissing from None

    def remove_bytes(self, file: StoredFile) -> None:
        """Remove the object, its unfinished multipart uploads, and the bucket of its upload."""
        key = self._prefix + file.location
        if file.size >= DEFAULT_PART_SIZE:
            for name, upload, _ in list(self._store.list_multipart_uploads(key)):
                if name == key:
                    self._store.abort_multipart_upload(key, upload)
        self._store.delete([key])
        # This storage never marks buckets as kept: a kept bucket belongs to another application by now.
        self.pool.clear(file.bucket_id, unless_kept=True, condition=partial(holds_file, file))

    def ping(self) -> None:
        """Write an object, and remove it."""
        key = f"{self._prefix}.heartbeat-{new_id()}"
        try:
            self._store.with_object_headers("text/plain", acl=self._acl).put(key, b"heartbeat")
        finally:
            self._store.delete([key])


def make_storage(pool: Pool, settings: RecordSettings) -> Storage:
    """Return the storage at ``base_path``, or, if that is empty, the one in *pool*.

    :raises SettingError: the storage cannot be used.
    """
    if not settings.base_path:
        return PoolStorage(pool)
    if not settings.is_in_store:
        return FolderStorage(pool, settings.base_path)
    store, prefix = open_store(settings, settings.base_path)
    store.with_object_headers("text/plain", acl=settings.base_acl).check_writing(prefix, "base_path")
    return ObjectStorage(pool, store, prefix, settings.base_acl, settings.cache_control)
