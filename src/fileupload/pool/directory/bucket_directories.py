"""The directories of the buckets in a directory pool, and the lock file in each.

The lock file is in the directory that it protects, so a clear removes it with the rest. A process that waits for the
lock meanwhile would then hold the lock of a file without a name, while a new bucket of the same id has a lock file of
its own. Therefore each process that gets a lock compares the locked inode with the one that has the name now, and
starts again if they differ.
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
    """Finds, opens, locks and removes the directories of buckets.

    :ivar root: path of the pool's directory, which exists.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._left: set[str] = (
            set()
        )  # ids of buckets whose directories could not be removed while their locks were open

    def path_of(self, bucket_id: str, *names: str) -> str:
        """Return the path of a bucket, or of something in it."""
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        return os.path.join(self.root, bucket_id[:2], bucket_id, *names)

    def open(self, bucket_id: str, *, create: bool = False) -> int:
        """Return a descriptor of a bucket's directory.

        :raises OSError: it does not exist, or a symbolic link is in its place.
        """
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        while True:
            try:
                return self._open(bucket_id, create=create)
            except FileNotFoundError:  # with create: another process has just removed a directory above it
                if not create:
                    raise

    def _open(self, bucket_id: str, *, create: bool) -> int:
        shard_name = bucket_id[:2]
        with fs.opened(fs.open_root(self.root, create=create)) as root:
            if create:
                fs.ensure_directory(shard_name, root)
            with fs.opened(fs.open_directory(shard_name, root)) as shard:
                if create:
                    fs.ensure_directory(bucket_id, shard)
                return fs.open_directory(bucket_id, shard)

    @contextmanager
    def locked(self, bucket_id: str, *, create: bool = False) -> Iterator[int]:
        """Hold the lock of a bucket; gives a descriptor of its directory.

        :raises FileNotFoundError: the bucket does not exist, and *create* is false.
        """
        while True:
            with ExitStack() as held:
                try:
                    fd = held.enter_context(fs.opened(self.open(bucket_id, create=create)))
                    lock = self._lock(fd, held)
                except OSError:
                    if create:  # the directory was made, and could then not be opened or locked
                        with suppress(OSError):  # not empty
                            os.rmdir(self.path_of(bucket_id))
                    raise
                if lock is None:
                    continue
                may_be_empty = not create
                try:
                    yield fd
                except BaseException:
                    may_be_empty = True
                    raise
                finally:
                    if may_be_empty:
                        with suppress(OSError):  # the caller's work is done; the next clear tries again
                            retried(partial(self.remove_if_empty, bucket_id, fd, lock))
                    held.close()
                    self._remove_left(bucket_id)
                return

    @contextmanager
    def lock_open_directory(self, bucket_id: str, fd: int) -> Iterator[int]:
        """Hold the lock of a bucket whose directory was opened as *fd*; gives a descriptor of the lock.

        :raises FileNotFoundError: that bucket was cleared; a new one of the same id may exist.
        """
        with ExitStack() as held:
            lock = self._lock(fd, held)
            if lock is None:
                raise FileNotFoundError(errno.ENOENT, "the bucket was cleared")
            try:
                yield lock
            finally:
                held.close()
                self._remove_left(bucket_id)

    def remove(self, bucket_id: str, fd: int) -> None:
        """Remove a bucket's directory, opened as *fd*, which holds only the lock. The caller holds that lock."""
        # A process that waits for this lock then sees that the file has lost its name, and starts again.
        fs.remove(LOCK, fd)
        try:
            os.rmdir(self.path_of(bucket_id))
        except OSError:
            # On NFS, and on many file systems in user space, a removed file has a hidden name until it is closed.
            self._left.add(bucket_id)

    def _remove_left(self, bucket_id: str) -> None:
        """Remove the directory of a bucket that :meth:`remove` has emptied, now that its lock is closed."""
        if bucket_id in self._left:
            self._left.discard(bucket_id)
            with suppress(OSError):  # another process has begun a new bucket of this id
                os.rmdir(self.path_of(bucket_id))

    def remove_if_empty(self, bucket_id: str, fd: int, lock: int) -> None:
        """Remove a bucket's directory if it holds nothing but the *lock*, which the caller holds.

        A process that asks for the lock of a bucket that is being cleared may create it in an empty directory.
        """
        # After a clear, a lock file of that name is another one.
        if os.listdir(fd) == [LOCK] and self._is_current_inode(fd, lock):
            self.remove(bucket_id, fd)

    def _lock(self, fd: int, held: ExitStack) -> int | None:
        """Lock the bucket whose directory is *fd*; None if it was cleared meanwhile."""
        try:
            lock = held.enter_context(fs.opened(fs.open_for_locking(LOCK, fd, create=True)))
        except FileNotFoundError:
            return None
        fs.lock(lock)
        return lock if self._is_current_inode(fd, lock) else None

    @staticmethod
    def _is_current_inode(fd: int, lock: int) -> bool:
        try:
            return os.path.samestat(os.fstat(lock), os.stat(LOCK, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return False
