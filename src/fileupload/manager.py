"""What the app finds in ``environ['fileupload']``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from fileupload.errors import InvalidIdentifier
from fileupload.identifiers import Claims, Identifiers
from fileupload.pool.base import Bucket, Pool
from fileupload.settings import Settings, parse_duration, parse_media_ranges, parse_megabytes
from fileupload.status import State, UploadStatus

log = logging.getLogger("fileupload")


class UploadManager:
    """Identifiers and buckets, for the app; one object serves all requests, threads and forks."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings
        keys = settings.upload_key or pool.signing_keys()
        if any(len(key) < 16 for key in keys):
            log.warning("setting 'upload_key' is short enough to be guessed; `fileupload key` makes a good one")
        self._identifiers = Identifiers(keys, max_age=settings.max_age)

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

    def verify_identifier(self, identifier: str | None) -> bool:
        """Tell whether an upload may begin with *identifier*."""
        try:
            self.claims_to_begin(identifier)
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
        bucket = self.pool.bucket(claims.id)
        return bucket.with_identifier(identifier or "") if bucket else None

    def clear_upload_bucket(self, identifier: str | None) -> bool:
        """Remove the upload of *identifier*, finished or running; False if there is none."""
        try:
            return self.pool.clear(self._identifiers.verify(identifier or "").id)
        except InvalidIdentifier:
            return False

    def claims_to_begin(self, identifier: str | None) -> Claims:
        """Return what *identifier* says, for an upload that is to begin.

        :raises InvalidIdentifier: it is forged, or too old.
        """
        claims = self._identifiers.verify(identifier or "")
        if claims.expired:
            raise InvalidIdentifier
        return claims

    def get_status(self, identifier: str | None) -> UploadStatus:
        """Return the status of the upload of *identifier*, unknown if there is none.

        :raises InvalidIdentifier: it is forged; or it is too old, and no upload was made with it in time.
        """
        claims = self._identifiers.verify(identifier or "")
        bucket = self.pool.bucket(claims.id)
        if bucket is not None:
            return bucket.with_identifier(identifier or "").get_status()
        if claims.expired:
            raise InvalidIdentifier
        return UploadStatus(state=State.UNKNOWN, identifier=identifier or "")

    def tidy(self) -> None:
        """Begin to remove outdated uploads, if that is set, due, and nobody else's turn."""
        after = self.settings.expire_after
        if after and self.pool.take_turn(max(1.0, min(after / 4, 3600.0))):
            threading.Thread(target=self._expire, args=(after,), name="fileupload-expiry", daemon=True).start()

    def _expire(self, after: float) -> None:
        try:
            count = sum(1 for _ in self.pool.purge(after))
        except OSError:
            log.exception("outdated uploads could not be removed")
        else:
            log.info("%d outdated uploads removed", count)
