"""Tells the application of complete uploads: at least once, normally once, and only what we have signed."""

from __future__ import annotations

import hashlib
import hmac
import json
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
from fileupload.manager import UploadManager
from fileupload.status import State, UploadStatus, timestamp

log = logging.getLogger("fileupload")

OWNER = "s3fileup"  # the application that began an upload, as the upload's status records it
SIGNATURE = "X-Fileupload-Signature"
_DELIVERED = ("s3fileup", "told")  # where the index has, by their days, the ids of those that were told
_TIMEOUT = 10.0  # seconds for an answer
_RETRY_DELAYS = (0.0, 0.5, 2.0)  # seconds before each try
_PENDING = ("s3fileup", "untold")  # and the identifiers of those that are to be told again
_RETRY_INTERVAL = 60.0
_DAY = 86400.0
_DELIVERY_RECORD_TTL = (
    7 * _DAY
)  # seconds; whoever completes an upload again after that lets the application hear of it again


def is_owned(status: UploadStatus) -> bool:
    """Tell whether an upload was begun here, or stored before owners were recorded."""
    return status.owner in {OWNER, ""}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows none: the descriptor goes to the address that was set, and nowhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class Webhook:
    """Posts descriptors to one address."""

    def __init__(self, url: str, manager: UploadManager) -> None:
        """Use *url*; empty: nobody is told."""
        self._url = url
        self._pool = manager.pool
        self._key_ring = manager.key_ring
        self._opener = urllib.request.build_opener(_NoRedirects)

    def deliver(self, bucket_id: str, descriptor: Mapping[str, Any]) -> None:
        """Tell of an upload, unless that was done before.

        :raises CallbackFailed: the application has not answered with success; it will be asked again in passing.
        """
        told = (*_DELIVERED, descriptor["finished"][:10])
        if not self._url or self._pool.index.get(told, bucket_id) is not None:
            return
        body = json.dumps(descriptor).encode()
        if not any(self._post(body, pause) for pause in _RETRY_DELAYS):
            self._pool.index.put(_PENDING, bucket_id, descriptor["identifier"])
            raise CallbackFailed
        self._pool.index.put(told, bucket_id)

    def retry_in_passing(self) -> None:
        """Begin to tell again what could not be told, if that is due, and nobody else's turn."""
        if self._url and self._pool.acquire_interval_lease(_RETRY_INTERVAL, "untold"):
            threading.Thread(target=self._tidy, name="fileupload-callback", daemon=True).start()

    def _tidy(self) -> None:
        try:
            self._retry()
            if self._pool.acquire_interval_lease(_DAY, "told"):
                self._forget_old()
        except OSError:
            log.exception("the callback could not be repeated")

    def _retry(self) -> None:
        untold = self._pool.index.names(_PENDING)
        # In any order: one that is refused for ever does not hold up the others.
        for bucket_id in random.sample(untold, len(untold)):
            # The one that the client has: another would be as good, but the application compares them.
            identifier = self._pool.index.get(_PENDING, bucket_id)
            status = self._pool.bucket(bucket_id).get_status()
            if identifier is not None and status.state is State.DONE and is_owned(status):
                try:
                    self.deliver(bucket_id, {**status.to_json(), "identifier": identifier})
                except CallbackFailed:
                    return  # most likely it would say the same of the others
            self._pool.index.remove(_PENDING, bucket_id)

    def _forget_old(self) -> None:
        first = timestamp(time.time() - _DELIVERY_RECORD_TTL)[:10]
        for key in list(self._pool.index.keys(_DELIVERED)):
            if key[-1] < first:
                for name in self._pool.index.names(key):
                    self._pool.index.remove(key, name)

    def _post(self, body: bytes, pause: float) -> bool:
        time.sleep(pause)
        # The setting takes http and https alone.
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
            log.warning("the callback was answered %d", error.code)
        except (OSError, HTTPException) as error:
            log.warning("the callback failed: %s", type(error).__name__)
        return False
