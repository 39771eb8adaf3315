"""One attempt in an object store: keys that its owner alone writes."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from fileupload.errors import AlreadyDone, FileMissing, Superseded
from fileupload.pool.base import Attempt, FileWriter
from fileupload.pool.object.multipart_writer import ObjectWriter
from fileupload.pool.object.snapshot import attempt_id_of, data_prefix_of
from fileupload.status import State, UploadStatus, timestamp

if TYPE_CHECKING:
    from fileupload.pool.object.pool import ObjectPool

_HEARTBEAT_INTERVAL = 5.0  # seconds between two signs of life of an attempt of which there is nothing new
_PROGRESS_INTERVAL = 0.5  # seconds in which the owner shows by itself what is new, unless it waits for its client
_OWNERSHIP_CHECK_INTERVAL = 2.0  # seconds between two looks whether the bucket is still ours
_DONE_ROLLBACK_WINDOW = 20.0  # seconds for which we may take back our own "done"; see ObjectPool.STALE_AFTER


class ObjectAttempt(Attempt):
    """An attempt whose bytes go to ``b/<id>/f/<token>/``; one that resumed another goes on in that one's folder.

    :ivar heartbeat_lock: held while another thread shows a sign of life of it.
    """

    def __init__(self, pool: ObjectPool, bucket_id: str, marker: str, status: UploadStatus, files: int = 0) -> None:
        """Own the bucket by the key *marker*, which has been written.

        :param files: how many there are already.
        """
        self.token = attempt_id_of(marker)
        self.marker = marker
        self.id = bucket_id
        self.status = status
        self._pool = pool
        self._files = files
        self._writer: ObjectWriter | None = None
        self._closed = 0  # bytes of the files before the one that is written
        self._shown = self._looked = 0.0
        self._ownership_suspect = False  # the presence has news that the bucket is another's
        self._finishing = False
        self.heartbeat_lock = threading.Lock()

    def create_file(self) -> FileWriter:
        """Begin the next object."""
        self._closed = self._stored()
        key = self._file_key(self._files)
        self._files += 1
        self._writer = self._make_writer(key)
        return self._writer

    def append_file(self) -> tuple[FileWriter, int]:
        """Take up the last object; what is stored of it is where to go on."""
        if not self._files:
            raise FileMissing
        self._writer = self._make_writer(self._file_key(self._files - 1))
        return self._writer, self._writer.resume()

    def _make_writer(self, key: str) -> ObjectWriter:
        return ObjectWriter(
            self._pool.store, self._pool.part_executor, key, expected=self.status.size, resumable=self.status.resumable
        )

    def discard_file(self) -> None:
        """Remove the last object."""
        self._files -= 1
        self._pool.store.delete([self._file_key(self._files)])

    def publish(self, status: UploadStatus) -> None:
        """Show *status*, at most as often as the presence takes it."""
        self.status = status
        now = time.monotonic()
        if self._ownership_suspect or (now - self._looked >= _OWNERSHIP_CHECK_INTERVAL and not self._is_marked()):
            self._confirm_ownership()
        if now - self._shown >= self._pool.presence.interval:
            self._show()
            if self._ownership_suspect:
                self._confirm_ownership()

    def _is_marked(self) -> bool:
        """Tell whether our marker is there; who begins anew removes it. (It costs a twelfth of a listing.)"""
        self._looked = time.monotonic()
        try:
            self._pool.store.stat(self.marker)
        except FileNotFoundError:
            return False
        return True

    def beat(self) -> bool:
        """Show what has come since the last publication, or the same again as a sign of life.

        The owner cannot publish while it waits for a client that has stalled.

        :return: False if the bucket was cleared, or a newer attempt owns it: there is nothing more to show. Without
            this, what a stalled attempt shows after a clear would stay in the store for as long as its client stalls.
        """
        news = self._stored() > self.status.received
        interval = max(self._pool.presence.interval, _PROGRESS_INTERVAL) if news else _HEARTBEAT_INTERVAL
        now = time.monotonic()
        if now - self._shown < interval:
            return True
        with suppress(OSError):  # where the store cannot tell, the attempt is still alive
            if now - self._looked >= _OWNERSHIP_CHECK_INTERVAL and not self._is_marked():
                self._pool.presence.withdraw(self.id, self.token)
                return False
        self.status = replace(self.status, received=max(self.status.received, self._stored()))
        if news:  # by its age, others tell an attempt that is stalled
            self.status = replace(self.status, updated=timestamp())
        self._show()
        return True

    def _show(self) -> None:
        self._shown = time.monotonic()
        record = replace(self.status, attempt=self.token).to_record()
        if not self._pool.presence.publish(self.id, self.token, json.dumps(record)):
            self._ownership_suspect = True

    def _stored(self) -> int:
        """Return the bytes that have been taken into files."""
        return self._closed + (self._writer.taken if self._writer else 0)

    def suspend(self, status: UploadStatus) -> None:
        """Store what is not yet a part, and say that nobody is at it."""
        self._pool.heartbeats.end(self)  # also where the rest fails: nobody is at it any more
        if self._writer is not None:
            self._writer.suspend()
        if self._finishing:
            self._roll_back_done()
        self._require_ownership()
        self.status = replace(status, suspended=True)
        record = replace(self.status, attempt=self.token).to_record()
        self._pool.presence.withdraw(self.id, self.token)
        self._pool.store.put(self._pool.key(self.id, "p", self.token), json.dumps(record).encode())

    def _roll_back_done(self) -> None:
        """Remove our own "done", of which we could not learn that it is there."""
        status = self._pool.status(self.id)
        if status.state is State.DONE and status.attempt == self.token:
            self._pool.store.delete([self._pool.key(self.id, "d")])

    def finish(self, status: UploadStatus) -> None:
        """Let ``done`` name the objects: the one conditional write that decides."""
        self._require_ownership()
        record = json.dumps(replace(status, attempt=self.token).to_record()).encode()
        begun = time.monotonic()
        self._finishing = True
        if not self._pool.put_done(self.id, record):
            self._remove()
            raise Superseded
        # Who cleared the bucket meanwhile took our marker away, and "done" without it means nothing; who began anew is
        # about to take it away, unless it has seen "done".
        if self._pool.snapshot(self.id).newest != self.marker:
            if time.monotonic() - begun < _DONE_ROLLBACK_WINDOW:
                self._pool.store.delete([self._pool.key(self.id, "d")])
            self._remove()
            raise Superseded
        self._pool.heartbeats.end(self)
        if self._shown:
            self._pool.presence.withdraw(self.id, self.token)

    def fail(self, status: UploadStatus) -> None:
        """Remove the objects, and leave *status* if the bucket is still ours."""
        self._pool.heartbeats.end(self)
        view = self._pool.snapshot(self.id)
        if view.newest == self.marker and not view.done:
            self._remove_files()
            record = replace(status, attempt=self.token).to_record()
            self._pool.presence.withdraw(self.id, self.token)
            self._pool.store.put(self._pool.key(self.id, "p", self.token), json.dumps(record).encode())
        else:
            self._remove()

    def _confirm_ownership(self) -> None:
        self._looked = time.monotonic()
        self._require_ownership()
        if self._ownership_suspect:
            self._pool.presence.cache_owner(self.id, self.token)  # the store contradicts the news
            self._ownership_suspect = False

    def _require_ownership(self) -> None:
        view = self._pool.snapshot(self.id)
        if view.newest != self.marker:
            self._remove()
            raise Superseded
        if view.done:
            self._remove()
            raise AlreadyDone

    def _remove(self) -> None:
        """Remove all that this attempt has written."""
        self._pool.heartbeats.end(self)
        with suppress(OSError):  # what stays has no marker, and is purged
            newest = self._pool.snapshot(self.id).newest
            if newest is None or data_prefix_of(attempt_id_of(newest)) != data_prefix_of(self.token):
                self._remove_files()  # else they are those of who has resumed this attempt
            self._pool.store.delete([self.marker, self._pool.key(self.id, "p", self.token)])
            self._pool.presence.withdraw(self.id, self.token)

    def _remove_files(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._pool.store.delete([self._file_key(number) for number in range(self._files)])

    def _file_key(self, number: int) -> str:
        return self._pool.key(self.id, "f", data_prefix_of(self.token), str(number))
