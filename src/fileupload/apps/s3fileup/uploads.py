"""Operations on uploads that all addresses of the app share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.s3fileup.background import BackgroundCompletion
from fileupload.apps.s3fileup.bodies import detach_body
from fileupload.apps.s3fileup.errors import CallbackFailed, UnknownKey
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.webhook import OWNER, BeingDelivered, Webhook, is_owned
from fileupload.errors import (
    AddressExpired,
    AlreadyDone,
    Busy,
    FileMissing,
    Incomplete,
    InvalidIdentifier,
    UploadError,
)
from fileupload.manager import UploadManager
from fileupload.pool.direct import OBJECT_ACL
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.protocols.registry import open_upload
from fileupload.status import State, UploadStatus
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.request import Request
from fileupload.wsgi.upload_log import note_upload

log = logging.getLogger("fileupload")


@dataclass(frozen=True)
class UploadHandle:
    """An upload that was begun in this request, or found.

    :ivar key: the identifier, by which the client names it.
    :ivar upload_id: the id of the direct upload for Uppy; it stays the same when the attempt is resumed.
    """

    key: str
    bucket_id: str
    status: UploadStatus
    upload_id: str


class FileUploads:
    """Operations on uploads of single files: begin, find, complete, link, cancel."""

    def __init__(self, manager: UploadManager, settings: S3FileupSettings) -> None:
        self.direct = DirectUploads(manager)
        self._manager = manager
        self._settings = settings
        self._pool_options = {OBJECT_ACL: settings.acl} if settings.acl else {}
        self._webhook = Webhook(settings.callback_url, manager)
        self._token_signer = TokenSigner(manager.key_ring, b"file")
        self._background = BackgroundCompletion(manager.pool, self.finish, url_ttl=settings.direct_expires)

    def begin(self, request: Request, wanted: DirectUploadRequest, *, in_parts: bool = False) -> UploadHandle:
        """Begin an upload with a new identifier.

        :param in_parts: the client sends any number of parts, so that only it knows when the file is complete.
        :raises UploadError: the upload is refused.
        """
        identifier = self._manager.create_identifier()
        detach_body(request.environ)  # the body holds parameters, not the file
        upload = open_upload(request, self._manager, identifier=identifier, owner=OWNER)
        # The client of a single PUT sends the ACL itself, which a store accepts with a whole object only.
        form = wanted.form or (wanted.single_part and bool(self._settings.acl))
        status = self.direct.begin(upload, replace(wanted, form=form, pool_options=self._pool_options))
        if not in_parts:
            self._background.note(upload.claims.id, identifier)
        return self._handle(identifier, upload.claims.id, status)

    def find(self, key: str) -> UploadHandle:
        """Return the upload with this *key*: an identifier, or the key of an object that a presigned POST has stored.

        :raises UnknownKey: there is no such upload, or it belongs to another application.
        """
        pool = self._manager.pool
        of_form = pool.bucket_id_of_form_key(key)
        try:
            bucket_id = of_form or self._manager.verify(key).id
        except InvalidIdentifier:
            raise UnknownKey from None
        note_upload(bucket_id=bucket_id)
        status = pool.bucket(bucket_id).get_status()
        if status.state is State.UNKNOWN or not is_owned(status):
            raise UnknownKey
        if of_form and not pool.direct(bucket_id, status.attempt).is_form_key(key):
            raise UnknownKey
        return self._handle(self._manager.create_identifier_for(bucket_id) if of_form else key, bucket_id, status)

    def _handle(self, key: str, bucket_id: str, status: UploadStatus) -> UploadHandle:
        upload_id = self._manager.pool.direct(bucket_id, status.attempt).upload_id
        return UploadHandle(key, bucket_id, status, upload_id)

    def complete(
        self, handle: UploadHandle, etags: Mapping[int, str] | None = None, *, keep_incomplete: bool = False
    ) -> dict[str, Any]:
        """Finish an upload, deliver its webhook, and return its descriptor. Idempotent: a client may retry it.

        :param keep_incomplete: keep an upload of which something is missing: the client may still be sending it.
        :raises UploadError: the upload cannot be completed.
        :raises CallbackFailed: the upload is complete, but the application does not answer the webhook.
        """
        try:
            status = self.direct.complete(handle.bucket_id, etags, keep_incomplete=keep_incomplete)
        except AlreadyDone:
            status = self._manager.pool.bucket(handle.bucket_id).get_status()
        descriptor = {**status.to_json(), "identifier": handle.key}
        with suppress(BeingDelivered):  # if the other delivery fails, it is retried in the background
            self._webhook.deliver(handle.bucket_id, descriptor)
        return descriptor

    def finish(self, bucket_id: str, key: str) -> bool:
        """Finish an upload whose file was sent, and deliver its webhook, in the background.

        :return: whether nothing is left to do; False if another request is finishing or delivering it, or the pool has
            failed.
        """
        try:
            status = self.direct.complete(bucket_id, keep_incomplete=True)
        except AlreadyDone:
            status = self._manager.pool.bucket(bucket_id).get_status()
        except (Busy, Incomplete):
            return False
        except UploadError as error:
            log.info("an upload could not be completed in the background: %s", error.code)
            return error.status < HTTPStatus.INTERNAL_SERVER_ERROR
        try:
            self._webhook.deliver(bucket_id, {**status.to_json(), "identifier": key})
        except BeingDelivered:
            return False
        except CallbackFailed:
            pass  # the webhook retries it
        return True

    def maintain_if_due(self) -> None:
        """Start, if they are due: purging, retries of undelivered webhooks, and completion of sent uploads."""
        self._manager.purge_if_due()
        self._webhook.retry_if_due()
        self._background.start_if_due()

    def link(self, handle: UploadHandle, base: str) -> str:
        """Return a signed URL of the file of a finished upload, valid for ``direct_expires`` seconds.

        :param base: the URL of this app, for pools without presigned URLs.
        :raises FileMissing: the upload is not finished, or its file is gone.
        """
        ttl = self._settings.direct_expires
        bucket = self._manager.pool.bucket(handle.bucket_id)
        url = bucket.url(expires=ttl)
        if url is None:
            status = bucket.get_status()
            if status.state is not State.DONE:
                raise FileMissing
            token = UploadToken(handle.bucket_id, status.attempt, 0, 0, None, int(time.time() + ttl))
            url = f"{base}/file?ticket={self._token_signer.sign(token)}"
        return url

    def file(self, environ: WSGIEnvironment, text: str) -> Response:
        """Answer with the file of a URL from :meth:`link`.

        :param text: the token in the URL.
        :raises AddressExpired: the token was not signed here, or has expired, or the file was replaced.
        :raises FileMissing: the file is gone.
        """
        token = self._token_signer.read(text)
        bucket = self._manager.pool.bucket(token.bucket_id)
        status = bucket.get_status()
        if status.state is not State.DONE:
            raise FileMissing
        if status.attempt != token.attempt:
            raise AddressExpired
        file = status.files[0]
        served = ServedFile(
            name=file.filename,
            content_type=file.content_type,
            size=file.size,
            etag=file.sha256 or status.attempt,
        )
        return file_response(environ, served, partial(bucket.open, 0), self._settings)

    def cancel(self, handle: UploadHandle) -> None:
        """Remove an upload that is running or has failed.

        :raises AlreadyDone: the upload is complete.
        """

        def is_removable(status: UploadStatus) -> bool:
            return status.state is not State.DONE and is_owned(status)

        if self._manager.pool.clear(handle.bucket_id, condition=is_removable):
            return
        if self._manager.pool.bucket(handle.bucket_id).get_status().state is State.DONE:
            raise AlreadyDone
