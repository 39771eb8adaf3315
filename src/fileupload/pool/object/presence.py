"""Presence of running attempts: how nodes show each other the progress of their uploads, and that they are alive.

The presence is either in the object store itself, where an attempt refreshes a small object, or in Redis (see
``redis_presence``), where it refreshes a key that expires.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress

from fileupload.pool.object.keys import bucket_prefix
from fileupload.pool.object.store import ObjectStore


class PresenceStore(ABC):
    """Shows the last status of each running attempt, and a cached note of the attempt that owns each bucket.

    Only the object store decides which attempt owns a bucket. The note here may be old or missing.

    :ivar interval: minimum seconds between two publications of an attempt.
    """

    interval: float

    @abstractmethod
    def publish(self, bucket_id: str, token: str, record: bytes) -> bool:
        """Show *record* as the status of the attempt *token*, which is also its heartbeat. Never raises OSError.

        :return: False if the note says that another attempt owns the bucket, so that the caller should check the store.
        """

    @abstractmethod
    def get(self, bucket_id: str, token: str) -> str | None:
        """Return the record of an attempt that is shown outside the object store, or None."""

    @abstractmethod
    def withdraw(self, bucket_id: str, token: str) -> None:
        """Remove the record of an attempt. Never raises OSError."""

    @abstractmethod
    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Return whether an attempt has sent a heartbeat in the last *limit* seconds, or may have sent one.

        :param age: seconds since a key of the attempt was written to the store.
        """

    @abstractmethod
    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Acquire the right to resume the attempt *token*; False if another process acquired it a moment ago."""

    @abstractmethod
    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Note that the attempt *token* owns the bucket, as the store says; an empty text if the bucket was cleared."""


class ObjectPresence(PresenceStore):
    """Presence in the object store: an object ``p/<token>``, which a running attempt replaces once a second.

    The object is part of the bucket, so readers find it in their snapshot, and the markers there tell the owner.
    """

    interval = 1.0

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        """Use the keys of the pool in *store* that begin with *prefix*, which is empty or ends with a slash."""
        self._store = store
        self._prefix = prefix

    def publish(self, bucket_id: str, token: str, record: bytes) -> bool:
        """Replace the object."""
        with suppress(OSError):  # an upload must not fail because its progress cannot be shown
            self._store.put(self._key(bucket_id, token), record)
        return True

    def get(self, bucket_id: str, token: str) -> None:
        """Return None: the record is in the object store."""

    def withdraw(self, bucket_id: str, token: str) -> None:
        """Remove the object."""
        with suppress(OSError):
            self._store.delete([self._key(bucket_id, token)])

    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Return whether a key of the attempt was written in the last *limit* seconds."""
        return age < limit

    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Return True: if several processes resume an attempt, the one with the newest marker goes on."""
        return True

    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Do nothing: the markers tell the owner."""

    def _key(self, bucket_id: str, token: str) -> str:
        return f"{bucket_prefix(self._prefix, bucket_id)}p/{token}"
