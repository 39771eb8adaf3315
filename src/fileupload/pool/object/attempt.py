"""One attempt in an object pool: keys that only this attempt writes (see ``bucket_store`` for the protocol)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace

from fileupload.errors import AlreadyDone, FileMissing, Superseded
from fileupload.pool.base import Attempt
from fileupload.pool.object.bucket_store import DONE_ROLLBACK_WINDOW, ObjectBucketStore
from fileupload.pool.object.heartbeat import HeartbeatThread
from fileupload.pool.object.keys import attempt_id_of, data_prefix_of
from fileupload.pool.object.multipart_writer import ObjectWriter
from fileupload.pool.parts import FileWriter
from fileupload.status import State, UploadStatus, timestamp

_HEARTBEAT_INTERVAL = 5.0  # seconds between two heartbeats of an attempt that has received nothing new
_PROGRESS_INTERVAL = 0.5  # seconds within which a request publishes its progress itself, unless it waits for its client
_OWNERSHIP_CHECK_INTERVAL = 2.0  # seconds between two checks that the attempt still owns the bucket


class ObjectAttempt(Attempt):
    """An attempt whose files are under ``f/<data>/``; an attempt that resumes another one uses the files of the first.

    :ivar marker: the key of its marker.
    :ivar heartbeat_lock: held by the heartbeat thread while it calls :meth:`beat`.
    """

    def __init__(
        self,
        bucket: ObjectBucketStore,
        marker: str,
        status: UploadStatus,
        heartbeats: HeartbeatThread,
        files: int = 0,
    ) -> None:
        """Own the bucket by the key *marker*, which is written; send heartbeats from now on.

        :param files: the number of files that exist already.
        """
        super().__init__()
        self.token = attempt_id_of(marker)
        self.marker = marker
        self.status = status
        self._bucket = bucket
        self._store = bucket.store
        self._presence = bucket.presence
        self._heartbeats = heartbeats
        self._files = files
        self._writer: ObjectWriter | None = None
        self._closed = 0  # bytes of the files before the one that is being written
        self._published_at = self._checked_at = 0.0
        self._ownership_suspect = False  # the presence says that another attempt owns the bucket
        self._finishing = False  # `finish` has begun to write `d`
        self.heartbeat_lock = threading.Lock()
        self._presence.cache_owner(bucket.id, self.token)
        heartbeats.begin(self)

    def create_file(self) -> FileWriter:
        """Create the next object."""
        self._closed = self._stored()
        key = self._bucket.file_key(self.token, self._files)
        self._files += 1
        self._writer = self._make_writer(key)
        return self._writer

    def append_file(self) -> tuple[FileWriter, int]:
        """Continue the last object; the offset is what the store has of it."""
        if not self._files:
            raise FileMissing
        self._writer = self._make_writer(self._bucket.file_key(self.token, self._files - 1))
        return self._writer, self._writer.resume()

    def _make_writer(self, key: str) -> ObjectWriter:
        status = self.status
        return ObjectWriter(
            self._store, self._bucket.part_executor, key, expected=status.size, resumable=status.resumable
        )

    def discard_file(self) -> None:
        """Remove the last object."""
        self._files -= 1
        self._store.delete([self._bucket.file_key(self.token, self._files)])

    def publish(self, status: UploadStatus) -> None:
        """Show *status*, but not more often than the presence allows."""
        self.status = status
        now = time.monotonic()
        if self._ownership_suspect or (now - self._checked_at >= _OWNERSHIP_CHECK_INTERVAL and not self._is_marked()):
            self._confirm_ownership()
        if now - self._published_at >= self._presence.interval:
            self._publish()
            if self._ownership_suspect:
                self._confirm_ownership()

    def _is_marked(self) -> bool:
        self._checked_at = time.monotonic()
        return self._bucket.is_marked(self.marker)

    def beat(self) -> bool:
        """Publish the bytes received since the last publication, or the same status again as a heartbeat.

        The request cannot publish while it waits for a stalled client.

        :return: False if the bucket was cleared or taken over, so that no further heartbeat is needed. Without this
            check, the heartbeats of a stalled attempt would create keys in a cleared bucket until its client goes on.
        """
        has_news = self._stored() > self.status.received
        interval = max(self._presence.interval, _PROGRESS_INTERVAL) if has_news else _HEARTBEAT_INTERVAL
        now = time.monotonic()
        if now - self._published_at < interval:
            return True
        with suppress(OSError):  # if the store does not answer, the attempt still runs
            if now - self._checked_at >= _OWNERSHIP_CHECK_INTERVAL and not self._is_marked():
                self._presence.withdraw(self._bucket.id, self.token)
                return False
        self.status = replace(self.status, received=max(self.status.received, self._stored()))
        if has_news:  # other nodes recognise a stalled attempt by the age of this time
            self.status = replace(self.status, updated=timestamp())
        self._publish()
        return True

    def _publish(self) -> None:
        self._published_at = time.monotonic()
        record = replace(self.status, attempt=self.token).to_stored()
        if not self._presence.publish(self._bucket.id, self.token, record):
            self._ownership_suspect = True

    def _stored(self) -> int:
        """Return the bytes that were given to the writers of all files."""
        return self._closed + (self._writer.taken if self._writer else 0)

    def suspend(self, status: UploadStatus) -> None:
        """Store the bytes that do not fill a part, and publish that the attempt is suspended."""
        if self.inherited:
            raise Superseded
        self._heartbeats.end(self)  # even if the rest fails: this request ends here
        if self._writer is not None:
            self._writer.suspend()
        if self._finishing:
            self._roll_back_done()
        self._require_ownership()
        self.status = replace(status, suspended=True)
        self._presence.withdraw(self._bucket.id, self.token)
        self._bucket.write_progress(self.token, self.status)

    def _roll_back_done(self) -> None:
        """Remove our own ``d``, in case it was written although ``finish`` has failed."""
        status = self._bucket.status()
        if status.state is State.DONE and status.attempt == self.token:
            self._bucket.remove_done()

    def finish(self, status: UploadStatus) -> None:
        """Write ``d``, the conditional write that decides."""
        if self.inherited:
            raise Superseded
        self._require_ownership()
        record = replace(status, attempt=self.token).to_stored()
        begun = time.monotonic()
        self._finishing = True
        if not self._bucket.write_done(record):
            self._remove()
            raise Superseded
        # This writes `d`, then checks for a newer marker; begin() writes a marker, then checks for `d`. If the bucket
        # was cleared meanwhile, there is no marker at all, and `d` means nothing.
        if self._bucket.snapshot().newest != self.marker:
            if time.monotonic() - begun < DONE_ROLLBACK_WINDOW:
                self._bucket.remove_done()
            self._remove()
            raise Superseded
        self._heartbeats.end(self)
        if self._published_at:
            self._presence.withdraw(self._bucket.id, self.token)

    def fail(self, status: UploadStatus) -> None:
        """Remove the objects; leave *status* if the attempt still owns the bucket."""
        if self.inherited:
            return
        self._heartbeats.end(self)
        snapshot = self._bucket.snapshot()
        if snapshot.newest == self.marker and not snapshot.done:
            self._remove_files()
            self._presence.withdraw(self._bucket.id, self.token)
            self._bucket.write_progress(self.token, status)
        else:
            self._remove()

    def _confirm_ownership(self) -> None:
        self._checked_at = time.monotonic()
        self._require_ownership()
        if self._ownership_suspect:
            self._presence.cache_owner(self._bucket.id, self.token)  # corrects the note
            self._ownership_suspect = False

    def _require_ownership(self) -> None:
        snapshot = self._bucket.snapshot()
        if snapshot.newest != self.marker:
            self._remove()
            raise Superseded
        if snapshot.done:
            self._remove()
            raise AlreadyDone

    def _remove(self) -> None:
        """Remove all that this attempt has written."""
        self._heartbeats.end(self)
        with suppress(OSError):  # what stays has no marker, and is purged
            newest = self._bucket.snapshot().newest
            # If another attempt has resumed this one, it uses the same files.
            if newest is None or data_prefix_of(attempt_id_of(newest)) != data_prefix_of(self.token):
                self._remove_files()
            self._store.delete([self.marker, self._bucket.key("p", self.token)])
            self._presence.withdraw(self._bucket.id, self.token)

    def _remove_files(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._store.delete([self._bucket.file_key(self.token, number) for number in range(self._files)])
