"""The pool in an object store, shared by any number of nodes that know nothing of each other.

``keys`` has the layout, ``bucket_store`` the theory of operation of a bucket. Beyond buckets, the pool has:

- *Signing keys* in ``.upload_key``, written once with If-None-Match: *. Of several nodes that start at once one
  succeeds, and all read its keys.
- *Interval leases* in ``turns/<name>-<number>``: time is divided into intervals of a given length, and the node that
  writes the key of the current one, with If-None-Match: *, has the lease. The key of the last interval is removed then.
- *Presence* of running attempts, in the store or in Redis (see ``presence``), and a heartbeat thread in each process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fileupload import clocks
from fileupload.errors import AlreadyDone, Busy, NotResumable
from fileupload.identifiers import is_id, new_key
from fileupload.pool.base import Condition, Pool, is_stalled, matches
from fileupload.pool.fork_safety import ForkSafeExecutor
from fileupload.pool.object.attempt import ObjectAttempt
from fileupload.pool.object.bucket import ObjectBucket
from fileupload.pool.object.bucket_store import ObjectBucketStore
from fileupload.pool.object.direct import ObjectDirect, with_sent_parts
from fileupload.pool.object.heartbeat import HeartbeatThread
from fileupload.pool.object.index import ObjectIndex
from fileupload.pool.object.keys import BUCKETS, attempt_id_of, bucket_id_of_file, data_prefix_of
from fileupload.pool.object.presence import ObjectPresence, PresenceStore
from fileupload.pool.object.refusals import ObjectRefusals
from fileupload.pool.object.snapshot import idle_time
from fileupload.pool.object.store import ObjectStore
from fileupload.status import RUNNING, State, UploadStatus, seconds_of, timestamp

PART_UPLOAD_THREADS = 32  # parts that a process sends at the same time
DEAD_AFTER = 30.0  # seconds without a heartbeat


class ObjectPool(Pool):
    """Uploads in an object store.

    :ivar store: the object store.
    :ivar prefix: what all keys of the pool begin with; empty, or with a slash at the end.
    :ivar presence: shows running attempts to other nodes.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        *,
        presence: PresenceStore | None = None,
        dead_after: float = DEAD_AFTER,
        read_only: bool = False,
    ) -> None:
        """Use the keys below *prefix*, which may be empty.

        :param store: one that knows its traits (for S3, as ``S3Store.checked`` returns it).
        :param presence: None: in the store itself.
        :param dead_after: seconds without a heartbeat after which an attempt counts as crashed.
        :param read_only: do not store a new key if there is none.
        """
        self._read_only = read_only
        self.store = store
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.presence = presence or ObjectPresence(store, self.prefix)
        self.index = ObjectIndex(store, self.prefix + "index/")
        self._dead_after = dead_after
        self._refusals = ObjectRefusals(store, self.prefix)
        self._part_executor = ForkSafeExecutor(PART_UPLOAD_THREADS, "fileupload-part")
        self._heartbeats = HeartbeatThread()
        self._requested_leases: dict[str, str] = {}  # by name: the key that this process has tried to write last

    def check(self) -> None:
        """Do nothing: the store was checked when the pool was opened."""

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys in ``.upload_key``; the first process that finds none writes *held* there, or a new one.

        A pool that is only read writes none, and raises FileNotFoundError.
        """
        name = self.prefix + ".upload_key"
        try:
            return tuple(self.store.get(name).decode().split())
        except FileNotFoundError:
            if self._read_only:
                raise
        self.store.put(name, "\n".join(held or (new_key(),)).encode(), new=True)
        return tuple(self.store.get(name).decode().split())

    def bucket_store(self, bucket_id: str) -> ObjectBucketStore:
        """Return what reads and writes the state of a bucket."""
        return ObjectBucketStore(
            self.store,
            self.prefix,
            bucket_id,
            presence=self.presence,
            refusals=self._refusals,
            part_executor=self._part_executor,
            dead_after=self._dead_after,
        )

    def bucket(self, bucket_id: str) -> ObjectBucket:
        """Return the bucket of that id, without a check whether it exists."""
        return ObjectBucket(self.bucket_store(bucket_id))

    def buckets(self) -> Iterator[ObjectBucket]:
        """Yield all buckets."""
        for name in self.store.common_prefixes(self.prefix + BUCKETS):
            if is_id(name):
                yield self.bucket(name)

    def is_done(self, bucket_id: str) -> bool:
        """Return whether the upload is finished; one request if it is not."""
        return self.bucket_store(bucket_id).is_done()

    def begin(self, bucket_id: str, status: UploadStatus) -> ObjectAttempt:
        """Begin an attempt with a marker newer than all others, and remove what older attempts wrote."""
        bucket = self.bucket_store(bucket_id)
        snapshot = bucket.snapshot()
        if bucket.read_done(snapshot) is not None:
            raise AlreadyDone
        return ObjectAttempt(bucket, bucket.write_marker(status, snapshot), status, self._heartbeats)

    def resume(self, bucket_id: str) -> ObjectAttempt:
        """Continue an attempt under a newer marker, which tells a request that still works on it to stop."""
        bucket = self.bucket_store(bucket_id)
        snapshot = bucket.snapshot()
        status = bucket.status_of(snapshot)
        if status.state is State.DONE:
            raise AlreadyDone
        if snapshot.newest is None or status.state not in RUNNING or not status.resumable:
            raise NotResumable
        token = attempt_id_of(snapshot.newest)
        if not status.suspended or not self.presence.acquire_resume_lease(bucket_id, token):
            raise Busy
        status = replace(status, suspended=False)
        marker = bucket.write_marker(status, snapshot, data_prefix_of(token))
        if bucket.snapshot().newest != marker:
            raise Busy  # another process has resumed the attempt at the same moment, with a newer marker
        return ObjectAttempt(bucket, marker, status, self._heartbeats, bucket.count_files(token, snapshot))

    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> ObjectDirect:
        """Return the direct upload of an attempt."""
        return ObjectDirect(self.bucket_store(bucket_id), attempt, terms)

    def bucket_id_of_form_key(self, key: str) -> str | None:
        """Return the id of the bucket that has the file *key*."""
        return bucket_id_of_file(self.prefix, key)

    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Store *status* in the register of refusals, or in a failed bucket of the same owner."""
        self.bucket_store(bucket_id).record_refusal(status)

    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove the markers, which makes the bucket unknown, and then everything else."""
        unconditional = not unless_kept and condition is None
        return self.bucket_store(bucket_id).clear(None if unconditional else partial(matches, unless_kept, condition))

    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[ObjectBucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds."""
        for bucket in self.buckets():
            store = self.bucket_store(bucket.id)
            with suppress(OSError):
                snapshot = store.snapshot()
                seen = store.status_of(snapshot)
                status = with_sent_parts(store, seen)
                if snapshot.kept or idle_time(status, snapshot) < older_than:
                    continue
                if status.running and not is_stalled(status, older_than):
                    continue
                # A bucket without a marker is unknown, so clearing it returns False, but its keys are removed.
                if dry_run or store.clear_unchanged(snapshot, partial(_is_unchanged, seen)) or not snapshot.markers:
                    yield bucket
        if not dry_run:
            self._abort_abandoned(older_than)

    def _abort_abandoned(self, older_than: float) -> None:
        """Abort the multipart uploads that no running or suspended upload needs."""
        for key, upload, age in list(self.store.list_multipart_uploads(self.prefix + BUCKETS)):
            if age >= max(older_than, self._dead_after) and not self._is_used(key, older_than):
                self.store.abort_multipart_upload(key, upload)

    def _is_used(self, key: str, older_than: float) -> bool:
        """Return whether *key* belongs to an upload in which something happened in the last *older_than* seconds."""
        bucket_id = key.removeprefix(self.prefix + BUCKETS).partition("/")[0]
        if not is_id(bucket_id):
            return False
        bucket = self.bucket_store(bucket_id)
        status = with_sent_parts(bucket, bucket.status())
        if status.state not in RUNNING or data_prefix_of(status.attempt) not in key:
            return False
        return status.running or clocks.age_of(seconds_of(status.updated or timestamp(0))) < older_than

    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True for the first caller in each interval of that length."""
        number = int(time.time() / max(interval, 1.0))
        prefix = f"{self.prefix}turns/{name}-"
        key = f"{prefix}{number}"
        # Every request may ask, but each process sends one request to the store in an interval.
        if self._requested_leases.get(name) == key:
            return False
        acquired = self.store.put(key, timestamp().encode(), new=True)
        self._requested_leases[name] = key
        if not acquired:
            return False
        self.store.delete([each.key for each in self.store.list(prefix) if each.key != key])
        return True

    def free_space(self) -> int | None:
        """Return None: an object store reports no limit."""
        return None


def _is_unchanged(seen: UploadStatus, now: UploadStatus) -> bool:
    """Return whether a bucket with the same attempts still is in the state for which it was to be removed."""
    if now.kept or now.state is not seen.state:
        return False
    return not now.running or (now.received, now.updated) == (seen.received, seen.updated)
