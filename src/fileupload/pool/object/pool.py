"""The pool in an object store.

::

    <prefix>/.upload_key                    the signing key, if none is set
    <prefix>/turns/<name>-<number>          who took a turn
    <prefix>/refused/<slot>                 uploads that were refused before their first byte
    <prefix>/index/…                        what applications know of their buckets
    <prefix>/b/ab12…/                       one bucket
        a/<order>-<token>                   an attempt, with its first status; never changed
        p/<token>                           how it stands, or how it failed; written by its owner alone
        f/<token>/0, 1, …                   its files
        d                                   done: the status; written once, and only if it is not there
        k                                   kept from purging
        x                                   somebody clears it

- The attempt with the highest order owns the bucket. *Done* is one conditional write of ``d``; it counts as long as the
  attempt that it names is there, so that who clears a bucket has done so with the removal of ``a/…``.
- A store has no locks. A running attempt shows a sign of life at least every few seconds, and one that has shown none
  for long is taken for dead; should it be alive after all, nothing but its own keys is in its hands.
"""

from __future__ import annotations

import errno
import json
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fileupload.errors import AlreadyDone, Busy, FileMissing, Interrupted, NotResumable
from fileupload.identifiers import is_id, new_key
from fileupload.pool.base import Condition, Pool, is_stalled
from fileupload.pool.object.attempt import ObjectAttempt
from fileupload.pool.object.bucket import ObjectBucket
from fileupload.pool.object.direct import ObjectDirect
from fileupload.pool.object.heartbeat import HeartbeatThread
from fileupload.pool.object.index import ObjectIndex
from fileupload.pool.object.presence import ObjectPresence, PresenceStore
from fileupload.pool.object.refusals import ObjectRefusals
from fileupload.pool.object.snapshot import BucketSnapshot, attempt_id_of, data_prefix_of
from fileupload.pool.object.store import ObjectStore
from fileupload.status import FOREIGN, RUNNING, State, UploadStatus, seconds_of, timestamp

_PART_UPLOAD_THREADS = 32  # parts that a process sends at once
DEAD_AFTER = 30.0  # seconds without a sign of life
_CLAIM_POLL = 0.1  # seconds between two looks whether a claim to clear has gone
STALE_AFTER = 60.0  # seconds after which a "done" without its attempt, or a claim to clear, is nobody's any more


