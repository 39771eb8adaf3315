"""What the app does with uploads, whichever of its addresses asks for it."""

from __future__ import annotations

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
from fileupload.pool.direct import OBJECT_ACL
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.protocols.registry import open_upload
from fileupload.status import State, UploadStatus
from fileupload.wsgi.file_responses import ServedFile, file_response


@dataclass(frozen=True)
class UploadHandle:
    """An upload that was begun here, or found again.

    :ivar key: the identifier by which the client speaks of it.
    :ivar upload_id: the name of the direct upload, which is the same until another is begun.
    """

    key: str
    bucket_id: str
    status: UploadStatus
    upload_id: str


class FileUploads:
    """Begins, completes and shows uploads of single files."""

    def __init__(self, manager: UploadManager, settings: S3FileupSettings) -> None:
        self.direct = DirectUploads(manager)
        self._manager = manager
        self._settings = settings
        self._pool_options = {OBJECT_ACL: settings.acl} if settings.acl else {}
        self._webhook = Webhook(settings.callback_url, manager)
        self._token_signer = TokenSigner(manager.key_ring, b"file")

    def begin(self, environ: WSGIEnvironment, wanted: DirectUploadRequest) -> UploadHandle:
        """Begin an upload under a new identifier.

        :raises UploadError: it is refused.
        """
        identifier = self._manager.create_identifier()
        detach_body(environ)  # the file does not come with this request
        upload = open_upload(environ, {}, self._manager, identifier, owner=OWNER)
        status = self.direct.begin(upload, replace(wanted, pool_options=self._pool_options))
        return self._handle(identifier, upload.claims.id, status)

    def find(self, key: str) -> UploadHandle:
        """Return the upload that *key* names: an identifier, or the key of the object that a form has made.

        :raises UnknownKey: there is none, or it is another application's.
        """
        pool = self._manager.pool
        of_form = pool.bucket_id_of_form_key(key)
        try:
            bucket_id = of_form or self._manager.verify(key).id
        except InvalidIdentifier:
            raise UnknownKey from None
        status = pool.bucket(bucket_id).get_status()
        if status.state is State.UNKNOWN or not is_owned(status):
            raise UnknownKey
        if of_form and not pool.direct(bucket_id, status.attempt).is_form_key(key):
            raise UnknownKey
        return self._handle(self._manager.create_identifier_for(bucket_id) if of_form else key, bucket_id, status)

    def _handle(self, key: str, bucket_id: str, status: UploadStatus) -> UploadHandle:
        upload_id = self._manager.pool.direct(bucket_id, status.attempt).upload_id
        return UploadHandle(key, bucket_id, status, upload_id)

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
