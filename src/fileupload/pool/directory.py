"""The pool in a shared directory.

::

    <directory>/.upload_key          the signing key, if none is set
    <directory>/.turn                when the pool was last tidied
    <directory>/ab/ab12…/            one bucket
        status.json                  replaced atomically, under the lock; names the attempt that counts
        lock                         held for a change of state, for milliseconds
        <attempt>/                   what one attempt wrote; there is never more than the one that counts
            0, 1, …                  bytes of the files
            progress.json            replaced atomically while the attempt runs
            alive                    locked by the process that runs the attempt; a crash frees it

The one change that makes an upload done is the rename of ``status.json``: the files are already where they
stay, and are called finished by it.
"""

from __future__ import annotations

import errno
import json
import operator
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial

from filelock import FileLock, Timeout

from fileupload.errors import AlreadyDone, Interrupted, SettingError
from fileupload.identifiers import is_id, new_key
from fileupload.pool import filesystem as fs
from fileupload.pool.base import Pool
from fileupload.pool.directory_attempt import DirectoryAttempt, is_alive, read_progress
from fileupload.pool.directory_bucket import DirectoryBucket
from fileupload.status import FOREIGN, State, UploadStatus, seconds_of, timestamp

_STATUS = "status.json"
_LOCK = "lock"
_KEY = ".upload_key"
_TURN = ".turn"
_STALE_AFTER = 2.0  # seconds without news after which a reader asks whether the attempt is alive


