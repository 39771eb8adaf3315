"""The files of one bucket in a directory pool: their names, its status, and the locks that make each change safe.

::

    <directory>/ab/ab12…/            one bucket
        status.json                  the status; names the attempt that owns the bucket
        lock                         locked (flock) during each change of the status, for milliseconds
        <attempt>/                   the files of that attempt; there is never another such directory
            0, 1, …                  the bytes of the uploaded files
            progress.json            the last status that a running attempt published
            alive                    locked (flock) by the process that runs the attempt
            part-1, …, whole         parts of a direct upload (see ``direct``)

*States.* Without ``status.json`` the bucket is unknown. With it, the bucket is in the state that the file says, with
one exception: while it says starting or uploading, and no process holds ``alive``, the process that ran the attempt has
crashed. The upload then counts as failed, or as suspended if it is resumable. Readers find that out by themselves; no
process needs to write it down.

*Begin.* Under the lock: make the attempt's directory, lock ``alive``, replace ``status.json``, remove the directories
of older attempts. A crash before the replacement leaves a directory that no status names, which the next begin or clear
removes. An older attempt learns that it is superseded from ENOENT in its own directory. It never wrote anywhere else,
so no process waits for it.

*Run.* The attempt writes in its own directory only, without the lock.

*Finish.* Sync the files and the attempt's directory; then, under the lock, check that ``status.json`` still names this
attempt, and replace it by the final one. That rename is the only step that makes an upload done: the files have been in
their final place since they were created, so a crash leaves the state before the rename or the state after it.

*Clear.* Under the lock: remove ``status.json`` first, so that the bucket is unknown however much of the rest is removed
before a crash; then everything else, then ``lock`` and the directory. A process that waited for ``lock`` meanwhile
notices that the file has no name any more, and starts again (see ``bucket_directories``).

A file is replaced by writing ``<name>.new`` and renaming it, so a reader sees the old content or the new one.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from fileupload import clocks
from fileupload.errors import Interrupted
from fileupload.pool.base import Condition
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.bucket_directories import LOCK, BucketDirectories
from fileupload.pool.directory.refusals import DirectoryRefusals
from fileupload.pool.local_files import sync_directory, sync_names
from fileupload.status import InvalidRecord, State, UploadStatus, seconds_of, timestamp

STATUS = "status.json"
PROGRESS = "progress.json"
LIVENESS_LOCK = "alive"
FILE = "0"  # the file of a direct upload, once it is assembled
PART = "part-"  # begins the names of its parts
ASSEMBLING = "whole"  # that file while it is assembled

_STALE_AFTER = 2.0  # seconds without a publication after which a reader checks whether the attempt is alive


class DirectoryBucketStore:
    """Reads and writes the state of one bucket.

    Methods with a parameter *fd* take a descriptor of the bucket's directory, as :meth:`open` and :meth:`locked` give
    it.

    :ivar id: the id of the bucket.
    :ivar durable: whether files and statuses are synced.
    """

    def __init__(
        self, directories: BucketDirectories, refusals: DirectoryRefusals, bucket_id: str, *, durable: bool
    ) -> None:
        self.id = bucket_id
        self.durable = durable
        self._directories = directories
        self._refusals = refusals

    def path_of(self, *names: str) -> str:
        """Return the path of the bucket, or of something in it."""
        return self._directories.path_of(self.id, *names)

    def exists(self) -> bool:
        """Return whether the bucket's directory exists; costs one system call."""
        try:
            os.stat(self.path_of(), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def open(self) -> int:
        """Return a descriptor of the bucket's directory.

        :raises OSError: it does not exist, or a symbolic link is in its place.
        """
        return self._directories.open(self.id)

    def locked(self, *, create: bool = False) -> AbstractContextManager[int]:
        """Hold the lock of the bucket in a ``with`` block, which gets a descriptor of its directory.

        :param create: create the bucket if it does not exist.
        :raises FileNotFoundError: it does not exist.
        """
        return self._directories.locked(self.id, create=create)

    def lock_open_directory(self, fd: int) -> AbstractContextManager[int]:
        """Hold the lock of the bucket that was opened as *fd* in a ``with`` block, which gets a descriptor of the lock.

        :raises FileNotFoundError: that bucket was cleared; a new one of the same id may exist.
        """
        return self._directories.lock_open_directory(self.id, fd)

    def remove_if_empty(self, fd: int, lock: int) -> None:
        """Remove the bucket's directory if it holds nothing but the *lock*, which the caller holds."""
        self._directories.remove_if_empty(self.id, fd, lock)

    def read_status(self, fd: int) -> UploadStatus:
        """Return the content of ``status.json``; unknown if it is missing or no record.

        :raises OSError: it exists, and cannot be read now. To take that for unknown would overwrite an upload.
        """
        try:
            return UploadStatus.from_stored(fs.read_file(STATUS, fd))
        except (FileNotFoundError, InvalidRecord):
            return UploadStatus(state=State.UNKNOWN)

    def write_status(self, fd: int, status: UploadStatus, *, durable: bool = False) -> None:
        """Replace ``status.json``. The caller holds the lock."""
        fs.replace_file(STATUS, status.to_stored(), fd, durable=durable)

    def remove_status(self, fd: int) -> None:
        """Remove ``status.json``, which makes the bucket unknown. The caller holds the lock."""
        fs.remove(STATUS, fd)

    def status(self) -> UploadStatus:
        """Return the status of the bucket; without a bucket that of a recorded refusal, else unknown."""
        status = self.stored_status()
        return self._refusals.read(self.id) or status if status.state is State.UNKNOWN else status

    def stored_status(self) -> UploadStatus:
        """Return the status of the bucket; unknown if there is none."""
        try:
            with fs.opened(self.open()) as fd:
                return self.live_status(fd)
        except (FileNotFoundError, NotADirectoryError):
            return UploadStatus(state=State.UNKNOWN)

    def live_status(self, fd: int) -> UploadStatus:
        """Return the status with the progress of a running attempt, or as interrupted if its process has crashed."""
        status = self.read_status(fd)
        if not status.running:
            return status
        try:
            with fs.opened(fs.open_directory(status.attempt, fd)) as attempt:
                status = read_progress(attempt, status)
                age = time.time() - seconds_of(status.updated or timestamp(0))
                # A time ahead of this host's clock says nothing: only the lock tells.
                if status.suspended or 0 <= age < _STALE_AFTER or is_alive(attempt):
                    return status
                if status.resumable:
                    return replace(status, suspended=True)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return self._after_attempt(fd, status)

    def idle(self, status: UploadStatus, *, correct: bool) -> float:
        """Return the seconds since something happened in the bucket, by its *status*, or by its modification time.

        :param correct: if both are far ahead of this host's clock, let the age count from now on.
        """
        moment = status.updated or status.started
        if moment and not clocks.is_far_ahead(seconds_of(moment)):
            return clocks.age_of(seconds_of(moment))
        path = self.path_of(STATUS) if moment else self.path_of()
        written = os.stat(path, follow_symlinks=False).st_mtime
        if clocks.is_far_ahead(written) and correct:
            os.utime(path, follow_symlinks=False)
        return clocks.age_of(written)

    def _after_attempt(self, fd: int, seen: UploadStatus) -> UploadStatus:
        """Return the status once the attempt of *seen* is gone or not alive: the next status, or a crash."""
        # An attempt that ends replaces the status before it frees `alive`. So if the status still says that this
        # attempt runs, its process has crashed.
        status = self.read_status(fd)
        crashed = status.running and status.attempt == seen.attempt
        return seen.failed(Interrupted(), at=seen.updated) if crashed else status

    def record_refusal(self, status: UploadStatus) -> None:
        """Store *status* in the register of refusals, or in a failed bucket of the same owner."""
        with suppress(FileNotFoundError), self.locked() as fd:
            current = self.live_status(fd)
            if current.state is State.ERROR and current.owner == status.owner:
                self.remove_all_but({STATUS, LOCK}, fd)
                self.write_status(fd, replace(status, attempt=current.attempt))
            if current.state is not State.UNKNOWN:
                return
        self._refusals.write(self.id, status)

    def clear(self, condition: Condition) -> bool:
        """Remove the bucket, or the refusal of one that does not exist; False if *condition* does not hold."""
        try:
            with self.locked() as fd:
                if not condition(self.live_status(fd)):
                    return False
                # Before the bucket is unknown, because from then on its status is looked up in the register.
                with suppress(OSError):
                    self._refusals.remove(self.id, lambda _: True)
                # A process that waited for the lock of another clear may just have created the lock in an empty
                # directory: then nothing is removed.
                # Names with a dot are those of removed files that other processes have open, on NFS for example.
                found = {name for name in os.listdir(fd) if name != LOCK and not name.startswith(".")}
                self.remove_status(fd)
                self.remove_all_but({LOCK}, fd)
                self._directories.remove(self.id, fd)
                return bool(found)
        except FileNotFoundError:
            return self._refusals.remove(self.id, condition)

    def sync_names(self, fd: int) -> None:
        """Make the names of ``status.json``, of the bucket and of the directory above it durable."""
        sync_names(fd)
        sync_directory(os.path.dirname(self.path_of()))
        sync_directory(self._directories.root)

    @staticmethod
    def remove_all_but(kept: set[str], fd: int) -> None:
        """Remove everything from the bucket's directory except the names *kept*. The caller holds the lock."""
        for name in os.listdir(fd):
            if name not in kept:
                fs.remove_tree(name, fd)


def is_alive(attempt: int) -> bool:
    """Return whether a process holds the liveness lock in the directory *attempt*."""
    try:
        with fs.opened(fs.open_for_locking(LIVENESS_LOCK, attempt)) as lock:
            return not fs.try_lock(lock)
    except FileNotFoundError:
        return False


def read_progress(attempt: int, status: UploadStatus) -> UploadStatus:
    """Return the status last published in the directory *attempt*, or *status*, with at least the stored bytes.

    An attempt cannot publish while it waits for a stalled client; the sizes of its files show the bytes since then.
    """
    # A crash of the machine can leave an empty progress file.
    with suppress(FileNotFoundError, InvalidRecord):
        status = UploadStatus.from_stored(fs.read_file(PROGRESS, attempt))
    if status.direct:
        return _with_parts(status, attempt)
    stored = 0
    for name in filter(str.isdigit, os.listdir(attempt)):
        with suppress(FileNotFoundError):
            stored += os.stat(name, dir_fd=attempt, follow_symlinks=False).st_size
    return replace(status, received=stored) if stored > status.received else status


def _with_parts(status: UploadStatus, attempt: int) -> UploadStatus:
    """Return the *status* of a direct upload with the bytes of its parts, and the time when the last was written.

    Of a part that the client is sending again there are two files; the larger one counts.
    """
    sizes: dict[str, int] = {}
    last = 0.0
    names = os.listdir(attempt)
    for name in [FILE] if FILE in names else (name for name in names if name.startswith(PART)):
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=attempt, follow_symlinks=False)
            number = name.partition(".")[0]
            sizes[number] = max(sizes.get(number, 0), found.st_size)
            last = max(last, found.st_mtime)
    updated = status.updated
    if last and (updated is None or last > seconds_of(updated) or clocks.is_far_ahead(seconds_of(updated))):
        updated = timestamp(last)
    stored = sum(sizes.values())
    received = stored if status.size is None else min(stored, status.size)
    return replace(status, received=received, updated=updated)


def last_growth(attempt: int) -> float:
    """Return when a file in the directory *attempt* was last written (seconds since the epoch); 0.0 without a file."""
    last = 0.0
    for name in os.listdir(attempt):
        if name.isdigit() or name.startswith(PART):
            with suppress(FileNotFoundError):
                last = max(last, os.stat(name, dir_fd=attempt, follow_symlinks=False).st_mtime)
    return last


def remove_parts(attempt: int) -> None:
    """Remove all parts from the directory *attempt*, complete or not."""
    for name in os.listdir(attempt):
        if name.startswith(PART) or name == ASSEMBLING:
            fs.remove(name, attempt)
