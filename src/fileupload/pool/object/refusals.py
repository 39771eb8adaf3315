"""The register of refusals in an object pool: a fixed number of small objects."""

from __future__ import annotations

from fileupload.pool.base import Condition
from fileupload.pool.object.store import ObjectStore
from fileupload.pool.refusal_record import decode_refusal, encode_refusal, slot_of
from fileupload.status import UploadStatus

SLOTS = 1024


class ObjectRefusals:
    """Stores refusals under ``<prefix>refused/<slot>``."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix + "refused/"

    def write(self, bucket_id: str, status: UploadStatus) -> None:
        """Store the refusal *status*."""
        self._store.put(self._key(bucket_id), encode_refusal(bucket_id, status))

    def read(self, bucket_id: str) -> UploadStatus | None:
        """Return the refusal of a bucket, or None."""
        try:
            return decode_refusal(self._store.get(self._key(bucket_id)), bucket_id)
        except FileNotFoundError:
            return None

    def remove(self, bucket_id: str, condition: Condition) -> bool:
        """Remove the refusal of a bucket; False if there is none, or *condition* does not hold of it.

        A refusal of another bucket that is written to the same slot at the same moment may be lost.
        """
        status = self.read(bucket_id)
        if status is None or not condition(status):
            return False
        self._store.delete([self._key(bucket_id)])
        return True

    def _key(self, bucket_id: str) -> str:
        return f"{self._prefix}{slot_of(bucket_id, SLOTS):04d}"
