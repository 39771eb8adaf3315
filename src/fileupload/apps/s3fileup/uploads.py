"""What the app does with uploads, whichever of its addresses asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.s3fileup.bodies import detach_body
from fileupload.apps.s3fileup.errors import UnknownKey
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.webhook import OWNER, Webhook, is_owned
from fileupload.errors import AddressExpired, AlreadyDone, FileMissing, InvalidIdentifier
from fileupload.manager import UploadManager
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.protocols.registry import open_upload
from fileupload.status import State, UploadStatus
from fileupload.wsgi.file_responses import ServedFile, file_response

# What a form that is posted to a store calls its object, and Uppy then the upload.
_OBJECT_KEY = re.compile(r"(?:.*/)?b/(?P<id>[0-9a-f]{32})/f/[^/]+/[^/]+", re.ASCII)


@dataclass(frozen=True)
class UploadHandle:
    """An upload that was begun here, or found again.

    :ivar key: the identifier by which the client speaks of it.
    """

    key: str
    bucket_id: str
    status: UploadStatus

    @property
    def upload_id(self) -> str:
        """The name of the attempt, which is the same until another is begun."""
        return _data_of(self.status.attempt)


class FileUploads:
    """Begins, completes and shows uploads of single files."""

    def __init__(self, manager: UploadManager, settings: S3FileupSettings) -> None:
        self.direct = DirectUploads(manager)
        self._manager = manager
        self._settings = settings
        self._webhook = Webhook(settings.callback_url, manager)
        self._token_signer = TokenSigner(manager.key_ring, b"file")

    def begin(self, environ: WSGIEnvironment, wanted: DirectUploadRequest) -> UploadHandle:
        """Begin an upload under a new identifier.

        :raises UploadError: it is refused.
        """
        identifier = self._manager.create_identifier()
        detach_body(environ)  # the file does not come with this request
        upload = open_upload(environ, {}, self._manager, identifier, owner=OWNER)
        status = self.direct.begin(upload, replace(wanted, acl=self._settings.acl))
        return UploadHandle(identifier, upload.claims.id, status)

    def find(self, key: str) -> UploadHandle:
        """Return the upload that *key* names: an identifier, or the key of the object that a form has made.

        :raises UnknownKey: there is none, or it is another application's.
        """
        match = _OBJECT_KEY.fullmatch(key)
        try:
            bucket_id = match["id"] if match else self._manager.verify(key).id
        except InvalidIdentifier:
            raise UnknownKey from None
        status = self._manager.pool.bucket(bucket_id).get_status()
        if status.state is State.UNKNOWN or not is_owned(status):
            raise UnknownKey
        if match and not self._manager.pool.direct(bucket_id, status.attempt).is_form_key(key):
            raise UnknownKey
        return UploadHandle(self._manager.create_identifier_for(bucket_id) if match else key, bucket_id, status)

    def complete(self, begun: UploadHandle, etags: Mapping[int, str] | None = None) -> dict[str, Any]:
        """Finish an upload, if that was not done before, and tell the application; return its descriptor.

        :raises UploadError: it cannot be finished, or the application does not answer.
        """
        try:
            status = self.direct.complete(begun.bucket_id, etags)
        except AlreadyDone:
            status = self._manager.pool.bucket(begun.bucket_id).get_status()
        descriptor = {**status.to_json(), "identifier": begun.key}
        self._webhook.deliver(begun.bucket_id, descriptor)
        return descriptor

    def purge_if_due(self) -> None:
        """Begin what is to be done in passing: old uploads go, and applications that did not answer are told again."""
        self._manager.purge_if_due()
        self._webhook.retry_in_passing()

    def link(self, begun: UploadHandle, base: str) -> str:
        """Return an address under which anyone can read the file of a finished upload, for a while.

        :param base: the address of this app, for pools that have no addresses of their own.
        :raises FileMissing: there is no such file.
        """
        life = self._settings.direct_expires
        bucket = self._manager.pool.bucket(begun.bucket_id)
        url = bucket.url(expires=life)
        if url is None:
            status = bucket.get_status()
            if status.state is not State.DONE:
                raise FileMissing
            ticket = UploadToken(begun.bucket_id, status.attempt, 0, 0, None, int(time.time() + life))
            url = f"{base}/file?ticket={self._token_signer.sign(ticket)}"
        return url

    def file(self, environ: WSGIEnvironment, ticket: str) -> Response:
        """Answer with the file of such an address.

        :raises AddressExpired: it is none of ours, or too old.
        :raises FileMissing: there is no such file any more.
        """
        found = self._token_signer.read(ticket)
        bucket = self._manager.pool.bucket(found.bucket_id)
        status = bucket.get_status()
        if status.state is not State.DONE:
            raise FileMissing
        if status.attempt != found.attempt:
            raise AddressExpired
        file = status.files[0]
        served = ServedFile(
            name=file.filename,
            content_type=file.content_type,
            size=file.size,
            etag=file.sha256 or status.attempt,
        )
        return file_response(environ, served, partial(bucket.open, 0), self._settings)

    def cancel(self, begun: UploadHandle) -> None:
        """Remove an upload that is not complete; what has failed may go as well.

        :raises AlreadyDone: it is.
        """

        def may_go(status: UploadStatus) -> bool:
            return status.state is not State.DONE and is_owned(status)

        if self._manager.pool.clear(begun.bucket_id, condition=may_go):
            return
        if self._manager.pool.bucket(begun.bucket_id).get_status().state is State.DONE:
            raise AlreadyDone


def _data_of(attempt: str) -> str:
    """Return what stays of an attempt's name however often it is resumed."""
    return attempt.rpartition("_")[2]