class ObjectPool(Pool):
    """Uploads in an object store, shared by any number of nodes that know nothing of each other."""

    def __init__(self, store: ObjectStore, prefix: str, *, dead_after: float = DEAD_AFTER) -> None:
        """Use the keys below *prefix*, which may be empty.

        :param dead_after: seconds without a sign of life after which an attempt is taken for dead.
        """
        self.store = store
        self._dead_after = dead_after
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.presence: PresenceStore = ObjectPresence(store, lambda bucket_id, token: self.key(bucket_id, "p", token))
        self.refusals = ObjectRefusals(store, self.prefix)
        self.index = ObjectIndex(store, self.prefix + "index/")
        self.part_executor = ThreadPoolExecutor(_PART_UPLOAD_THREADS, thread_name_prefix="fileupload-part")
        self.heartbeats = HeartbeatThread()
        self._turns: dict[str, str] = {}  # the last span of each name in which we have asked for the turn

    def key(self, bucket_id: str, *words: str) -> str:
        """Return the key of something in a bucket."""
        if not is_id(bucket_id):
            raise ValueError("not the id of a bucket")
        return f"{self.prefix}b/{bucket_id}/{'/'.join(words)}"

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys in ``.upload_key``; the first process that finds none writes *held* there, or a new one."""
        name = self.prefix + ".upload_key"
        with suppress(FileNotFoundError):
            return tuple(self.store.get(name).decode().split())
        self.store.put(name, "\n".join(held or (new_key(),)).encode(), new=True)
        return tuple(self.store.get(name).decode().split())

    def bucket(self, bucket_id: str) -> ObjectBucket:
        """Return the bucket of that id, without a look at whether it is there."""
        return ObjectBucket(self, bucket_id)

    def buckets(self) -> Iterator[ObjectBucket]:
        """Yield all buckets."""
        for name in self.store.common_prefixes(self.prefix + "b/"):
            if is_id(name):
                yield ObjectBucket(self, name)

    def snapshot(self, bucket_id: str) -> BucketSnapshot:
        """Return what lies under a bucket now."""
        return BucketSnapshot.of(self.key(bucket_id), self.store.list(self.key(bucket_id)))

    def is_done(self, bucket_id: str) -> bool:
        """Look whether "done" is there, by one request, and only then whether it counts."""
        try:
            self.store.stat(self.key(bucket_id, "d"))
        except FileNotFoundError:
            return False
        return self._read_done(bucket_id, self.snapshot(bucket_id)) is not None

    def begin(self, bucket_id: str, status: UploadStatus) -> ObjectAttempt:
        """Begin an attempt with a marker newer than all that are there, and remove what the older ones wrote."""
        view = self.snapshot(bucket_id)
        if self._read_done(bucket_id, view) is not None:
            raise AlreadyDone
        attempt = ObjectAttempt(self, bucket_id, self._mark(bucket_id, status, view), status)
        self._own(attempt)
        return attempt

    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> ObjectDirect:
        """Return the object of an attempt to which the client has addresses."""
        return ObjectDirect(self, bucket_id, attempt, terms)

    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Keep *status* in the register, or in a bucket whose upload has failed."""
        view = self.snapshot(bucket_id)
        current = self._status(bucket_id, view)
        if current.state is State.UNKNOWN:
            self.refusals.write(bucket_id, status)
        elif current.state is State.ERROR and current.owner == status.owner:
            self._mark(bucket_id, status, view)

    def resume(self, bucket_id: str) -> ObjectAttempt:
        """Take up an attempt under a newer marker, by which the one who was at it learns that it is so no more."""
        view = self.snapshot(bucket_id)
        status = self._status(bucket_id, view)
        if status.state is State.DONE:
            raise AlreadyDone
        if view.newest is None or status.state not in RUNNING or not status.resumable:
            raise NotResumable
        if not status.suspended or not self.presence.acquire_resume_lease(bucket_id, attempt_id_of(view.newest)):
            raise Busy
        data = data_prefix_of(attempt_id_of(view.newest))
        folder = self.key(bucket_id, "f", data) + "/"
        names = {key.removeprefix(folder).partition(".")[0] for key in view.keys if key.startswith(folder)}
        status = replace(status, suspended=False)
        marker = self._mark(bucket_id, status, view, data)
        if self.snapshot(bucket_id).newest != marker:
            raise Busy  # another was faster
        attempt = ObjectAttempt(self, bucket_id, marker, status, len(names))
        self._own(attempt)
        return attempt

    def _mark(self, bucket_id: str, status: UploadStatus, view: BucketSnapshot, data: str = "") -> str:
        """Write the marker of a new attempt, and remove what older ones have left; return its key.

        :param data: the folder of the attempt that is resumed.
        :raises AlreadyDone: one of them has finished meanwhile.
        """
        last = int(view.newest.rpartition("/")[2].partition("-")[0]) if view.newest else 0
        token = secrets.token_hex(8) + (f"_{data}" if data else "")
        marker = self.key(bucket_id, "a", f"{max(int(time.time() * 1000), last + 1):015d}-{token}")
        self.store.put(marker, json.dumps(replace(status, attempt=token).to_record()).encode())
        # Who finishes looks for a newer marker after "done", who begins for "done" after the marker: not both miss it.
        if view.markers and self._read_done(bucket_id, self.snapshot(bucket_id)) is not None:
            self.store.delete([marker])
            raise AlreadyDone
        self._remove_older(bucket_id, view, data)
        return marker

    def _own(self, attempt: ObjectAttempt) -> None:
        """Show from now on that *attempt* lives, and that the bucket is its."""
        self.presence.cache_owner(attempt.id, attempt.token)
        self.heartbeats.begin(attempt)

    def _remove_older(self, bucket_id: str, view: BucketSnapshot, data: str) -> None:
        """Remove what attempts before have left, but for the files in the folder *data*."""
        kept = (self.key(bucket_id, "d"), self.key(bucket_id, "f", data) + "/" if data else "\0")
        # Markers first: without one, nothing of an attempt counts.
        self.store.delete(view.markers)
        self.store.delete(key for key in view.keys if key not in view.markers and not key.startswith(kept))
        if folders := {data_prefix_of(attempt_id_of(marker)) for marker in view.markers} - {data}:
            for key, upload, _ in list(self.store.list_multipart_uploads(self.key(bucket_id, "f", ""))):
                if any(f"/f/{folder}/" in key for folder in folders):
                    self.store.abort_multipart_upload(key, upload)

    def put_done(self, bucket_id: str, record: bytes) -> bool:
        """Write ``d`` if it is not there; False if it is, and counts."""
        key = self.key(bucket_id, "d")
        if self.store.put(key, record, new=True):
            return True
        view = self.snapshot(bucket_id)
        if self._read_done(bucket_id, view) is not None or view.done_age < STALE_AFTER:
            return False
        self.store.delete([key])
        return self.store.put(key, record, new=True)

    def _read_done(self, bucket_id: str, view: BucketSnapshot) -> UploadStatus | None:
        """Return the status of a finished upload, or None if none counts."""
        if not view.done:
            return None
        try:
            status = UploadStatus.from_record(json.loads(self.store.get(self.key(bucket_id, "d"))))
        except (FileNotFoundError, *FOREIGN):
            return None
        counts = any(marker.endswith("-" + status.attempt) for marker in view.markers)
        return replace(status, kept=view.kept) if counts else None

    def status(self, bucket_id: str) -> UploadStatus:
        """Return what is known of an upload now; unknown if there is none."""
        status = self._measured(bucket_id, self._status(bucket_id, self.snapshot(bucket_id)))
        return self.refusals.read(bucket_id) or status if status.state is State.UNKNOWN else status

    def _measured(self, bucket_id: str, status: UploadStatus) -> UploadStatus:
        """Return the *status* of a direct upload with what the client has sent by itself, and when."""
        if status.direct is None or status.state not in RUNNING:
            return status
        parts = self.direct(bucket_id, status.attempt).parts()
        moments = [status.updated or "", *(timestamp(time.time() - part.age) for part in parts)]
        return replace(status, received=sum(part.size for part in parts), updated=max(moments) or None)

    def _status(self, bucket_id: str, view: BucketSnapshot) -> UploadStatus:
        if (done := self._read_done(bucket_id, view)) is not None:
            return done
        if view.newest is None:
            return UploadStatus(state=State.UNKNOWN)
        token = attempt_id_of(view.newest)
        status = self._read_progress(bucket_id, view, token)
        if not status.running or self.presence.is_alive(bucket_id, token, view.age, self._dead_after):
            return status
        return replace(status, suspended=True) if status.resumable else status.failed(Interrupted(), at=status.updated)

    def _read_progress(self, bucket_id: str, view: BucketSnapshot, token: str) -> UploadStatus:
        stored = self.key(bucket_id, "p", token)
        last = self._parsed(lambda: self.store.get(stored)) if stored in view.keys else None
        if last is None or last.running:  # else it has ended, of which the presence need not have heard
            last = self._parsed(lambda: self.presence.get(bucket_id, token)) or last
        return last or self._parsed(lambda: self.store.get(view.newest or "")) or UploadStatus(state=State.UNKNOWN)

    @staticmethod
    def _parsed(read: Callable[[], str | bytes | None]) -> UploadStatus | None:
        with suppress(FileNotFoundError, *FOREIGN):
            if (text := read()) is not None:
                return UploadStatus.from_record(json.loads(text))
        return None

    def put_kept(self, bucket_id: str, attempt: str) -> None:
        """Exempt the finished upload of that *attempt* from purging.

        :raises FileMissing: it was cleared meanwhile.
        """
        key = self.key(bucket_id, "k")
        self.store.put(key, b"")
        # A conditional clear writes its claim and then looks for the mark; this writes the mark and then looks for a
        # claim. So at least one of the two sees the other, and what is told to be kept is never cleared after that.
        deadline = time.monotonic() + STALE_AFTER
        while self.key(bucket_id, "x") in (view := self.snapshot(bucket_id)).keys and view.claim_age < STALE_AFTER:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the bucket is being cleared")
            time.sleep(_CLAIM_POLL)
        done = self._read_done(bucket_id, view)
        if done is None:
            self.store.delete([key])
        if done is None or done.attempt != attempt:
            raise FileMissing

    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove the markers, by which the bucket is gone, and then all else."""

        def holds(status: UploadStatus) -> bool:
            return not (unless_kept and status.kept) and (condition is None or condition(status))

        view = self.snapshot(bucket_id)
        if not view.markers and self.refusals.remove(bucket_id, holds):
            return True
        conditional = unless_kept or condition is not None
        return self._clear(bucket_id, view, holds if conditional else None)

    def _clear(self, bucket_id: str, view: BucketSnapshot, condition: Condition | None) -> bool:
        """Remove the bucket if it is as in *view*, and *condition* holds of its status."""
        if not view.keys or (condition is not None and not condition(self._status(bucket_id, view))):
            return False
        claim = self.key(bucket_id, "x")
        if claim in view.keys and view.claim_age > STALE_AFTER:
            self.store.delete([claim])  # whoever made it has died on the way
        if not self.store.put(claim, b"", new=True):
            return False  # another is at it
        # Who is the first only after another has ended was not the first.
        current = self.snapshot(bucket_id)
        first = current.markers == view.markers
        # Once more, under the claim: since the first look, the attempt may have finished, or the upload been kept. An
        # attempt that finishes after this look finds its marker gone, and fails.
        if first and condition is not None:
            first = condition(self._status(bucket_id, current))
        if first:
            # Before the bucket is absent: from then on the register would be asked for its status.
            self.refusals.remove(bucket_id, lambda _: True)
            self.store.delete(current.markers)
            self.presence.cache_owner(bucket_id, "")
            self.store.delete(key for key in current.keys if key not in current.markers and key != claim)
            for key, upload, _ in list(self.store.list_multipart_uploads(self.key(bucket_id, "f", ""))):
                self.store.abort_multipart_upload(key, upload)
        self.store.delete([claim])
        return first and bool(view.markers)

    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[ObjectBucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds."""
        for bucket in self.buckets():
            with suppress(OSError):
                view = self.snapshot(bucket.id)
                seen = self._status(bucket.id, view)
                status = self._measured(bucket.id, seen)
                if view.kept or self._idle(status, view) < older_than:
                    continue
                if status.running and not is_stalled(status, older_than):
                    continue
                # Of a bucket without a marker nothing counts, and a clear tells that there was none.
                if dry_run or self._clear(bucket.id, view, partial(_is_unchanged, seen)) or not view.markers:
                    yield bucket
        if not dry_run:
            for key, upload, age in list(self.store.list_multipart_uploads(self.prefix + "b/")):
                if age >= max(older_than, self._dead_after) and not self._is_used(key, older_than):
                    self.store.abort_multipart_upload(key, upload)

    @staticmethod
    def _idle(status: UploadStatus, view: BucketSnapshot) -> float:
        moment = status.updated or status.started
        return view.age if moment is None else time.time() - seconds_of(moment)

    def _is_used(self, key: str, older_than: float) -> bool:
        """Tell whether something has happened in the last *older_than* seconds in the upload that *key* belongs to."""
        bucket_id = key.removeprefix(self.prefix + "b/").partition("/")[0]
        if not is_id(bucket_id):
            return False
        status = self.status(bucket_id)
        if status.state not in RUNNING or data_prefix_of(status.attempt) not in key:
            return False
        return status.running or time.time() - seconds_of(status.updated or timestamp(0)) < older_than

    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True to the first who asks in each span of *interval* seconds."""
        number = int(time.time() / max(interval, 1.0))
        prefix = f"{self.prefix}turns/{name}-"
        key = f"{prefix}{number}"
        # Each request may ask; the store is asked once in a span.
        if self._turns.get(name) == key:
            return False
        taken = self.store.put(key, timestamp().encode(), new=True)
        self._turns[name] = key
        if not taken:
            return False
        self.store.delete([each.key for each in self.store.list(prefix) if each.key != key])
        return True

    def free_space(self) -> int | None:
        """Return None: a store has room."""
        return None


def _is_unchanged(seen: UploadStatus, now: UploadStatus) -> bool:
    """Tell whether a bucket whose attempt is still the same may be removed for what was *seen* of it."""
    if now.kept or now.state is not seen.state:
        return False
    return not now.running or (now.received, now.updated) == (seen.received, seen.updated)
