"""Where nodes show each other how their uploads stand, and whose they are: in the store itself, or in Redis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

from fileupload.pool.object.store import ObjectStore


class PresenceStore(ABC):
    """Shows the last status of each running attempt, and which attempt owns each bucket.

    Whose a bucket is, the store alone decides. What is noted here is only news of it, which may be old or missing.

    :ivar interval: seconds between two changes that it can take.
    """

    interval: float

    @abstractmethod
    def publish(self, bucket_id: str, token: str, record: str) -> bool:
        """Show *record* as a sign of life; nothing is raised where that is not possible.

        :return: False if the bucket is noted as another's: time to look into the store.
        """

    @abstractmethod
    def get(self, bucket_id: str, token: str) -> str | None:
        """Return what is shown of an attempt beside what lies in the store, or None."""

    @abstractmethod
    def withdraw(self, bucket_id: str, token: str) -> None:
        """Show nothing of an attempt any more."""

    @abstractmethod
    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Tell whether an attempt has given a sign of life in the last *limit* seconds, or may have.

        :param age: seconds since the store last saw something of it.
        """

    @abstractmethod
    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Claim to be who follows the attempt *token*; False if somebody else has done so a moment ago."""

    @abstractmethod
    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Note that the attempt *token* owns the bucket, as the store says; empty: nobody, it was cleared."""


class ObjectPresence(PresenceStore):
    """Refreshes a small object once a second. Whose a bucket is, and what was shown, is seen by a look at the store."""

    interval = 1.0

    def __init__(self, store: ObjectStore, key: Callable[[str, str], str]) -> None:
        """Take *key*, which tells where the progress of an attempt lies."""
        self._store = store
        self._key = key

    def publish(self, bucket_id: str, token: str, record: str) -> bool:
        """Replace the object."""
        with suppress(OSError):  # progress that cannot be shown must not end an upload
            self._store.put(self._key(bucket_id, token), record.encode())
        return True

    def get(self, bucket_id: str, token: str) -> None:
        """Return None: there is nothing beside what lies in the store."""

    def withdraw(self, bucket_id: str, token: str) -> None:
        """Remove the object."""
        with suppress(OSError):
            self._store.delete([self._key(bucket_id, token)])

    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Tell by the age of what is in the store."""
        return age < limit

    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Return True: of several who write markers, the newest is the one."""
        return True

    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Do nothing: the markers say it."""
