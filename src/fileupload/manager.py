"""What the app finds in ``environ['fileupload']``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from fileupload.errors import InvalidIdentifier, UploadKept
from fileupload.identifiers import Claims, Identifiers
from fileupload.pool.base import Bucket, Pool
from fileupload.settings import Settings, parse_duration, parse_media_ranges, parse_megabytes
from fileupload.signing import KeyRing
from fileupload.status import State, UploadStatus

log = logging.getLogger("fileupload")


class UploadManager:
    """Identifiers and buckets, for the app; one object serves all requests, threads and forks.

    :ivar key_ring: the keys that sign: those of the settings, or those that the pool keeps now.
    """

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings
        self.key_ring = KeyRing(settings.upload_key or pool)
        if any(len(key) < 16 for key in self.signing_keys):
            log.warning("setting 'upload_key' is short enough to be guessed; `fileupload key` makes a good one")
        self._identifiers = Identifiers(self.key_ring, max_age=settings.max_age)

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The keys that sign now, newest first."""
        return self.key_ring.keys

    @property
    def upload_url(self) -> str | None:
        """Where forms must post: the address of the dedicated server, or None where this app receives."""
        return self.settings.upload_url or None

    def create_identifier(
        self,
        *,
        max_size: int | float | str | None = None,
        max_age: int | float | str | None = None,
        content_types: Sequence[str] = (),
    ) -> str:
        """Return a new signed identifier, to be sent by the client as ``X-Progress-ID``.

        :param max_size: the most that may be sent with it, in the unit of the setting: megabytes, or a text
            such as ``"500K"``.
        :param max_age: seconds, or a text such as ``"2h"``, in which an upload must begin.
        :param content_types: the only media types that may be sent with it, such as ``image/*``.
        :raises ValueError: one of them is not such a value.
        """
        return self._identifiers.create(
            max_size=None if max_size is None else parse_megabytes(max_size),
            max_age=None if max_age is None else parse_duration(max_age),
            content_types=parse_media_ranges(content_types),
        )

    def create_identifier_for(self, bucket_id: str) -> str:
        """Return an identifier of a bucket that is there, for who may have it."""
        return self._identifiers.create(bucket_id=bucket_id)

    def verify_identifier(self, identifier: str | None) -> bool:
        """Tell whether an upload may begin with *identifier*."""
        try:
            self.verify_for_upload(identifier)
        except InvalidIdentifier:
            return False
        return True

    def access_upload_bucket(self, identifier: str | None) -> Bucket | None:
        """Return the bucket of *identifier*: running, failed or complete; None where there is none.

        An identifier that has grown too old to begin an upload still opens the bucket that it filled.
        """
        try:
            claims = self._identifiers.verify(identifier or "")
        except InvalidIdentifier:
            return None
        bucket = self.pool.find_bucket(claims.id)
        return bucket.with_identifier(identifier or "") if bucket else None

    def clear_upload_bucket(self, identifier: str | None) -> bool:
        """Remove the upload of *identifier*, finished or running; False if there is none.

        :raises UploadKept: the app has taken it for its own.
        """
        try:
            bucket_id = self._identifiers.verify(identifier or "").id
        except InvalidIdentifier:
            return False
        cleared = self.pool.clear(bucket_id, unless_kept=True)
        if not cleared and self.pool.bucket(bucket_id).get_status().kept:
            raise UploadKept
        return cleared

    def verify_for_upload(self, identifier: str | None) -> Claims:
        """Return what *identifier* says, for an upload that is to begin.

        :raises InvalidIdentifier: it is forged, or too old.
        """
        claims = self.verify(identifier)
        if claims.expired:
            raise InvalidIdentifier
        return claims

    def verify(self, identifier: str | None) -> Claims:
        """Return what *identifier* says, however old it is.

        :raises InvalidIdentifier: it is forged.
        """
        return self._identifiers.verify(identifier or "")

    def get_status(self, identifier: str | None) -> UploadStatus:
        """Return the status of the upload of *identifier*, unknown if there is none.

        :raises InvalidIdentifier: it is forged; or it is too old, and no upload was made with it in time.
        """
        claims = self._identifiers.verify(identifier or "")
        status = self.pool.bucket(claims.id).with_identifier(identifier or "").get_status()
        if status.state is State.UNKNOWN and claims.expired:
            raise InvalidIdentifier
        return status

    def purge_if_due(self) -> None:
        """Begin to remove outdated uploads, if that is set, due, and nobody else's turn."""
        expire_opportunistically(self.pool, self.settings.expire_after, self.pool.purge)


def expire_opportunistically(
    pool: Pool, after: float, remove: Callable[[float], Iterable[object]], name: str = "", what: str = "uploads"
) -> None:
    """Begin to remove what is older than *after* seconds, if that is set, due, and nobody else's turn.

    :param remove: removes it, and yields each.
    :param name: of the turn.
    :param what: it is, for the log.
    """
    if after and pool.acquire_interval_lease(max(1.0, min(after / 4, 3600.0)), name):
        threading.Thread(target=_expire, args=(after, remove, what), name="fileupload-expiry", daemon=True).start()


def _expire(after: float, remove: Callable[[float], Iterable[object]], what: str) -> None:
    try:
        count = sum(1 for _ in remove(after))
    except OSError:
        log.exception("outdated %s could not be removed", what)
    else:
        log.info("%d outdated %s removed", count, what)
