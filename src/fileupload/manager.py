"""The upload manager, which the app finds in ``environ['fileupload']``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fileupload.errors import InvalidIdentifier, UploadKept
from fileupload.expiry import expire_opportunistically
from fileupload.identifiers import Claims, Identifiers
from fileupload.pool.base import Bucket, Pool
from fileupload.settings import Settings, parse_duration, parse_media_ranges, parse_megabytes
from fileupload.signing import KeyRing
from fileupload.status import State, UploadStatus

log = logging.getLogger("fileupload")


class UploadManager:
    """Identifiers and buckets of a pool, for the app. One object serves all requests, threads and forked processes.

    ::

        uploads = environ["fileupload"]
        identifier = uploads.create_identifier(max_size=20, content_types=["image/*"])
        bucket = uploads.access_upload_bucket(identifier)    # None until an upload has started

    :ivar pool: the pool that stores the uploads.
    :ivar settings: the settings of the pool and of its HTTP interface.
    :ivar key_ring: the signing keys: those of the settings, or those that the pool stores.
    """

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings
        self.key_ring = KeyRing(settings.upload_key or pool)
        if any(len(key) < 16 for key in self.key_ring.keys):
            log.warning("setting 'upload_key' is short enough to be guessed; `fileupload key` generates a strong one")
        self._identifiers = Identifiers(self.key_ring, max_age=settings.max_age)

    @property
    def upload_url(self) -> str | None:
        """URL of the dedicated upload server, to which forms must post; None if this app receives uploads itself."""
        return self.settings.upload_url or None

    def create_identifier(
        self,
        *,
        max_size: int | float | str | None = None,
        max_age: int | float | str | None = None,
        content_types: Sequence[str] = (),
    ) -> str:
        """Return a new signed identifier, which the client sends as ``X-Progress-ID``.

        :param max_size: maximum total size of the files, in megabytes, or as a text such as ``"500K"``; None: the limit
            of the settings.
        :param max_age: time in which an upload must start, in seconds, or as a text such as ``"2h"``; None: the limit
            of the settings.
        :param content_types: accepted media types, such as ``image/*``; empty: those of the settings.
        :raises ValueError: an argument is invalid, or the identifier would be too long for a URL.
        """
        return self._identifiers.create(
            max_size=None if max_size is None else parse_megabytes(max_size),
            max_age=None if max_age is None else parse_duration(max_age),
            content_types=parse_media_ranges(content_types),
        )

    def create_identifier_for(self, bucket_id: str) -> str:
        """Return an identifier of an existing bucket. The caller checks that its client may have it."""
        return self._identifiers.create(bucket_id=bucket_id)

    def verify_identifier(self, identifier: str | None) -> bool:
        """Return whether *identifier* is valid and can still start an upload."""
        try:
            self.verify_for_upload(identifier)
        except InvalidIdentifier:
            return False
        return True

    def access_upload_bucket(self, identifier: str | None) -> Bucket | None:
        """Return the bucket of *identifier*, whether its upload is running, failed or finished; None if there is none.

        An identifier that has expired, and can start no upload, still opens its bucket.
        """
        try:
            claims = self._identifiers.verify(identifier or "")
        except InvalidIdentifier:
            return None
        bucket = self.pool.find_bucket(claims.id)
        return bucket.with_identifier(identifier or "") if bucket else None

    def find_bucket(self, bucket_id: str) -> Bucket | None:
        """Return the bucket with the id that ``bucket.id`` has; None if there is none.

        An id has no signature: use it only between processes that trust each other, as in the arguments of a task.
        """
        return self.pool.find_bucket(bucket_id)

    def clear_upload_bucket(self, identifier: str | None) -> bool:
        """Remove the upload of *identifier*, finished or running; return False if there is none.

        :raises UploadKept: an application keeps the upload.
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
        """Return the claims of *identifier* before an upload starts.

        :raises InvalidIdentifier: it is forged or has expired.
        """
        claims = self.verify(identifier)
        if claims.expired:
            raise InvalidIdentifier
        return claims

    def verify(self, identifier: str | None) -> Claims:
        """Return the claims of *identifier*, even if it has expired.

        :raises InvalidIdentifier: it is forged.
        """
        return self._identifiers.verify(identifier or "")

    def get_status(self, identifier: str | None) -> UploadStatus:
        """Return the status of the upload of *identifier*; its state is ``unknown`` if there is no upload.

        :raises InvalidIdentifier: it is forged; or it has expired, and there is no upload.
        """
        claims = self._identifiers.verify(identifier or "")
        status = self.pool.bucket(claims.id).with_identifier(identifier or "").get_status()
        if status.state is State.UNKNOWN and claims.expired:
            raise InvalidIdentifier
        return status

    def purge_if_due(self) -> None:
        """Start purging outdated uploads in a thread, if ``expire_after`` is set and the purge is due."""
        expire_opportunistically(self.pool, self.settings.expire_after, self.pool.purge)
