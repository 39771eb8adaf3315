"""The pool in a shared directory, on a local disk or on a network file system with working locks.

::

    <directory>/.upload_key          the signing keys, if the settings have none
    <directory>/.turn, .turn-<name>  interval leases: the modification time tells when a lease was last acquired
    <directory>/.refusals            uploads that were refused before their first byte (see ``refusals``)
    <directory>/.index/              the index (see ``index``)
    <directory>/ab/ab12…/            one bucket (see ``bucket_store``, with the theory of operation)
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from filelock import FileLock, Timeout

from fileupload import clocks
from fileupload.errors import AlreadyDone, NotResumable, SettingError
from fileupload.identifiers import is_id, new_key
from fileupload.pool.base import Condition, Pool, is_stalled, matches
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.abilities import require_abilities
from fileupload.pool.directory.attempt import DirectoryAttempt
from fileupload.pool.directory.bucket import DirectoryBucket
from fileupload.pool.directory.bucket_directories import LOCK, BucketDirectories
from fileupload.pool.directory.bucket_store import STATUS, DirectoryBucketStore, last_growth
from fileupload.pool.directory.descriptor_limits import admission, retried
from fileupload.pool.directory.direct import DirectoryDirect
from fileupload.pool.directory.index import DirectoryIndex
from fileupload.pool.directory.refusals import DirectoryRefusals
from fileupload.pool.local_files import free_space, make_directories, note_umask, sync_names, try_sync
from fileupload.status import State, UploadStatus, seconds_of, timestamp

_KEY = ".upload_key"
_LEASE = ".turn"


class DirectoryPool(Pool):
    """Uploads in a directory.

    :ivar directory: the real path of that directory.
    :ivar durable: whether files and statuses are synced before an upload counts as done.
    """

    def __init__(
        self, directory: str, *, durable: bool = True, min_free_space: int = 0, read_only: bool = False
    ) -> None:
        """Use *directory*, which is created for the owner only if it does not exist.

        :param durable: sync files and statuses before an upload counts as done.
        :param min_free_space: bytes that must stay free when the register of refusals is created.
        :param read_only: create nothing; the directory need not be writable.
        :raises SettingError: the directory cannot be created or written; or, with *read_only*, it cannot be read.
        """
        self.durable = durable
        self._read_only = read_only
        try:
            note_umask()
            if not read_only:
                make_directories(directory, 0o700, parents=0o755)
            self.directory = os.path.realpath(directory)
            os.stat(self.directory)
            usable = os.access(self.directory, os.R_OK | os.X_OK | (0 if read_only else os.W_OK))
        except OSError as error:
            raise SettingError(f"setting 'directory' cannot be {directory!r}: {error.strerror}") from None
        if not usable:
            verb = "read" if read_only else "write"
            raise SettingError(f"setting 'directory' cannot be {directory!r}: this process may not {verb} there")
        self._directories = BucketDirectories(self.directory)
        self._refusals = DirectoryRefusals(self.directory, reserve=min_free_space)
        self.index = DirectoryIndex(self.directory, durable=durable)
        self._acquired_leases: dict[str, float] = {}  # by name: when this process has acquired the lease last

    def check(self) -> None:
        """Check that the file system has what the pool needs, and do without what is dispensable."""
        require_abilities(self.directory, durable=self.durable)

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys in ``.upload_key``; the first process that finds none creates the file.

        A pool that is only read creates none, and raises FileNotFoundError.

        An administrator may remove the pool's directory while servers run. They continue in a new one with the keys in
        their memory, because these have signed the identifiers that clients hold.
        """
        if self._read_only:
            with fs.opened(fs.open_directory(self.directory)) as root:
                return tuple(fs.read_file(_KEY, root).decode().split())
        while True:
            with suppress(FileNotFoundError), fs.opened(fs.open_root(self.directory, create=True)) as root:
                try:
                    return tuple(fs.read_file(_KEY, root).decode().split())
                except FileNotFoundError:
                    self._make_key(root, held)
                return tuple(fs.read_file(_KEY, root).decode().split())

    def key_stamp(self) -> tuple[int, ...]:
        """Return what identifies the content of ``.upload_key``; an empty tuple if there is no such file."""
        try:
            found = os.stat(os.path.join(self.directory, _KEY), follow_symlinks=False)
        except FileNotFoundError:
            return ()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _make_key(self, root: int, held: tuple[str, ...]) -> None:
        # The complete file appears at once; this fails if another process has created the key before.
        self.check()  # this is the first file that an application stores
        temporary = f"{_KEY}.{os.urandom(8).hex()}"
        try:
            with fs.opened(fs.create_file(temporary, root)) as fd:
                fs.write_all(fd, "\n".join(held or (new_key(),)).encode())
                try_sync(fd)
            with suppress(FileExistsError):
                fs.give_new_name(temporary, _KEY, root, self.directory)
        finally:
            fs.remove(temporary, root)
        sync_names(root)

    def bucket_store(self, bucket_id: str) -> DirectoryBucketStore:
        """Return what reads and writes the state of a bucket."""
        return DirectoryBucketStore(self._directories, self._refusals, bucket_id, durable=self.durable)

    def bucket(self, bucket_id: str) -> DirectoryBucket:
        """Return the bucket of that id, without a check whether it exists."""
        return DirectoryBucket(self.bucket_store(bucket_id))

    def buckets(self) -> Iterator[DirectoryBucket]:
        """Yield all buckets, including those that a crash has left without a status."""
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
                    yield from (self.bucket(name) for name in sorted(names) if is_id(name))

    def is_done(self, bucket_id: str) -> bool:
        """Return whether the bucket is finished; its status is read only if its directory exists."""
        bucket = self.bucket_store(bucket_id)
        return bucket.exists() and bucket.stored_status().state is State.DONE

    def begin(self, bucket_id: str, status: UploadStatus) -> DirectoryAttempt:
        """Begin an attempt in a directory of its own, and remove the directories of all others."""
        bucket = self.bucket_store(bucket_id)
        with bucket.locked(create=True) as fd:
            if bucket.read_status(fd).state is State.DONE:
                raise AlreadyDone
            with admission(fd):
                attempt = DirectoryAttempt.begin(bucket, fd, status)
                try:
                    bucket.write_status(fd, replace(status, attempt=attempt.token))
                    # A directory has one link from its parent, one from itself, and one from each directory in it
                    # (except on Btrfs, where it always has one). With 3 links, this attempt's is the only one.
                    if os.fstat(fd).st_nlink != 3:
                        bucket.remove_all_but({STATUS, LOCK, attempt.token}, fd)
                except BaseException:
                    attempt.close()
                    retried(partial(fs.remove_tree, attempt.token, fd))
                    raise
                return attempt

    def resume(self, bucket_id: str) -> DirectoryAttempt:
        """Continue the attempt that the status names, if no process holds its liveness lock."""
        bucket = self.bucket_store(bucket_id)
        try:
            with bucket.locked() as fd:
                status = bucket.read_status(fd)
                if status.state is State.DONE:
                    raise AlreadyDone
                if not status.running or not status.resumable:
                    raise NotResumable
                return DirectoryAttempt.resume(bucket, fd, status)
        except FileNotFoundError:
            raise NotResumable from None

    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> DirectoryDirect:
        """Return the direct upload of an attempt."""
        return DirectoryDirect(self.bucket_store(bucket_id), attempt)

    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Store *status* in the register of refusals, or in a failed bucket of the same owner."""
        self.bucket_store(bucket_id).record_refusal(status)

    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove the bucket under its lock."""
        return self.bucket_store(bucket_id).clear(partial(matches, unless_kept, condition))

    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[DirectoryBucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds."""
        for bucket in self.buckets():
            store = self.bucket_store(bucket.id)
            with suppress(OSError):
                status = bucket.get_status()
                if status.kept or store.idle(status, correct=not dry_run) < older_than:
                    continue
                if status.running and not self._is_stalled(store, status, older_than):
                    continue
                # Under the lock, the status must still be the one on which the decision was made.
                if dry_run or store.clear(partial(operator.eq, status)):
                    yield bucket

    @staticmethod
    def _is_stalled(bucket: DirectoryBucketStore, status: UploadStatus, older_than: float) -> bool:
        """Return whether a running attempt has neither published nor written anything for so long."""
        published = status.updated or status.started
        if not is_stalled(status, older_than) and not (published and clocks.is_far_ahead(seconds_of(published))):
            return False
        with ExitStack() as held:
            fd = held.enter_context(fs.opened(bucket.open()))
            attempt = held.enter_context(fs.opened(fs.open_directory(status.attempt, fd)))
            grown = last_growth(attempt)
        return is_stalled(replace(status, updated=timestamp(grown)), older_than) if grown else True

    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True for one caller in each *interval* seconds; for one in each process, if clocks are wrong."""
        mark = f"{_LEASE}-{name}" if name else _LEASE
        if self._is_leased(mark, interval):
            return False
        try:
            os.close(fs.open_root(self.directory, create=True))  # FileLock would create it readable for all
            # A lock that a child inherits by a fork at this moment is released explicitly for both.
            with FileLock(os.path.join(self.directory, mark + ".lock"), timeout=0, mode=0o600):
                if self._is_leased(mark, interval):
                    return False
                with fs.opened(fs.open_directory(self.directory)) as root:
                    fs.replace_file(mark, b"", root, durable=False)
                self._acquired_leases[mark] = time.time()
                return True
        except (Timeout, FileNotFoundError, FileExistsError):
            # Another process acquires the lease now; or it has removed the directory, for which FileLock, which
            # creates directories, may raise either of the other two.
            return False

    def _is_leased(self, mark: str, interval: float) -> bool:
        """Return whether the lease was acquired in the last *interval* seconds, by any process or by this one.

        If the clocks of host and file system differ by more, each process at least respects its own leases.
        """
        moments = [self._acquired_leases.get(mark, 0.0)]
        with suppress(OSError):
            moments.append(os.stat(os.path.join(self.directory, mark)).st_mtime)
        return any(clocks.is_recent(moment, interval, tolerance=0.0) for moment in moments)

    def free_space(self) -> int | None:
        """Return the bytes that an unprivileged process may still write to the pool's file system."""
        try:
            return free_space(self.directory)
        except FileNotFoundError:
            with fs.opened(fs.open_root(self.directory, create=True)) as root:
                return free_space(root)
