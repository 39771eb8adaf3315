"""One attempt in a directory pool: a folder that its owner alone writes."""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from fileupload.errors import Busy, FileMissing, Superseded, lacks_descriptors
from fileupload.pool.base import Attempt, FileWriter
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.descriptor_limits import retried
from fileupload.pool.directory.direct import PART, DirectoryDirect
from fileupload.status import FOREIGN, State, UploadStatus, seconds_of, timestamp

if TYPE_CHECKING:
    from fileupload.pool.directory.pool import DirectoryPool

LIVENESS_LOCK = "alive"
PROGRESS = "progress.json"

# What an operation in the attempt's folder says once somebody removed it; the second on a network file system.
_GONE = frozenset({errno.ENOENT, errno.ESTALE})


def is_alive(attempt: int) -> bool:
    """Tell whether a process still holds the mark of life in the folder *attempt*."""
    try:
        with fs.opened(fs.open_for_locking(LIVENESS_LOCK, attempt)) as mark:
            return not fs.try_lock(mark)
    except FileNotFoundError:
        return False


def read_progress(attempt: int, status: UploadStatus) -> UploadStatus:
    """Return what the owner of the folder *attempt* published last, or *status*, brought up to what is stored.

    The owner cannot publish while it waits for a client that has stalled; the sizes of its files tell the rest.
    """
    # A crash of the machine can leave a progress file that is empty.
    with suppress(FileNotFoundError, *FOREIGN):
        status = UploadStatus.from_record(json.loads(fs.read_file(PROGRESS, attempt)))
    if status.direct:
        return _with_parts(status, *DirectoryDirect.measure(attempt))
    stored = 0
    for name in filter(str.isdigit, os.listdir(attempt)):
        with suppress(FileNotFoundError):
            stored += os.stat(name, dir_fd=attempt, follow_symlinks=False).st_size
    return replace(status, received=stored) if stored > status.received else status


def last_growth(attempt: int) -> float:
    """Return when a file in the folder *attempt* was last written (seconds since the epoch); 0.0 without a file."""
    last = 0.0
    for name in os.listdir(attempt):
        if name.isdigit() or name.startswith(PART):
            with suppress(FileNotFoundError):
                last = max(last, os.stat(name, dir_fd=attempt, follow_symlinks=False).st_mtime)
    return last


def _with_parts(status: UploadStatus, stored: int, last: float) -> UploadStatus:
    """Return *status* with what the client has sent by itself, and when."""
    updated = status.updated
    if last and (updated is None or last > seconds_of(updated)):
        updated = timestamp(last)
    received = stored if status.size is None else min(stored, status.size)
    return replace(status, received=received, updated=updated)


