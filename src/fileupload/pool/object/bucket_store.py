"""The keys of one bucket in an object pool: the writer of each key, and why simultaneous writers do no harm.

An object store has no locks and no transactions. Few stores support If-Match on PUT; all current ones support
If-None-Match: *. So nothing here replaces a key under a condition, and each key has one writer (see ``keys`` for the
layout):

=====================  ================================  ===============================================================
key                    written by                        when
=====================  ================================  ===============================================================
``a/<order>-<token>``  the attempt <token>               once, when it begins or resumes; never changed
``f/<data>/…``         the attempt that uses <data>      while it runs
``p/<token>``          the attempt <token>               while it runs (the presence), and when it is suspended or fails
``d``                  the attempt that finishes         once, with If-None-Match: *
``k``                  a process that keeps the upload   at any time after ``d``
``x``                  a process that clears the bucket  with If-None-Match: *, before the removal
=====================  ================================  ===============================================================

*Owner.* The marker ``a/…`` with the highest order is that of the attempt that owns the bucket. The order is a time in
milliseconds, but always higher than that of every marker seen before: a fencing token. An attempt checks that its
marker is still the newest every two seconds while it runs, and before it finishes. If not, it removes what it wrote and
raises ``Superseded``. Until it notices it can do no harm: its keys are its own.

*Begin against finish.* ``finish`` writes ``d``, then checks for a newer marker; ``begin`` writes a marker, then checks
for ``d``. One of them sees the other:

- ``begin`` sees ``d``: it removes its own marker again and reports ``AlreadyDone``.
- ``finish`` sees the newer marker: it removes ``d`` and reports ``Superseded``. It does so only within
  DONE_ROLLBACK_WINDOW: after STALE_AFTER another attempt may have replaced a ``d`` without a marker by its own.
- Both see each other: neither attempt keeps the bucket. Each client gets its error, and may send again.

*Done.* ``d`` counts only as long as the attempt that it names has a marker. So a bucket is cleared by removing the
markers: a late ``d`` of an attempt that did not notice means nothing.

*Clear.* A clear takes a snapshot, writes ``x``, and takes another. It goes on only if the markers are the same and the
condition still holds, then removes the markers, everything else, and ``x`` last. An attempt that finishes after the
second snapshot finds its marker gone, and fails.

*Keep.* ``keep`` writes ``k``, then waits while ``x`` is there; a conditional clear writes ``x``, then checks for ``k``.
One of them sees the other, so an upload that was reported as kept is never cleared by a condition that excludes it. An
``x`` that is older than STALE_AFTER was left by a crash, and is ignored.

*Crash.* An attempt without a heartbeat for ``dead_after`` seconds counts as crashed. If it is alive after all, it is
merely superseded. A crash before ``d`` leaves a failed (or suspended) upload, a crash after it a finished one. Keys
without a marker count for nothing, and are purged.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace

from fileupload.errors import AlreadyDone, FileMissing, Interrupted
from fileupload.pool.base import Condition
from fileupload.pool.object.keys import CLEARING, DONE, KEPT, MARKERS, attempt_id_of, bucket_prefix, data_prefix_of
from fileupload.pool.object.presence import PresenceStore
from fileupload.pool.object.refusals import ObjectRefusals
from fileupload.pool.object.snapshot import BucketSnapshot
from fileupload.pool.object.store import ObjectStore
from fileupload.status import InvalidRecord, State, UploadStatus

STALE_AFTER = 60.0  # seconds after which a `d` without its marker, or an `x`, counts as left by a crash
DONE_ROLLBACK_WINDOW = 20.0  # seconds for which an attempt may remove its own `d`; well below STALE_AFTER
_CLEAR_POLL_INTERVAL = 0.1  # seconds between two checks whether `x` is gone


class ObjectBucketStore:
    """Reads and writes the state of one bucket.

    :ivar id: the id of the bucket.
    :ivar store: the object store.
    :ivar presence: shows running attempts to other nodes.
    :ivar part_executor: sends the parts of large files.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        bucket_id: str,
        *,
        presence: PresenceStore,
        refusals: ObjectRefusals,
        part_executor: Executor,
        dead_after: float,
    ) -> None:
        """Use the keys of the pool that begin with *prefix*.

        :param dead_after: seconds without a heartbeat after which an attempt counts as crashed.
        """
        self.id = bucket_id
        self.store = store
        self.presence = presence
        self.part_executor = part_executor
        self._prefix = bucket_prefix(prefix, bucket_id)
        self._refusals = refusals
        self._dead_after = dead_after

    def key(self, *names: str) -> str:
        """Return the key of something in the bucket."""
        return self._prefix + "/".join(names)

    def file_key(self, token: str, number: int) -> str:
        """Return the key of a file of the attempt *token*."""
        return self.key("f", data_prefix_of(token), str(number))

    def count_files(self, token: str, snapshot: BucketSnapshot) -> int:
        """Return how many files the attempt *token* has begun, as far as they have left keys."""
        prefix = self.key("f", data_prefix_of(token), "")
        return len({key.removeprefix(prefix).partition(".")[0] for key in snapshot.keys if key.startswith(prefix)})

    def snapshot(self) -> BucketSnapshot:
        """List the keys of the bucket."""
        return BucketSnapshot.of(self._prefix, self.store.list(self._prefix))

    def is_done(self) -> bool:
        """Return whether the upload is finished; one request if there is no ``d``."""
        try:
            self.store.stat(self.key(DONE))
        except FileNotFoundError:
            return False
        return self.read_done(self.snapshot()) is not None

    def is_marked(self, marker: str) -> bool:
        """Return whether an attempt still has its *marker*; a twelfth of the cost of a snapshot."""
        try:
            self.store.stat(marker)
        except FileNotFoundError:
            return False
        return True

    def status(self) -> UploadStatus:
        """Return the status of the bucket; without a bucket that of a recorded refusal, else unknown.

        The parts of a direct upload are not counted.
        """
        status = self.status_of(self.snapshot())
        return self._refusals.read(self.id) or status if status.state is State.UNKNOWN else status

    def status_of(self, snapshot: BucketSnapshot) -> UploadStatus:
        """Return the status of the bucket at the time of the *snapshot*; unknown if it did not exist."""
        if (done := self.read_done(snapshot)) is not None:
            return done
        if snapshot.newest is None:
            return UploadStatus(state=State.UNKNOWN)
        token = attempt_id_of(snapshot.newest)
        status = self._read_progress(snapshot, token)
        if not status.running or self.presence.is_alive(self.id, token, snapshot.age, self._dead_after):
            return status
        return replace(status, suspended=True) if status.resumable else status.failed(Interrupted(), at=status.updated)

    def read_done(self, snapshot: BucketSnapshot) -> UploadStatus | None:
        """Return the status of the finished upload, or None if there is no ``d`` that counts."""
        if not snapshot.done:
            return None
        try:
            status = UploadStatus.from_stored(self.store.get(self.key(DONE)))
        except (FileNotFoundError, InvalidRecord):
            return None
        counts = any(marker.endswith("-" + status.attempt) for marker in snapshot.markers)
        return replace(status, kept=snapshot.kept) if counts else None

    def _read_progress(self, snapshot: BucketSnapshot, token: str) -> UploadStatus:
        key = self.key("p", token)
        last = _read(lambda: self.store.get(key)) if key in snapshot.keys else None
        # A status that does not run is final. Otherwise Redis may have a newer one; an old one there must not count
        # before a final status in the store.
        if last is None or last.running:
            last = _read(lambda: self.presence.get(self.id, token)) or last
        return last or _read(lambda: self.store.get(snapshot.newest or "")) or UploadStatus(state=State.UNKNOWN)

    def write_progress(self, token: str, status: UploadStatus) -> None:
        """Write ``p/<token>``: the attempt *token* is suspended or has failed."""
        self.store.put(self.key("p", token), replace(status, attempt=token).to_stored())

    def write_marker(self, status: UploadStatus, snapshot: BucketSnapshot, data: str = "") -> str:
        """Write the marker of a new attempt, remove what older ones wrote, and return the key of the marker.

        :param snapshot: of the bucket before the attempt.
        :param data: data prefix of the attempt that is resumed; its files are not removed.
        :raises AlreadyDone: an older attempt has finished since the *snapshot*.
        """
        last = int(snapshot.newest.rpartition("/")[2].partition("-")[0]) if snapshot.newest else 0
        token = secrets.token_hex(8) + (f"_{data}" if data else "")
        marker = self.key(f"{MARKERS}{max(int(time.time() * 1000), last + 1):015d}-{token}")
        self.store.put(marker, replace(status, attempt=token).to_stored())
        # finish() writes `d`, then checks for a newer marker; this writes a marker, then checks for `d`. Without an
        # older marker no attempt can finish.
        if snapshot.markers and self.read_done(self.snapshot()) is not None:
            self.store.delete([marker])
            raise AlreadyDone
        self._remove_older(snapshot, data)
        return marker

    def _remove_older(self, snapshot: BucketSnapshot, data: str) -> None:
        """Remove all keys in the *snapshot*, except ``d`` and the files under *data*."""
        kept = (self.key(DONE), self.key("f", data, "") if data else "\0")
        # Markers first: after that, nothing that an older attempt writes counts.
        self.store.delete(snapshot.markers)
        self.store.delete(key for key in snapshot.keys if key not in snapshot.markers and not key.startswith(kept))
        if prefixes := {data_prefix_of(attempt_id_of(marker)) for marker in snapshot.markers} - {data}:
            for key, upload, _ in list(self.store.list_multipart_uploads(self.key("f", ""))):
                if any(f"/f/{prefix}/" in key for prefix in prefixes):
                    self.store.abort_multipart_upload(key, upload)

    def write_done(self, record: bytes) -> bool:
        """Write ``d`` if there is none; False if there is one that counts, or may count soon."""
        key = self.key(DONE)
        if self.store.put(key, record, new=True):
            return True
        snapshot = self.snapshot()
        if self.read_done(snapshot) is not None or snapshot.done_age < STALE_AFTER:
            return False
        # Left by an attempt that crashed after its bucket was cleared.
        self.store.delete([key])
        return self.store.put(key, record, new=True)

    def remove_done(self) -> None:
        """Remove ``d``, which the caller has written a moment ago."""
        self.store.delete([self.key(DONE)])

    def keep(self, attempt: str) -> None:
        """Exempt the finished upload of that *attempt* from purging.

        :raises FileMissing: it was cleared meanwhile.
        :raises TimeoutError: another process has been clearing the bucket for STALE_AFTER seconds.
        """
        key = self.key(KEPT)
        self.store.put(key, b"")
        # A conditional clear writes `x`, then checks for `k`; this writes `k`, then checks for `x`. One of them sees
        # the other, so an upload that is reported as kept is not cleared afterwards.
        deadline = time.monotonic() + STALE_AFTER
        while self.key(CLEARING) in (snapshot := self.snapshot()).keys and snapshot.clearing_age < STALE_AFTER:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the bucket is being cleared")
            time.sleep(_CLEAR_POLL_INTERVAL)
        done = self.read_done(snapshot)
        if done is None:
            self.store.delete([key])
        if done is None or done.attempt != attempt:
            raise FileMissing

    def record_refusal(self, status: UploadStatus) -> None:
        """Store *status* in the register of refusals, or in a failed bucket of the same owner."""
        snapshot = self.snapshot()
        current = self.status_of(snapshot)
        if current.state is State.UNKNOWN:
            self._refusals.write(self.id, status)
        elif current.state is State.ERROR and current.owner == status.owner:
            self.write_marker(status, snapshot)

    def clear(self, condition: Condition | None = None) -> bool:
        """Remove the bucket, or the refusal of one that does not exist; False if *condition* does not hold."""
        snapshot = self.snapshot()
        if not snapshot.markers and self._refusals.remove(self.id, condition or (lambda _: True)):
            return True
        return self.clear_unchanged(snapshot, condition)

    def clear_unchanged(self, snapshot: BucketSnapshot, condition: Condition | None) -> bool:
        """Remove the bucket if it has the attempts of the *snapshot*, and *condition* holds of its status."""
        if not snapshot.keys or (condition is not None and not condition(self.status_of(snapshot))):
            return False
        claim = self.key(CLEARING)
        if claim in snapshot.keys and snapshot.clearing_age > STALE_AFTER:
            self.store.delete([claim])  # left by a crash
        if not self.store.put(claim, b"", new=True):
            return False  # another process clears the bucket
        # A process that writes `x` after another clear has ended finds other markers, or none.
        current = self.snapshot()
        cleared = current.markers == snapshot.markers
        # Again, now that `x` is written: since the first check the attempt may have finished, or the upload been kept.
        # An attempt that finishes after this snapshot finds its marker gone, and fails.
        if cleared and condition is not None:
            cleared = condition(self.status_of(current))
        if cleared:
            # Before the bucket is unknown, because from then on its status is looked up in the register.
            self._refusals.remove(self.id, lambda _: True)
            self.store.delete(current.markers)
            self.presence.cache_owner(self.id, "")
            self.store.delete(key for key in current.keys if key not in current.markers and key != claim)
            for key, upload, _ in list(self.store.list_multipart_uploads(self.key("f", ""))):
                self.store.abort_multipart_upload(key, upload)
        self.store.delete([claim])
        return cleared and bool(snapshot.markers)


def _read(read: Callable[[], str | bytes | None]) -> UploadStatus | None:
    """Return the status that *read* returns as text; None if there is none, or it is no record."""
    with suppress(FileNotFoundError, InvalidRecord):
        if (text := read()) is not None:
            return UploadStatus.from_stored(text)
    return None
