"""One attempt in a directory pool: a directory in the bucket that only this attempt writes.

An attempt holds three descriptors as long as it runs: of the bucket's directory, of its own directory, and of the
liveness lock ``alive`` in it, which it holds with flock. The order of its steps is part of the protocol that
``bucket_store`` describes:

- ``begin`` locks ``alive`` before ``status.json`` names the attempt, so no reader can see a new attempt as crashed.
- ``publish`` replaces ``progress.json`` in the attempt's own directory, without a lock. If a newer attempt or a clear
  has removed that directory, the operation fails with ENOENT (on NFS with ESTALE), which is reported as ``Superseded``.
- ``finish`` syncs the files, then the bucket's directory, and only then renames ``status.json``: the status must not
  become durable before the names that it depends on.
- ``fail`` removes the files, writes the final status, and frees ``alive`` last: a reader that finds the lock free while
  the status still says "running" would report a crash.

``finish`` may fail after the rename, when syncing fails. The upload is then done for readers, but perhaps not after a
power failure. ``suspend`` and ``fail`` take that into account: both replace such a status.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Self

from fileupload.errors import Busy, FileMissing, Superseded, lacks_descriptors
from fileupload.pool.base import Attempt
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.bucket_store import (
    LIVENESS_LOCK,
    PROGRESS,
    DirectoryBucketStore,
    read_progress,
    remove_parts,
)
from fileupload.pool.directory.descriptor_limits import retried
from fileupload.pool.local_files import sync_names
from fileupload.pool.parts import FileWriter
from fileupload.status import State, UploadStatus

# Errors of an operation in the attempt's directory after another process removed it; ESTALE on a network file system.
_GONE = frozenset({errno.ENOENT, errno.ESTALE})


class DirectoryAttempt(Attempt):
    """An attempt whose files are in ``<bucket>/<token>/``."""

    def __init__(self, bucket: DirectoryBucketStore, status: UploadStatus) -> None:
        super().__init__()
        self.token = status.attempt or secrets.token_hex(8)
        self.status = status
        self._bucket = bucket
        self._files = 0
        self._writer: _FileWriter | None = None
        self._bucket_fd = self._attempt_fd = self._alive_fd = -1
        self._may_be_done = False  # `finish` has begun to replace the status

    @classmethod
    def begin(cls, bucket: DirectoryBucketStore, bucket_fd: int, status: UploadStatus) -> Self:
        """Create the attempt's directory and hold its liveness lock. The caller holds the bucket's lock."""
        attempt = cls(bucket, replace(status, attempt=""))
        fs.make_directory(attempt.token, bucket_fd)
        try:
            attempt._bucket_fd = os.dup(bucket_fd)
            attempt._attempt_fd = fs.open_directory(attempt.token, bucket_fd)
            attempt._alive_fd = fs.create_locked_file(LIVENESS_LOCK, attempt._attempt_fd)
        except BaseException:
            attempt.close()
            retried(partial(fs.remove_tree, attempt.token, bucket_fd))
            raise
        return attempt

    @classmethod
    def resume(cls, bucket: DirectoryBucketStore, bucket_fd: int, status: UploadStatus) -> Self:
        """Continue the attempt of *status* and hold its liveness lock. The caller holds the bucket's lock.

        :raises Busy: another process holds the liveness lock.
        """
        attempt = cls(bucket, status)
        try:
            attempt._bucket_fd = os.dup(bucket_fd)
            attempt._attempt_fd = fs.open_directory(attempt.token, bucket_fd)
            attempt._alive_fd = fs.open_for_locking(LIVENESS_LOCK, attempt._attempt_fd, create=True)
            if not fs.try_lock(attempt._alive_fd):
                raise Busy
            attempt.status = replace(read_progress(attempt._attempt_fd, status), suspended=False)
            attempt._files = sum(1 for name in os.listdir(attempt._attempt_fd) if name.isdigit())
            attempt._publish(attempt.status)
        except BaseException:
            attempt.close()
            raise
        return attempt

    def create_file(self) -> FileWriter:
        """Create the next file."""
        try:
            fd = retried(partial(fs.create_file, str(self._files), self._attempt_fd))
        except OSError as error:
            raise self._translate(error) from None
        self._files += 1
        self._writer = _FileWriter(fd, durable=self._bucket.durable)
        return self._writer

    def append_file(self) -> tuple[FileWriter, int]:
        """Open the last file again; its size is the offset."""
        if not self._files:
            raise FileMissing
        try:
            fd = retried(partial(fs.open_to_append, str(self._files - 1), self._attempt_fd))
        except OSError as error:
            raise self._translate(error) from None
        self._writer = _FileWriter(fd, durable=self._bucket.durable)
        return self._writer, os.fstat(fd).st_size

    def discard_file(self) -> None:
        """Remove the last file."""
        self._files -= 1
        fs.remove(str(self._files), self._attempt_fd)

    def publish(self, status: UploadStatus) -> None:
        """Replace the progress file; if no descriptor is left for that, leave it to the next call."""
        try:
            self._publish(status)
        except OSError as error:
            if not lacks_descriptors(error):
                raise
            with suppress(OSError):
                fs.remove(fs.temporary_name(PROGRESS), self._attempt_fd)

    def _publish(self, status: UploadStatus) -> None:
        self.status = status
        record = replace(status, attempt=self.token).to_stored()
        try:
            # On NFS, and on many file systems in user space, the attempt's directory cannot be removed while this
            # process has files in it open; only their names are gone.
            os.stat(LIVENESS_LOCK, dir_fd=self._attempt_fd, follow_symlinks=False)
            fs.replace_file(PROGRESS, record, self._attempt_fd, durable=False)
        except OSError as error:
            raise self._translate(error) from None

    def suspend(self, status: UploadStatus) -> None:
        """Sync the stored bytes and free the liveness lock."""
        try:
            if self.inherited:
                raise Superseded
            if self._writer is not None:
                self._writer.close()
            if self._bucket.durable:
                sync_names(self._attempt_fd)
            if self._may_be_done:
                retried(partial(self._roll_back_done, status))
            retried(partial(self._publish, replace(status, suspended=True)))
        except OSError as error:
            raise self._translate(error) from None
        finally:
            self.close()

    def _roll_back_done(self, status: UploadStatus) -> None:
        """Replace the status of a finished upload that could not be made durable by *status*."""
        with self._bucket.lock_open_directory(self._bucket_fd):
            self._require_ownership()
            self._bucket.write_status(self._bucket_fd, replace(status, attempt=self.token))

    def finish(self, status: UploadStatus) -> None:
        """Make the files durable, then replace ``status.json`` by the final status."""
        if self.inherited:
            raise Superseded
        try:
            if self._bucket.durable:
                sync_names(self._attempt_fd)
            retried(partial(self._make_done, replace(status, attempt=self.token)))
        except OSError as error:
            raise self._translate(error) from None
        with suppress(OSError):  # the upload is done; readers ignore these files from now on
            for name in (PROGRESS, LIVENESS_LOCK):
                fs.remove(name, self._attempt_fd)
            if self.status.direct:
                remove_parts(self._attempt_fd)
        self.close()

    def _make_done(self, done: UploadStatus) -> None:
        """Replace the status by *done*; may be called again after a failure."""
        with self._bucket.lock_open_directory(self._bucket_fd):
            self._require_ownership()
            if self._bucket.durable:
                sync_names(self._bucket_fd)  # the name of the attempt's directory, before the status that mentions it
            self._may_be_done = True
            self._bucket.write_status(self._bucket_fd, done, durable=self._bucket.durable)
            if self._bucket.durable:
                self._bucket.sync_names(self._bucket_fd)

    def fail(self, status: UploadStatus) -> None:
        """Remove the attempt's directory; leave *status* if the attempt still owns the bucket."""
        try:
            if self._writer is not None:
                self._writer.abandon()  # frees a descriptor, which the next steps need
            if self.inherited:
                return
            retried(partial(self._remove, replace(status, attempt=self.token)))
        except FileNotFoundError:
            return
        finally:
            self.close()

    def _remove(self, failed: UploadStatus) -> None:
        """Remove the attempt and leave *failed* in its place; may be called again after a failure."""
        with self._bucket.lock_open_directory(self._bucket_fd) as lock:
            current = self._bucket.read_status(self._bucket_fd)
            if current.attempt == self.token and self._attempt_fd >= 0:
                if current.state is State.DONE:  # replaced by `finish`, and then not made durable
                    self._bucket.remove_status(self._bucket_fd)
                self._remove_bytes()
                self._bucket.write_status(self._bucket_fd, failed)
            # The liveness lock is freed last: until the final status is there, no reader may see a crash.
            self._release()
            fs.remove_tree(self.token, self._bucket_fd)
            self._bucket.remove_if_empty(self._bucket_fd, lock)

    def _remove_bytes(self) -> None:
        """Remove the files before the status is written, which needs their space on a full disk."""
        for number in range(self._files):
            fs.remove(str(number), self._attempt_fd)

    def close(self) -> None:
        """Close all descriptors, which frees the liveness lock."""
        self._release()
        if self._bucket_fd >= 0:
            os.close(self._bucket_fd)
            self._bucket_fd = -1

    def _release(self) -> None:
        """Close the descriptors in the attempt's directory, the liveness lock among them."""
        if self._writer is not None:
            self._writer.abandon()
        for fd in (self._alive_fd, self._attempt_fd):
            if fd >= 0:
                fs.close(fd)
        self._attempt_fd = self._alive_fd = -1

    def _require_ownership(self) -> None:
        if self._bucket.read_status(self._bucket_fd).attempt != self.token:
            raise Superseded

    def _translate(self, error: OSError) -> Exception:
        """Return the exception to raise for an *error* in the attempt's own directory."""
        return Superseded() if error.errno in _GONE else error


class _FileWriter(FileWriter):
    """Writes a file without a buffer: chunks are large, and a buffer would copy them once more."""

    def __init__(self, fd: int, *, durable: bool) -> None:
        self._fd = fd
        self._durable = durable

    def write(self, data: bytes) -> None:
        """Write all of *data*."""
        fs.write_all(self._fd, data)

    def close(self) -> None:
        """Sync the file, if the pool is durable, and close it."""
        try:
            if self._durable and self._fd >= 0:
                os.fsync(self._fd)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            fs.close(self._fd)
            self._fd = -1
