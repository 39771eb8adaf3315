"""What lies under one bucket of an object store, from one listing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from fileupload.pool.object.store import StoredObject


@dataclass(frozen=True)
class BucketSnapshot:
    """What lies under a bucket.

    :ivar markers: the keys of its attempts, the newest last.
    :ivar age: seconds since something was last written of the newest attempt, or of the whole if there is none.
    """

    markers: tuple[str, ...]
    done: bool
    kept: bool
    keys: tuple[str, ...]
    age: float
    done_age: float
    claim_age: float

    @classmethod
    def of(cls, base: str, listing: Iterable[StoredObject]) -> Self:
        """Return what a *listing* of the keys that begin with *base* tells."""
        objects = list(listing)
        markers = tuple(each.key for each in objects if each.key.startswith(base + "a/"))
        data = data_prefix_of(attempt_id_of(markers[-1])) if markers else ""
        ages = [each.age for each in objects if data in each.key]
        done = [each.age for each in objects if each.key == base + "d"]
        claims = [each.age for each in objects if each.key == base + "x"]
        return cls(
            markers=markers,
            done=bool(done) and bool(markers),
            kept=any(each.key == base + "k" for each in objects),
            keys=tuple(each.key for each in objects),
            age=min(ages, default=0.0),
            done_age=min(done, default=0.0),
            claim_age=min(claims, default=0.0),
        )

    @property
    def newest(self) -> str | None:
        """The key of the attempt that owns the bucket."""
        return self.markers[-1] if self.markers else None


def attempt_id_of(marker: str) -> str:
    """Return the token of the attempt whose marker is under this key."""
    return marker.rpartition("-")[2]


def data_prefix_of(token: str) -> str:
    """Return the name of the folder with the files of an attempt: of one that was resumed, that of the first."""
    return token.rpartition("_")[2]
