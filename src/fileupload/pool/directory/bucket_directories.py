"""The folders of the buckets in a directory pool, and the lock in each.

A lock is a file in the folder that it is for. It may so be cleared away together with the folder while somebody waits
for it, and be made anew in another folder of the same name. Who gets a lock therefore looks whether it is still the one
at its name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from fileupload.identifiers import is_id
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.descriptor_limits import retried

LOCK = "lock"


class BucketDirectories:
    """Where the buckets are, and who may change them."""

    def __init__(self, directory: str) -> None:
        """Keep the buckets in the pool's *directory*, which is there."""
        self._directory = directory

    def path_of(self, bucket_id: str, *names: str) -> str:
        """Return the path of a bucket, or of something in it."""
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        return os.path.join(self._directory, bucket_id[:2], bucket_id, *names)

    def open(self, bucket_id: str, *, create: bool = False) -> int:
        """Return a descriptor of a bucket's folder.

        :raises OSError: it is not there, or a link stands in its place.
        """
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        while True:
            try:
                return self._open(bucket_id, create=create)
            except FileNotFoundError:  # where it is to be made, a folder above it was removed on the way
                if not create:
                    raise

    def _open(self, bucket_id: str, *, create: bool) -> int:
        shard_name = bucket_id[:2]
        with fs.opened(fs.open_root(self._directory, create=create)) as root:
            if create:
                fs.ensure_directory(shard_name, root)
            with fs.opened(fs.open_directory(shard_name, root)) as shard:
                if create:
                    fs.ensure_directory(bucket_id, shard)
                return fs.open_directory(bucket_id, shard)

    @contextmanager
    def locked(self, bucket_id: str, *, create: bool = False) -> Iterator[int]:
        """Hold the lock of a bucket; gives a descriptor of its folder.

        :raises FileNotFoundError: there is no such bucket, and *create* is false.
        """
        while True:
            with ExitStack() as held:
                try:
                    fd = held.enter_context(fs.opened(self.open(bucket_id, create=create)))
                    lock = self._lock(fd, held)
                except OSError:
                    if create:  # a folder that was made, and could then not be opened or locked
                        with suppress(OSError):  # not empty
                            os.rmdir(self.path_of(bucket_id))
                    raise
                if lock is None:
                    continue
                may_be_bare = not create
                try:
                    yield fd
                except BaseException:
                    may_be_bare = True
                    raise
                finally:
                    if may_be_bare:
                        with suppress(OSError):  # what was to be done here is done
                            retried(partial(self.remove_if_empty, bucket_id, fd, lock))
                return

    @contextmanager
    def lock_open_directory(self, fd: int) -> Iterator[int]:
        """Hold the lock of the bucket whose folder was opened as *fd*; gives a descriptor of the lock.

        :raises FileNotFoundError: that bucket was cleared; one of the same id may have been made since.
        """
        with ExitStack() as held:
            lock = self._lock(fd, held)
            if lock is None:
                raise FileNotFoundError(errno.ENOENT, "the bucket was cleared")
            yield lock

    def remove(self, bucket_id: str, fd: int) -> None:
        """Remove a bucket's folder, opened as *fd*, in which only the lock is left; only under that lock."""
        # Whoever waits for this lock sees that it has gone from its name, and begins anew.
        fs.remove(LOCK, fd)
        with suppress(OSError):
            os.rmdir(self.path_of(bucket_id))

    def remove_if_empty(self, bucket_id: str, fd: int, lock: int) -> None:
        """Remove a bucket's folder in which there is nothing but the *lock* that is held.

        Who asks for the lock of a bucket that is being cleared may make it in a folder that is empty already.
        """
        # Once it was cleared, a lock of that name is another's.
        if os.listdir(fd) == [LOCK] and self._is_current_inode(fd, lock):
            self.remove(bucket_id, fd)

    def _lock(self, fd: int, held: ExitStack) -> int | None:
        """Take the lock of the bucket whose folder is *fd*; None if it was cleared on the way."""
        try:
            lock = held.enter_context(fs.opened(fs.open_for_locking(LOCK, fd, create=True)))
        except FileNotFoundError:
            return None
        fs.lock(lock)
        # Who cleared the bucket took the lock's name away: what we hold then is the lock of nothing.
        return lock if self._is_current_inode(fd, lock) else None

    @staticmethod
    def _is_current_inode(fd: int, lock: int) -> bool:
        try:
            return os.path.samestat(os.fstat(lock), os.stat(LOCK, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return False
