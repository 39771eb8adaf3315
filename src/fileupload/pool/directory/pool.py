"""The pool in a shared directory.

::

    <directory>/.upload_key          the signing key, if none is set
    <directory>/.turn                when the pool was last tidied
    <directory>/.refusals            uploads that were refused before their first byte (see ``directory_refusal``)
    <directory>/.index/              what applications know of their buckets (see ``directory_index``)
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

import json
import operator
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from filelock import FileLock, Timeout

from fileupload.errors import AlreadyDone, Interrupted, NotResumable, SettingError
from fileupload.identifiers import is_id, new_key
from fileupload.pool.base import Condition, Pool, is_stalled
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.attempt import DirectoryAttempt, is_alive, last_growth, read_progress
from fileupload.pool.directory.bucket import DirectoryBucket
from fileupload.pool.directory.bucket_directories import LOCK, BucketDirectories
from fileupload.pool.directory.descriptor_limits import admission, retried
from fileupload.pool.directory.direct import DirectoryDirect
from fileupload.pool.directory.index import DirectoryIndex
from fileupload.pool.directory.refusals import DirectoryRefusals
from fileupload.status import FOREIGN, State, UploadStatus, seconds_of, timestamp

_STATUS = "status.json"
_KEY = ".upload_key"
_TURN = ".turn"
_STALE_AFTER = 2.0  # seconds without news after which a reader asks whether the attempt is alive


class DirectoryPool(Pool):
    """Uploads in a folder, on a local disk or on a network file system with working locks."""

    def __init__(self, directory: str, *, durable: bool = True, min_free_space: int = 0) -> None:
        """Use *directory*, made for the owner alone if it is not there.

        :param durable: fsync the files and their status before an upload is called done.
        :param min_free_space: bytes that the register of refusals leaves free when it is made.
        :raises SettingError: the folder cannot be made, or cannot be written.
        """
        self.durable = durable
        try:
            fs.note_umask()
            fs.make_directories(directory, 0o700, parents=0o755)
            self.directory = os.path.realpath(directory)
            usable = os.access(self.directory, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise SettingError(f"setting 'directory' cannot be {directory!r}: {error.strerror}") from None
        if not usable:
            raise SettingError(f"setting 'directory' cannot be {directory!r}: this process may not write there")
        self.directories = BucketDirectories(self.directory)
        self.refusals = DirectoryRefusals(self.directory, reserve=min_free_space)
        self.index = DirectoryIndex(self.directory, durable=durable)

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys in ``.upload_key``; the first process that finds none makes the file, and the pool's folder.

        The folder may be removed while servers run. They go on in a new one, with the keys that they hold, since the
        identifiers that clients have are signed with these.
        """
        while True:
            with suppress(FileNotFoundError), fs.opened(fs.open_root(self.directory, create=True)) as root:
                try:
                    return tuple(fs.read_file(_KEY, root).decode().split())
                except FileNotFoundError:
                    self._make_key(root, held)
                return tuple(fs.read_file(_KEY, root).decode().split())

    def key_stamp(self) -> tuple[int, ...]:
        """Return what identifies the file of the keys; nothing of one that is not there."""
        try:
            found = os.stat(os.path.join(self.directory, _KEY), follow_symlinks=False)
        except FileNotFoundError:
            return ()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _make_key(self, root: int, held: tuple[str, ...]) -> None:
        # A link appears whole, and never over another process's key.
        temporary = f"{_KEY}.{os.urandom(8).hex()}"
        try:
            with fs.opened(fs.create_file(temporary, root)) as fd:
                fs.write_all(fd, "\n".join(held or (new_key(),)).encode())
                os.fsync(fd)
            with suppress(FileExistsError):
                os.link(temporary, _KEY, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
        finally:
            fs.remove(temporary, root)
        os.fsync(root)

    def bucket(self, bucket_id: str) -> DirectoryBucket:
        """Return the bucket of that id, without a look at whether it is there."""
        return DirectoryBucket(self, bucket_id)

    def buckets(self) -> Iterator[DirectoryBucket]:
        """Yield all buckets, also those that a crash has left without a status."""
        with ExitStack() as held:
            try:
                root = held.enter_context(fs.opened(fs.open_directory(self.directory)))
            except FileNotFoundError:
                return
            for shard in sorted(os.listdir(root)):
                if len(shard) != 2:
                    continue
                with suppress(OSError), fs.opened(fs.open_directory(shard, root)) as fd:
                    names = os.listdir(fd)
                    yield from (DirectoryBucket(self, name) for name in sorted(names) if is_id(name))

    def is_done(self, bucket_id: str) -> bool:
        """Ask for the bucket's folder, by one system call, and read its status only if it is there."""
        try:
            os.stat(self.path_of(bucket_id), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return self.stored_status(bucket_id).state is State.DONE

    def begin(self, bucket_id: str, status: UploadStatus) -> DirectoryAttempt:
        """Begin an attempt in a folder of its own, and remove the folders of all others."""
        with self.directories.locked(bucket_id, create=True) as fd:
            current = self.read_status(fd)
            if current.state is State.DONE:
                raise AlreadyDone
            with admission(fd):
                attempt = DirectoryAttempt.begin(self, bucket_id, fd, status)
                try:
                    self.write_status(fd, replace(status, attempt=attempt.token))
                    # A folder has a link from each folder in it, from itself and from its parent (but on Btrfs, 1 in
                    # all): with 3, this attempt's is the only one.
                    if os.fstat(fd).st_nlink != 3:
                        self._remove_all_but({_STATUS, LOCK, attempt.token}, fd)
                except BaseException:
                    attempt.close()
                    retried(partial(fs.remove_tree, attempt.token, fd))
                    raise
                return attempt

    def resume(self, bucket_id: str) -> DirectoryAttempt:
        """Take up the attempt whose folder is there, if nobody holds its mark of life."""
        try:
            with self.directories.locked(bucket_id) as fd:
                status = self.read_status(fd)
                if status.state is State.DONE:
                    raise AlreadyDone
                if not status.running or not status.resumable:
                    raise NotResumable
                return DirectoryAttempt.resume(self, bucket_id, fd, status)
        except FileNotFoundError:
            raise NotResumable from None

    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> DirectoryDirect:
        """Return the file of an attempt that comes in parts."""
        return DirectoryDirect(self, bucket_id, attempt)

    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Keep *status* in the register, or in a bucket whose upload has failed."""
        with suppress(FileNotFoundError), self.directories.locked(bucket_id) as fd:
            current = self.live_status(fd)
            if current.state is State.ERROR and current.owner == status.owner:
                self._remove_all_but({_STATUS, LOCK}, fd)
                self.write_status(fd, replace(status, attempt=current.attempt))
            if current.state is not State.UNKNOWN:
                return
        self.refusals.write(bucket_id, status)

    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove the bucket's folder, under its lock."""

        def holds(status: UploadStatus) -> bool:
            return not (unless_kept and status.kept) and (condition is None or condition(status))

        return self._clear(bucket_id, holds)

    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[DirectoryBucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds."""
        for bucket in self.buckets():
            with suppress(OSError):
                status = bucket.get_status()
                if status.kept or self._idle(bucket, status) < older_than:
                    continue
                if status.running and not self._is_stalled(bucket, status, older_than):
                    continue
                if dry_run or self._clear(bucket.id, partial(operator.eq, status)):
                    yield bucket

    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True if nobody else took such a turn in the last *interval* seconds, on the pool's own clock."""
        mark = f"{_TURN}-{name}" if name else _TURN
        path = os.path.join(self.directory, mark)
        with suppress(OSError):
            if time.time() - os.stat(path).st_mtime < interval:
                return False
        try:
            os.close(fs.open_root(self.directory, create=True))  # else the lock would make it, for others too
            with FileLock(path + ".lock", timeout=0, mode=0o600):
                with suppress(FileNotFoundError):
                    if time.time() - os.stat(path).st_mtime < interval:
                        return False
                with fs.opened(fs.open_directory(self.directory)) as root:
                    fs.replace_file(mark, b"", root, durable=False)
                return True
        except (Timeout, FileNotFoundError, FileExistsError):
            # Another process has the turn, or the folder was removed: filelock, which makes folders, may raise either.
            return False

    def free_space(self) -> int | None:
        """Return the bytes that an unprivileged process may still write in the pool's file system."""
        try:
            numbers = os.statvfs(self.directory)
        except FileNotFoundError:
            with fs.opened(fs.open_root(self.directory, create=True)) as root:
                numbers = os.statvfs(root)
        return numbers.f_bavail * numbers.f_frsize

    def path_of(self, bucket_id: str, *names: str) -> str:
        """Return the path of a bucket, or of something in it."""
        return self.directories.path_of(bucket_id, *names)

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

    def stored_status(self, bucket_id: str) -> UploadStatus:
        """Return the status of a bucket as it is told in its folder; unknown if there is none."""
        try:
            with fs.opened(self.directories.open(bucket_id)) as fd:
                return self.live_status(fd)
        except (FileNotFoundError, NotADirectoryError):
            return UploadStatus(state=State.UNKNOWN)

    def live_status(self, fd: int) -> UploadStatus:
        """Return the status with the progress of a running attempt, or as interrupted if its process died."""
        status = self.read_status(fd)
        if not status.running:
            return status
        try:
            with fs.opened(fs.open_directory(status.attempt, fd)) as attempt:
                status = read_progress(attempt, status)
                news = time.time() - seconds_of(status.updated or timestamp(0))
                if status.suspended or news < _STALE_AFTER or is_alive(attempt):
                    return status
                if status.resumable:
                    return replace(status, suspended=True)
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

    def _is_stalled(self, bucket: DirectoryBucket, status: UploadStatus, older_than: float) -> bool:
        """Tell whether a running attempt has published nothing for so long, and its files have not grown either."""
        if not is_stalled(status, older_than):
            return False
        with ExitStack() as held:
            fd = held.enter_context(fs.opened(self.directories.open(bucket.id)))
            attempt = held.enter_context(fs.opened(fs.open_directory(status.attempt, fd)))
            grown = last_growth(attempt)
        return is_stalled(replace(status, updated=timestamp(grown)), older_than) if grown else True

    def _clear(self, bucket_id: str, condition: Condition) -> bool:
        try:
            with self.directories.locked(bucket_id) as fd:
                if not condition(self.live_status(fd)):
                    return False
                # Before the bucket is absent: from then on the register would be asked for its status.
                with suppress(OSError):
                    self.refusals.remove(bucket_id, lambda _: True)
                # Who comes between the last two steps of another makes a lock in a folder that holds nothing else.
                found = set(os.listdir(fd)) - {LOCK}
                # From here on the bucket is absent, however far the rest comes.
                self.remove_status(fd)
                self._remove_all_but({LOCK}, fd)
                self.directories.remove(bucket_id, fd)
                return bool(found)
        except FileNotFoundError:
            return self.refusals.remove(bucket_id, condition)

    @staticmethod
    def _remove_all_but(kept: set[str], fd: int) -> None:
        for name in os.listdir(fd):
            if name not in kept:
                fs.remove_tree(name, fd)
