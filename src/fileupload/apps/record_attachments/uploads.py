"""A file comes for a record: it is received, placed, and the app is asked to take it; or nothing of it remains."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.record_attachments.api_adapters import ApiAdapter
from fileupload.apps.record_attachments.change_guard import ChangeGuard, PendingChange
from fileupload.apps.record_attachments.errors import RecordError
from fileupload.apps.record_attachments.form import (
    FIELD,
    AttachmentFilter,
    attachment_missing,
    filename_required,
    read_texts,
    require_form,
    size_exceeded,
)
from fileupload.apps.record_attachments.ledger import RecordLedger, record_owner
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import StoredFile, attachment_of
from fileupload.apps.record_attachments.subrequests import AppClient, AppFailed
from fileupload.apps.record_attachments.urls import RecordAddress
from fileupload.errors import FieldTooLarge, NoFile, StorageFailed, TooLarge, UploadError
from fileupload.manager import UploadManager
from fileupload.pool.base import Condition
from fileupload.protocols.registry import open_upload, receive
from fileupload.protocols.upload_request import UploadRequest
from fileupload.status import UploadStatus
from fileupload.wsgi.request import identifier_of, parse_query
from fileupload.wsgi.responses import json_response
from fileupload.wsgi.urls import application_url

log = logging.getLogger("fileupload")

_MAX_ATTEMPTS = 3  # to update or create a record that others create and delete meanwhile
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})


class RecordUploads:
    """What happens at ``{record-url}/attachment``."""

    def __init__(
        self,
        manager: UploadManager,
        settings: RecordSettings,
        api: ApiAdapter,
        files: RecordLedger,
        changes: ChangeGuard,
    ) -> None:
        self._manager = manager
        self._settings = settings
        self._api = api
        self._files = files
        self._changes = changes

    def attach(self, client: AppClient, record: RecordAddress, environ: WSGIEnvironment) -> Response:
        """Take the file in *environ*, and make it the attachment of *record*, which is created if it is not there.

        :raises UploadError: the request is refused, and nothing of it remains.
        """
        if (refusal := self._api.check_permission(client, record)) is not None:
            return refusal
        require_form(environ)
        application_url(environ)  # refuses a request by whose address the answer could not name the record
        home = self._canonical(client, record)
        upload = self._open(environ, home)
        stored, body = self._take(home, upload)
        try:
            answer = self._save(client, record, body)
        except BaseException:
            self._settle_doubt(client, home, upload)
            raise
        if 200 <= answer.status_code < 300:
            self._keep(client, home, upload)
            return _answer(answer, home, environ, attachment_of(stored, self._settings.base_url))
        if answer.status_code < 500:
            self._withdraw(home, upload, RecordError("The server did not take the attachment."))
        else:
            self._settle_doubt(client, home, upload)
        return answer

    def _take(self, home: RecordAddress, upload: UploadRequest) -> tuple[StoredFile, dict[str, Any]]:
        """Receive the form and place its file; return it, and what the app is sent.

        :raises UploadError: the form is not as it should be, or could not be stored.
        :raises OSError: the file could not be placed.
        """
        try:
            status = self._receive(upload, self._settings.of(home.groups))
        except BaseException:
            self._forget(home, upload)
            raise
        try:
            return self._prepare(home, upload, status)
        except BaseException as error:
            self._withdraw(home, upload, error if isinstance(error, UploadError) else StorageFailed())
            raise

    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Take the attachment off *record*, and remove its file."""
        home = self._canonical(client, record)
        try:
            answer = self._api.detach(client, record)
        except AppFailed:
            self._changes.end(client, PendingChange(home.segments), Response(status=500))
            raise
        self._changes.end(client, PendingChange(home.segments), answer)
        if not 200 <= answer.status_code < 300:
            return answer
        response = Response(status=204)
        response.headers.extend(_passed_on(answer))
        response.headers.pop("Content-Type", None)
        return response

    def preflight(self, client: AppClient, record: RecordAddress, environ: WSGIEnvironment) -> Response:
        """Return what the app says of cross-origin writes to the record, for our methods (Fetch, CORS preflight)."""
        asked = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        headers = {"Access-Control-Request-Method": "PUT"} if asked else {}
        answer = client.request("OPTIONS", record.path, headers=headers)
        if "Access-Control-Allow-Methods" in answer.headers:
            answer.headers["Access-Control-Allow-Methods"] = "POST,DELETE,OPTIONS"
        return answer

    def _canonical(self, client: AppClient, record: RecordAddress) -> RecordAddress:
        return self._api.template.at(self._api.canonical(client, record.segments)) or record

    def _open(self, environ: WSGIEnvironment, home: RecordAddress) -> UploadRequest:
        rules = self._settings.of(home.groups)
        query = parse_query(environ)
        given = identifier_of(environ, query)
        limits = [limit for limit in (rules.max_size_bytes, self._settings.max_size) if limit]
        settings = replace(rules, max_size=min(limits, default=0), extensions=(), checksum="sha256")
        identifier = given or self._manager.create_identifier()
        file_filter = AttachmentFilter(rules, partial(self._files.begin, home))
        owner = record_owner(home.segments)
        return open_upload(
            environ, query, self._manager, identifier, settings=settings, file_filter=file_filter, owner=owner
        )

    @staticmethod
    def _receive(upload: UploadRequest, rules: RecordSettings) -> UploadStatus:
        """Take the form into its bucket.

        :raises UploadError: it is not as it should be, or could not be stored.
        """
        try:
            return receive(upload)
        except NoFile:
            raise attachment_missing() from None
        except FieldTooLarge:
            raise
        except TooLarge:
            if rules.max_size_bytes and upload.policy.max_size == rules.max_size_bytes:
                raise size_exceeded(rules.max_size_bytes) from None
            raise

    def _prepare(
        self, home: RecordAddress, upload: UploadRequest, status: UploadStatus
    ) -> tuple[StoredFile, dict[str, Any]]:
        """Place the file of a finished upload; return it, and what the app is sent.

        :raises UploadError: the form is not as it should be.
        :raises OSError: the file could not be stored.
        """
        file = status.files[0]
        if not file.filename:
            raise filename_required()
        attributes, permissions = read_texts(status)
        self._api.body(attributes, permissions)  # refused before anything becomes public
        bucket = upload.pool.bucket(upload.claims.id)
        stored = self._files.place(home, bucket, file, self._settings.of(home.groups))
        attachment = attachment_of(stored, self._settings.base_url)
        return stored, self._api.body({**attributes, FIELD: attachment}, permissions)

    def _save(self, client: AppClient, record: RecordAddress, body: dict[str, Any]) -> Response:
        """Have the app update the record, or create it; return its answer."""
        for _ in range(_MAX_ATTEMPTS):
            answer = client.request("PATCH", record.path, body, conditional=True)
            if answer.status_code not in self._api.not_found_statuses:
                return answer
            if client.has_preconditions:
                return client.request("PUT", record.path, body, conditional=True)
            # Another client may create it now: to replace that record would lose what is in it.
            answer = client.request("PUT", record.path, body, headers={"If-None-Match": "*"})
            if answer.status_code != 412:
                return answer
        return answer

    def _keep(self, client: AppClient, home: RecordAddress, upload: UploadRequest) -> None:
        """Note that the record has the file, and remove those that it had before.

        Where that fails, the garbage collection will do it: the app has taken the file.
        """
        try:
            if not self._files.storage.needs_bucket:
                # Before the link: what is not linked is what the garbage collection looks at again.
                if _is_watched(upload):
                    upload.pool.bucket(upload.claims.id).remove_file(condition=_owned_by(upload))
                else:
                    upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
            self._files.link(home, upload.claims.id)
            self._changes.reconcile(client, home.segments)
        except (OSError, AppFailed):
            log.exception("the files that a record had before could not be removed")

    def _forget(self, home: RecordAddress, upload: UploadRequest) -> None:
        """Leave nothing of an upload that was not received but, where the client watches it, its status."""
        if not _is_watched(upload):
            upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
        entry = self._files.entry(home, upload.claims.id)
        # With a location it is that of another upload with the same identifier, as is then the bucket.
        if entry is not None and not entry.location:
            self._files.delete(entry)

    def _withdraw(self, home: RecordAddress, upload: UploadRequest, error: UploadError) -> None:
        """Leave nothing of an upload that was received but, where the client watches it, a status that says why."""
        upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
        # Last: as long as the entry is there, the garbage collection knows of all that could not be removed.
        if (entry := self._files.entry(home, upload.claims.id)) is not None:
            self._files.delete(entry)
        if _is_watched(upload):
            upload.pool.record_refusal(upload.claims.id, upload.first_status().failed(error))

    def _settle_doubt(self, client: AppClient, home: RecordAddress, upload: UploadRequest) -> None:
        """Find out whether an app that failed has taken the file, and keep it or not."""
        entry = self._files.entry(home, upload.claims.id)
        try:
            answer = client.request("GET", home.path)
        except AppFailed:
            answer = Response(status=500)
        attachment = self._api.attachment(answer) if answer.status_code == 200 else None
        if isinstance(attachment, dict) and entry is not None and entry.is_at(attachment.get("location")):
            self._keep(client, home, upload)
        elif answer.status_code in {200, 404}:
            self._withdraw(home, upload, StorageFailed())
        else:
            log.warning(
                "the app failed, and does not tell whether it took a file; `fileupload records gc` will find out"
            )


def _is_watched(upload: UploadRequest) -> bool:
    """Tell whether the client gave the identifier, and so may ask for the status."""
    return bool(identifier_of(upload.environ, upload.query))


def _owned_by(upload: UploadRequest) -> Condition:
    """Return what holds of a bucket as long as it is this record's, and not another application's or record's."""
    return lambda status: status.owner == upload.owner


def _passed_on(answer: Response) -> list[tuple[str, str]]:
    """Return the headers of the app's answer that hold for ours too: CORS, validators, and the app's own."""
    return [(name, value) for name, value in answer.headerlist if name.lower() not in _BODY_HEADERS]


def _answer(answer: Response, home: RecordAddress, environ: WSGIEnvironment, attachment: dict[str, Any]) -> Response:
    response = json_response(attachment, 201 if answer.status_code == 201 else 200)
    passed = _passed_on(answer)
    for name, _ in passed:
        response.headers.pop(name, None)
    response.headers.extend(passed)
    response.headers["Location"] = application_url(environ) + home.path
    return response