class DirectoryPool(Pool):
    """Uploads in a folder, on a local disk or on a network file system with working locks."""

    def __init__(self, directory: str, *, durable: bool = True) -> None:
        """Use *directory*, made for the owner alone if it is not there.

        :param durable: fsync the files and their status before an upload is called done.
        :raises SettingError: the folder cannot be made, or cannot be written.
        """
        self.durable = durable
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            self.directory = os.path.realpath(directory)
            usable = os.access(self.directory, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise SettingError(f"setting 'directory' cannot be {directory!r}: {error.strerror}") from None
        if not usable:
            raise SettingError(f"setting 'directory' cannot be {directory!r}: this process may not write there")

    def signing_keys(self) -> tuple[str, ...]:
        """Return the key in ``.upload_key``; the first process that asks makes it."""
        with fs.opened(fs.open_directory(self.directory)) as root:
            try:
                return tuple(fs.read_file(_KEY, root).decode().split())
            except FileNotFoundError:
                self._make_key(root)
            return tuple(fs.read_file(_KEY, root).decode().split())

    def _make_key(self, root: int) -> None:
        # A link appears whole, and never over another process's key.
        temporary = f"{_KEY}.{os.urandom(8).hex()}"
        try:
            with fs.opened(fs.create_file(temporary, root)) as fd:
                fs.write_all(fd, new_key().encode())
                os.fsync(fd)
            with suppress(FileExistsError):
                os.link(temporary, _KEY, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
        finally:
            fs.remove(temporary, root)
        os.fsync(root)

    def handle(self, bucket_id: str) -> DirectoryBucket:
        """Return the bucket of that id, without a look at whether it is there."""
        return DirectoryBucket(self, bucket_id)

    def buckets(self) -> Iterator[DirectoryBucket]:
        """Yield all buckets, also those that a crash has left without a status."""
        with fs.opened(fs.open_directory(self.directory)) as root:
            for shard in sorted(os.listdir(root)):
                if len(shard) != 2:
                    continue
                with suppress(OSError), fs.opened(fs.open_directory(shard, root)) as fd:
                    names = os.listdir(fd)
                    yield from (DirectoryBucket(self, name) for name in sorted(names) if is_id(name))

    def begin(self, bucket_id: str, status: UploadStatus) -> DirectoryAttempt:
        """Begin an attempt in a folder of its own, and remove the folders of all others."""
        with self.locked(bucket_id, create=True) as fd:
            current = self.read_status(fd)
            if current.state is State.DONE:
                raise AlreadyDone
            attempt = DirectoryAttempt(self, bucket_id, fd)
            try:
                self.write_status(fd, replace(status, attempt=attempt.token))
                # A folder has a link from each folder in it, from itself and from its parent (but on Btrfs, 1 in all):
                # with 3, this attempt's is the only one.
                if os.fstat(fd).st_nlink != 3:
                    self._remove_all_but({_STATUS, _LOCK, attempt.token}, fd)
            except BaseException:
                attempt.close()
                fs.remove_tree(attempt.token, fd)
                raise
            return attempt

    def refuse(self, bucket_id: str, status: UploadStatus) -> None:
        """Keep *status* where no upload is finished or running."""
        with self.locked(bucket_id, create=True) as fd:
            current = self.live_status(fd)
            if current.state is not State.DONE and not current.running:
                self._remove_all_but({_STATUS, _LOCK}, fd)
                self.write_status(fd, status)

    def clear(self, bucket_id: str) -> bool:
        """Remove the bucket's folder."""
        return self._clear(bucket_id, lambda status: True)

    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[DirectoryBucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds."""
        for bucket in self.buckets():
            with suppress(OSError):
                status = bucket.get_status()
                if status.running or self._idle(bucket, status) < older_than:
                    continue
                if dry_run or self._clear(bucket.id, partial(operator.eq, status)):
                    yield bucket

    def take_turn(self, interval: float) -> bool:
        """Return True if nobody else took a turn in the last *interval* seconds, on the pool's own clock."""
        path = os.path.join(self.directory, _TURN)
        with suppress(OSError):
            if time.time() - os.stat(path).st_mtime < interval:
                return False
        try:
            with FileLock(path + ".lock", timeout=0, mode=0o600):
                with suppress(FileNotFoundError):
                    if time.time() - os.stat(path).st_mtime < interval:
                        return False
                with fs.opened(fs.open_directory(self.directory)) as root:
                    fs.replace_file(_TURN, b"", root, durable=False)
                return True
        except Timeout:
            return False

    def free_space(self) -> int | None:
        """Return the bytes that an unprivileged process may still write in the pool's file system."""
        numbers = os.statvfs(self.directory)
        return numbers.f_bavail * numbers.f_frsize

    def path_of(self, bucket_id: str, *names: str) -> str:
        """Return the path of a bucket, or of something in it."""
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        return os.path.join(self.directory, bucket_id[:2], bucket_id, *names)

    def open_bucket(self, bucket_id: str, *, create: bool = False) -> int:
        """Return a descriptor of a bucket's folder.

        :raises OSError: it is not there, or a link stands in its place.
        """
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        shard_name = bucket_id[:2]
        with fs.opened(fs.open_directory(self.directory)) as root:
            if create:
                fs.ensure_directory(shard_name, root)
            with fs.opened(fs.open_directory(shard_name, root)) as shard:
                while create:
                    fs.ensure_directory(bucket_id, shard)
                    with suppress(FileNotFoundError):  # cleared between the two calls
                        return fs.open_directory(bucket_id, shard)
                return fs.open_directory(bucket_id, shard)

    @contextmanager
    def locked(self, bucket_id: str, *, create: bool = False) -> Iterator[int]:
        """Hold the lock of a bucket; gives a descriptor of its folder.

        :raises FileNotFoundError: there is no such bucket, and *create* is false.
        """
        while True:
            with ExitStack() as held:
                fd = held.enter_context(fs.opened(self.open_bucket(bucket_id, create=create)))
                if self._lock(fd, held):
                    yield fd
                    return

    @contextmanager
    def locked_folder(self, fd: int) -> Iterator[None]:
        """Hold the lock of the bucket whose folder was opened as *fd*.

        :raises FileNotFoundError: that bucket was cleared; one of the same id may have been made since.
        """
        with ExitStack() as held:
            if not self._lock(fd, held):
                raise FileNotFoundError(errno.ENOENT, "the bucket was cleared")
            yield

    @staticmethod
    def _lock(fd: int, held: ExitStack) -> bool:
        """Take the lock of the bucket whose folder is *fd*; False if it was cleared on the way."""
        try:
            lock = held.enter_context(fs.opened(fs.open_for_locking(_LOCK, fd, create=True)))
            fs.lock(lock)
            here = os.stat(_LOCK, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        # Who cleared the bucket took the lock's name away: what we hold then is the lock of nothing.
        return os.path.samestat(os.fstat(lock), here)

    def read_status(self, fd: int) -> UploadStatus:
        """Return what ``status.json`` in the bucket's folder says; a missing or foreign one says unknown.

        :raises OSError: it is there and cannot be read now; who took that for unknown would overwrite an upload.
        """
        try:
            return UploadStatus.from_record(json.loads(fs.read_file(_STATUS, fd)))
        except (FileNotFoundError, *FOREIGN):
            return UploadStatus(state=State.UNKNOWN)

    def remove_status(self, fd: int) -> bool:
        """Remove ``status.json``, and so make the bucket absent, before its bytes go; only under the lock."""
        return fs.remove(_STATUS, fd)

    def write_status(self, fd: int, status: UploadStatus, *, durable: bool = False) -> None:
        """Replace ``status.json`` in the bucket's folder; only under the lock."""
        fs.replace_file(_STATUS, json.dumps(status.to_record()).encode(), fd, durable=durable)

    def live_status(self, fd: int) -> UploadStatus:
        """Return the status with the progress of a running attempt, or as interrupted if its process died."""
        status = self.read_status(fd)
        if not status.running:
            return status
        try:
            with fs.opened(fs.open_directory(status.attempt, fd)) as attempt:
                status = read_progress(attempt, status)
                news = time.time() - seconds_of(status.updated or timestamp(0))
                if news < _STALE_AFTER or is_alive(attempt):
                    return status
        except (FileNotFoundError, NotADirectoryError):
            pass
        return self._after_attempt(fd, status)

    def _after_attempt(self, fd: int, seen: UploadStatus) -> UploadStatus:
        """Return the status after the attempt of *seen* was found gone: what followed it, or a crash."""
        status = self.read_status(fd)
        crashed = status.running and status.attempt == seen.attempt
        return seen.failed(Interrupted(), at=seen.updated) if crashed else status

    def _idle(self, bucket: DirectoryBucket, status: UploadStatus) -> float:
        moment = status.updated or status.started
        if moment is None:
            return time.time() - os.stat(self.path_of(bucket.id), follow_symlinks=False).st_mtime
        return time.time() - seconds_of(moment)

    def _clear(self, bucket_id: str, condition: Callable[[UploadStatus], bool]) -> bool:
        try:
            with self.locked(bucket_id) as fd:
                if not condition(self.live_status(fd)):
                    return False
                # From here on the bucket is absent, however far the rest comes.
                self.remove_status(fd)
                self._remove_all_but({_LOCK}, fd)
                # Whoever waits for this lock sees that it has gone from its name, and begins anew.
                fs.remove(_LOCK, fd)
                with suppress(OSError):
                    os.rmdir(self.path_of(bucket_id))
                return True
        except FileNotFoundError:
            return False

    @staticmethod
    def _remove_all_but(kept: set[str], fd: int) -> None:
        for name in os.listdir(fd):
            if name not in kept:
                fs.remove_tree(name, fd)
