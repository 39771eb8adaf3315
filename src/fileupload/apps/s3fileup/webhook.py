"""The webhook: posts the signed descriptor of each complete upload to the application, at least once.

An upload is delivered once, except after a crash between the application's answer and its record in the index: that
record is written before the delivery, as the claim of the one process that delivers. Failed deliveries are recorded in
the index, and retried in the background.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

from fileupload.apps.s3fileup.errors import CallbackFailed
from fileupload.formatting import encode_json
from fileupload.manager import UploadManager
from fileupload.pool.index import Key
from fileupload.status import State, UploadStatus, timestamp

log = logging.getLogger("fileupload")

OWNER = "s3fileup"  # the owner that the status of this app's uploads records
SIGNATURE = "X-Fileupload-Signature"
# Key of the index: the bucket ids of delivered uploads, by the day of the upload; those that a process delivers now,
# with the time of its claim.
_DELIVERED = ("s3fileup", "told")
_PENDING = ("s3fileup", "untold")  # key of the index: the bucket ids of undelivered uploads, with their identifiers
_TIMEOUT = 10.0  # seconds for an answer
_RETRY_DELAYS = (0.0, 0.5, 2.0)  # seconds before each attempt
_CLAIM_TTL = 120.0  # seconds after which the process that has claimed a delivery has crashed
_RETRY_INTERVAL = 60.0  # seconds between the retries of undelivered uploads
_DAY = 86400.0  # seconds
_DELIVERY_RECORD_TTL = 7 * _DAY  # an upload that a client completes again after that is delivered again


def is_owned(status: UploadStatus) -> bool:
    """Return whether an upload belongs to this app, or was stored before owners were recorded."""
    return status.owner in {OWNER, ""}


class BeingDelivered(Exception):
    """Another request or process is delivering this descriptor; whether it succeeds is not known yet."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the descriptor is sent to the configured URL only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class Webhook:
    """Delivers the descriptors of complete uploads to one URL.

    The header ``X-Fileupload-Signature`` is ``sha256=`` and the HMAC-SHA256 of the body with the newest signing key.
    """

    def __init__(self, url: str, manager: UploadManager) -> None:
        """Deliver to *url*; if it is empty, nothing is delivered."""
        self._url = url
        self._pool = manager.pool
        self._key_ring = manager.key_ring
        self._opener = urllib.request.build_opener(_NoRedirects)

    def deliver(self, bucket_id: str, descriptor: Mapping[str, Any]) -> None:
        """Deliver the descriptor of an upload, unless it was delivered before.

        :raises BeingDelivered: another request or process delivers it now.
        :raises CallbackFailed: the application has not answered with success after all attempts; the delivery is
            retried later.
        """
        delivered = (*_DELIVERED, descriptor["finished"][:10])
        if not self._url or (claim := self._pool.index.get(delivered, bucket_id)) == "":
            return
        if not self._claim(delivered, bucket_id, claim):
            raise BeingDelivered
        body = encode_json(descriptor)
        if not any(self._post(body, delay) for delay in _RETRY_DELAYS):
            self._pool.index.put(_PENDING, bucket_id, descriptor["identifier"])
            self._pool.index.remove(delivered, bucket_id)
            raise CallbackFailed
        self._pool.index.put(delivered, bucket_id)

    def _claim(self, delivered: Key, bucket_id: str, claim: str | None) -> bool:
        """Write the claim of a delivery; return False if another process has it.

        :param claim: the claim that was found.
        """
        now = f"{time.time():.0f}"
        if claim is None:
            return self._pool.index.put(delivered, bucket_id, now, new=True)
        if abs(time.time() - float(claim)) < _CLAIM_TTL:
            return False
        return self._pool.index.put(delivered, bucket_id, now)

    def retry_if_due(self) -> None:
        """Start a thread that retries undelivered webhooks, if they are due and no other process holds the lease."""
        if self._url and self._pool.acquire_interval_lease(_RETRY_INTERVAL, "untold"):
            threading.Thread(target=self._maintain, name="fileupload-webhook", daemon=True).start()

    def _maintain(self) -> None:
        try:
            self._retry()
            if self._pool.acquire_interval_lease(_DAY, "told"):
                self._remove_old_records()
        except OSError:
            log.exception("undelivered webhooks could not be retried")

    def _retry(self) -> None:
        pending = self._pool.index.names(_PENDING)
        # In random order: a delivery that always fails must not block the others, since the loop ends at a failure.
        for bucket_id in random.sample(pending, len(pending)):
            # The identifier that the client has: another one of the bucket would be valid, too, but not be equal.
            identifier = self._pool.index.get(_PENDING, bucket_id)
            status = self._pool.bucket(bucket_id).get_status()
            if identifier is not None and status.state is State.DONE and is_owned(status):
                try:
                    self.deliver(bucket_id, {**status.to_json(), "identifier": identifier})
                except BeingDelivered:
                    continue
                except CallbackFailed:
                    return  # most likely the application is down, and the other deliveries would fail, too
            self._pool.index.remove(_PENDING, bucket_id)

    def _remove_old_records(self) -> None:
        # An upload with a time from a clock that was wrong has a day far ahead.
        first, last = (timestamp(time.time() + ttl)[:10] for ttl in (-_DELIVERY_RECORD_TTL, _DELIVERY_RECORD_TTL))
        for key in list(self._pool.index.keys(_DELIVERED)):
            if not first <= key[-1] <= last:
                for name in self._pool.index.names(key):
                    self._pool.index.remove(key, name)

    def _post(self, body: bytes, delay: float) -> bool:
        """Post *body* after *delay* seconds; return whether the application has answered with success."""
        time.sleep(delay)
        # The setting accepts http and https URLs only.
        request = urllib.request.Request(self._url, body, method="POST")  # noqa: S310
        request.add_header("Content-Type", "application/json")
        key = self._key_ring.keys[0].encode()
        request.add_header(SIGNATURE, "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest())
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                answer.read(1 << 16)
                return True
        except urllib.error.HTTPError as error:
            error.close()
            log.warning("the webhook was answered with %d", error.code)
        except (OSError, HTTPException) as error:
            log.warning("the webhook failed: %s", type(error).__name__)
        return False