class DirectoryAttempt(Attempt):
    """An attempt whose bytes go to ``<bucket>/<token>/``."""

    def __init__(self, pool: DirectoryPool, bucket_id: str, status: UploadStatus) -> None:
        self.token = status.attempt or secrets.token_hex(8)
        self.status = status
        self._pool = pool
        self._id = bucket_id
        self._files = 0
        self._writer: _FileWriter | None = None
        self._bucket = self._folder = self._alive = -1
        self._renamed = False  # the status to that of a finished upload, perhaps

    @classmethod
    def begin(cls, pool: DirectoryPool, bucket_id: str, bucket: int, status: UploadStatus) -> Self:
        """Make the folder in that of the *bucket*, and mark it as alive; only under the bucket's lock."""
        attempt = cls(pool, bucket_id, replace(status, attempt=""))
        fs.make_directory(attempt.token, bucket)
        try:
            attempt._bucket = os.dup(bucket)
            attempt._folder = fs.open_directory(attempt.token, bucket)
            attempt._alive = fs.create_file(LIVENESS_LOCK, attempt._folder)
            fs.try_lock(attempt._alive)
        except BaseException:
            attempt.close()
            retried(partial(fs.remove_tree, attempt.token, bucket))
            raise
        return attempt

    @classmethod
    def resume(cls, pool: DirectoryPool, bucket_id: str, bucket: int, status: UploadStatus) -> Self:
        """Take up the attempt of *status*, and mark it as alive; only under the bucket's lock.

        :raises Busy: its mark of life is another's.
        """
        attempt = cls(pool, bucket_id, status)
        try:
            attempt._bucket = os.dup(bucket)
            attempt._folder = fs.open_directory(attempt.token, bucket)
            attempt._alive = fs.open_for_locking(LIVENESS_LOCK, attempt._folder, create=True)
            if not fs.try_lock(attempt._alive):
                raise Busy
            attempt.status = replace(read_progress(attempt._folder, status), suspended=False)
            attempt._files = sum(1 for name in os.listdir(attempt._folder) if name.isdigit())
            attempt._publish(attempt.status)
        except BaseException:
            attempt.close()
            raise
        return attempt

    def create_file(self) -> FileWriter:
        """Begin the next file of the folder."""
        try:
            fd = retried(partial(fs.create_file, str(self._files), self._folder))
        except OSError as error:
            raise self._explained(error) from None
        self._files += 1
        self._writer = _FileWriter(fd, durable=self._pool.durable)
        return self._writer

    def append_file(self) -> tuple[FileWriter, int]:
        """Open the last file of the folder again; its size is where to go on."""
        if not self._files:
            raise FileMissing
        try:
            fd = retried(partial(fs.open_to_append, str(self._files - 1), self._folder))
        except OSError as error:
            raise self._explained(error) from None
        self._writer = _FileWriter(fd, durable=self._pool.durable)
        return self._writer, os.fstat(fd).st_size

    def discard_file(self) -> None:
        """Remove the last file from the folder."""
        self._files -= 1
        fs.remove(str(self._files), self._folder)

    def publish(self, status: UploadStatus) -> None:
        """Replace the progress file; where no descriptor is left for it, the next call does so."""
        try:
            self._publish(status)
        except OSError as error:
            if not lacks_descriptors(error):
                raise
            with suppress(OSError):
                fs.remove(fs.temporary_name(PROGRESS), self._folder)

    def _publish(self, status: UploadStatus) -> None:
        self.status = status
        record = replace(status, attempt=self.token).to_record()
        try:
            fs.replace_file(PROGRESS, json.dumps(record).encode(), self._folder, durable=False)
        except OSError as error:
            raise self._explained(error) from None

    def suspend(self, status: UploadStatus) -> None:
        """Sync what is stored, and give up the mark of life."""
        try:
            if self._writer is not None:
                self._writer.close()
            if self._pool.durable:
                os.fsync(self._folder)
            if self._renamed:  # and then not made durable
                retried(partial(self._roll_back_done, status))
            retried(partial(self._publish, replace(status, suspended=True)))
        except OSError as error:
            raise self._explained(error) from None
        finally:
            self.close()

    def _roll_back_done(self, status: UploadStatus) -> None:
        """Replace the status of a finished upload, that could not be made durable, by *status*."""
        with self._pool.directories.lock_open_directory(self._bucket):
            self._require_ownership()
            self._pool.write_status(self._bucket, replace(status, attempt=self.token))

    def finish(self, status: UploadStatus) -> None:
        """Make the files durable where they lie, and let ``status.json`` name them."""
        try:
            if self._pool.durable:
                os.fsync(self._folder)
            retried(partial(self._make_done, replace(status, attempt=self.token)))
        except OSError as error:
            raise self._explained(error) from None
        with suppress(OSError):  # the upload is done; what stays of these two misleads nobody
            for name in (PROGRESS, LIVENESS_LOCK):
                fs.remove(name, self._folder)
            if self.status.direct:
                DirectoryDirect.remove_parts(self._folder)
        self.close()

    def _make_done(self, done: UploadStatus) -> None:
        """Replace the status by *done*; may be done again."""
        with self._pool.directories.lock_open_directory(self._bucket):
            self._require_ownership()
            if self._pool.durable:
                os.fsync(self._bucket)  # the name of the attempt, before the status that speaks of it
            self._renamed = True
            self._pool.write_status(self._bucket, done, durable=self._pool.durable)
            if self._pool.durable:
                self._sync_names()

    def fail(self, status: UploadStatus) -> None:
        """Remove the folder, and leave *status* if the bucket is still this attempt's."""
        try:
            if self._writer is not None:
                self._writer.abandon()  # gives back a descriptor, which is needed for what follows
            retried(partial(self._remove, replace(status, attempt=self.token)))
        except FileNotFoundError:
            return
        finally:
            self.close()

    def _remove(self, failed: UploadStatus) -> None:
        """Remove all of the attempt, and leave *failed* in its place; may be done again."""
        with self._pool.directories.lock_open_directory(self._bucket) as lock:
            current = self._pool.read_status(self._bucket)
            if current.attempt == self.token and self._folder >= 0:
                if current.state is State.DONE:  # renamed, and then not made durable
                    self._pool.remove_status(self._bucket)
                self._remove_bytes()
                self._pool.write_status(self._bucket, failed)
            # The mark of life goes last: until the status is there, no reader may take this for a crash.
            self._release()
            fs.remove_tree(self.token, self._bucket)
            self._pool.directories.remove_if_empty(self._id, self._bucket, lock)

    def _remove_bytes(self) -> None:
        """Remove the files before the status is written: on a full disk, their room is what it needs."""
        for number in range(self._files):
            fs.remove(str(number), self._folder)

    def close(self) -> None:
        """Give up all that is open."""
        self._release()
        if self._bucket >= 0:
            os.close(self._bucket)
            self._bucket = -1

    def _release(self) -> None:
        """Give up the folder and the mark of life."""
        if self._writer is not None:
            self._writer.abandon()
        for fd in (self._alive, self._folder):
            if fd >= 0:
                os.close(fd)
        self._folder = self._alive = -1

    def _require_ownership(self) -> None:
        if self._pool.read_status(self._bucket).attempt != self.token:
            raise Superseded

    def _sync_names(self) -> None:
        os.fsync(self._bucket)
        fs.sync_directory(os.path.dirname(self._pool.path_of(self._id)))
        fs.sync_directory(self._pool.directory)

    def _explained(self, error: OSError) -> Exception:
        """Return what *error* in the attempt's own folder means."""
        return Superseded() if error.errno in _GONE else error


class _FileWriter(FileWriter):
    """Writes a file without a buffer between: chunks are large, and a buffer would copy them once more."""

    def __init__(self, fd: int, *, durable: bool) -> None:
        self._fd = fd
        self._durable = durable

    def write(self, data: bytes) -> None:
        """Write all of *data*."""
        fs.write_all(self._fd, data)

    def close(self) -> None:
        """Sync the file, if it is to be durable, and close it."""
        try:
            if self._durable and self._fd >= 0:
                os.fsync(self._fd)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
