"""A snapshot of one bucket in an object pool, made from one listing of its keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from fileupload import clocks
from fileupload.pool.object.keys import CLEARING, DONE, KEPT, MARKERS, attempt_id_of, data_prefix_of
from fileupload.pool.object.store import StoredObject
from fileupload.status import UploadStatus, seconds_of


@dataclass(frozen=True)
class BucketSnapshot:
    """The keys of a bucket, and their ages by the store's own clock.

    :ivar markers: keys of the markers of its attempts, the newest last.
    :ivar done: whether the status of a finished upload is there. It counts only if its attempt has a marker.
    :ivar kept: whether the upload is exempt from purging.
    :ivar keys: all keys of the bucket.
    :ivar age: seconds since a key of the newest attempt was written; without an attempt, since any key was.
    :ivar done_age: seconds since ``d`` was written.
    :ivar clearing_age: seconds since ``x`` was written.
    """

    markers: tuple[str, ...]
    done: bool
    kept: bool
    keys: tuple[str, ...]
    age: float
    done_age: float
    clearing_age: float

    @classmethod
    def of(cls, prefix: str, listing: Iterable[StoredObject]) -> Self:
        """Make a snapshot from a *listing* of all keys that begin with *prefix*, that of the bucket."""
        objects = list(listing)
        markers = tuple(each.key for each in objects if each.key.startswith(prefix + MARKERS))
        data = data_prefix_of(attempt_id_of(markers[-1])) if markers else ""
        ages = [each.age for each in objects if data in each.key]
        done = [each.age for each in objects if each.key == prefix + DONE]
        clearing = [each.age for each in objects if each.key == prefix + CLEARING]
        return cls(
            markers=markers,
            done=bool(done) and bool(markers),
            kept=any(each.key == prefix + KEPT for each in objects),
            keys=tuple(each.key for each in objects),
            age=min(ages, default=0.0),
            done_age=min(done, default=0.0),
            clearing_age=min(clearing, default=0.0),
        )

    @property
    def newest(self) -> str | None:
        """The marker of the attempt that owns the bucket."""
        return self.markers[-1] if self.markers else None


def idle_time(status: UploadStatus, snapshot: BucketSnapshot) -> float:
    """Return the seconds since something happened in a bucket, by its *status*, or by the clock of the store."""
    moment = status.updated or status.started
    if moment is None or clocks.is_far_ahead(seconds_of(moment)):
        return snapshot.age
    return clocks.age_of(seconds_of(moment))
