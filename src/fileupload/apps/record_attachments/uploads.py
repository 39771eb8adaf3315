"""Uploads for records: a file is received and stored, then the app sets the attribute; otherwise the file is removed.

The app's answer decides. If the app fails (500, or an exception), the record is read to find out whether it refers to
the file; if even that is not possible, the garbage collection decides later.
"""

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
from fileupload.settings import least
from fileupload.status import State, UploadStatus
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response
from fileupload.wsgi.upload_log import note_withdrawn
from fileupload.wsgi.urls import application_url

log = logging.getLogger("fileupload")

_MAX_ATTEMPTS = 3  # to update or create a record that other requests create and delete at the same time
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})


class RecordUploads:
    """The handlers of ``{record-url}/attachment``: attach a file, detach it, answer a preflight."""

    def __init__(
        self,
        manager: UploadManager,
        settings: RecordSettings,
        api: ApiAdapter,
        ledger: RecordLedger,
        changes: ChangeGuard,
    ) -> None:
        self._manager = manager
        self._settings = settings
        self._api = api
        self._ledger = ledger
        self._changes = changes

    def attach(self, client: AppClient, record: RecordAddress, request: Request) -> Response:
        """Store the file in *request*, and make it the attachment of *record*, which is created if it does not exist.

        :raises UploadError: the request is refused, and nothing of it is kept.
        """
        if (refusal := self._api.check_permission(client, record)) is not None:
            return refusal
        require_form(request.environ)
        # Refuses a Host header that the Location of the answer could not contain.
        location = application_url(request.environ, self._settings)
        canonical = self._canonical(client, record)
        upload = self._open(request, canonical)
        stored, body = self._store(canonical, upload)
        try:
            answer = self._save(client, record, body)
        except BaseException:
            self._resolve_doubt(client, canonical, upload)
            raise
        if 200 <= answer.status_code < 300:
            self._commit(client, canonical, upload)
            return _answer(answer, location + canonical.path, attachment_of(stored, self._settings.base_url))
        if answer.status_code < 500:
            self._withdraw(canonical, upload, RecordError("The server did not accept the attachment."))
        else:
            self._resolve_doubt(client, canonical, upload)
        return answer

    def _store(self, canonical: RecordAddress, upload: UploadRequest) -> tuple[StoredFile, dict[str, Any]]:
        """Receive the form and store its file; return the file, and the body of the request to the app.

        :raises UploadError: the form is not valid, or cannot be stored.
        :raises OSError: the file cannot be stored at its location.
        """
        try:
            status = self._receive(upload, self._settings.of(canonical.groups))
        except BaseException:
            self._discard(canonical, upload)
            raise
        try:
            return self._prepare(canonical, upload, status)
        except BaseException as error:
            self._withdraw(canonical, upload, error if isinstance(error, UploadError) else StorageFailed())
            raise

    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Remove the attachment from *record*, and its file."""
        canonical = self._canonical(client, record)
        try:
            answer = self._api.detach(client, record)
        except AppFailed:
            self._changes.end(client, PendingChange(canonical.segments), Response(status=500))
            raise
        self._changes.end(client, PendingChange(canonical.segments), answer)
        if not 200 <= answer.status_code < 300:
            return answer
        response = Response(status=204)
        response.headers.extend(_passed_on(answer))
        response.headers.pop("Content-Type", None)
        return response

    def preflight(self, client: AppClient, record: RecordAddress, environ: WSGIEnvironment) -> Response:
        """Return the app's answer to a CORS preflight for a PUT of the record, with the methods of this address."""
        is_preflight = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        headers = {"Access-Control-Request-Method": "PUT"} if is_preflight else {}
        answer = client.request("OPTIONS", record.path, headers=headers)
        if "Access-Control-Allow-Methods" in answer.headers:
            answer.headers["Access-Control-Allow-Methods"] = "POST,DELETE,OPTIONS"
        return answer

    def _canonical(self, client: AppClient, record: RecordAddress) -> RecordAddress:
        return self._api.template.at(self._api.canonical(client, record.segments)) or record

    def _open(self, request: Request, canonical: RecordAddress) -> UploadRequest:
        rules = self._settings.of(canonical.groups)
        limit = least(rules.max_size_bytes, self._settings.max_size)
        settings = replace(rules, max_size=limit, extensions=(), checksum="sha256", require_file=True)
        identifier = request.identifier or self._manager.create_identifier()
        file_filter = AttachmentFilter(rules, partial(self._ledger.begin, canonical))
        owner = record_owner(canonical.segments)
        return open_upload(
            request, self._manager, identifier=identifier, settings=settings, file_filter=file_filter, owner=owner
        )

    @staticmethod
    def _receive(upload: UploadRequest, rules: RecordSettings) -> UploadStatus:
        """Store the form in its bucket.

        :raises UploadError: the form is not valid, or cannot be stored.
        """
        try:
            return receive(upload)
        except NoFile:
            raise attachment_missing() from None
        except FieldTooLarge:
            raise
        except TooLarge:
            if rules.max_size_bytes is not None and upload.policy.max_size == rules.max_size_bytes:
                raise size_exceeded(rules.max_size_bytes) from None
            raise

    def _prepare(
        self, canonical: RecordAddress, upload: UploadRequest, status: UploadStatus
    ) -> tuple[StoredFile, dict[str, Any]]:
        """Store the file of a finished upload at its location; return it, and the body of the request to the app.

        :raises UploadError: the form is not valid.
        :raises OSError: the file cannot be stored.
        """
        file = status.files[0]
        if not file.filename:
            raise filename_required()
        attributes, permissions = read_texts(status)
        self._api.body(attributes, permissions)  # may refuse the form, before the file becomes public
        bucket = upload.pool.bucket(upload.claims.id)
        stored = self._ledger.place(canonical, bucket, file, self._settings.of(canonical.groups))
        attachment = attachment_of(stored, self._settings.base_url)
        return stored, self._api.body({**attributes, FIELD: attachment}, permissions)

    def _save(self, client: AppClient, record: RecordAddress, body: dict[str, Any]) -> Response:
        """Send the attributes to the app, as an update of the record or to create it; return the app's answer."""
        for _ in range(_MAX_ATTEMPTS):
            answer = client.request("PATCH", record.path, body, conditional=True)
            if answer.status_code not in self._api.not_found_statuses:
                return answer
            if client.has_preconditions:
                return client.request("PUT", record.path, body, conditional=True)
            # Race: another client may create the record now. An unconditional PUT would overwrite its attributes.
            answer = client.request("PUT", record.path, body, headers={"If-None-Match": "*"})
            if answer.status_code != 412:
                return answer
        return answer

    def _commit(self, client: AppClient, canonical: RecordAddress, upload: UploadRequest) -> None:
        """Mark the file as linked to its record, and remove the record's earlier files.

        The app has stored the attribute, so a failure here does not fail the request: the garbage collection will
        complete it.
        """
        try:
            if not self._ledger.storage.needs_bucket:
                # Before the link, so that after a crash the garbage collection finds an unlinked entry, and removes
                # the copy in the bucket.
                if _has_client_identifier(upload):
                    upload.pool.bucket(upload.claims.id).remove_file(condition=_owned_by(upload))
                else:
                    upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
            self._ledger.link(canonical, upload.claims.id)
            self._changes.reconcile(client, canonical.segments)
        except (OSError, AppFailed):
            log.exception("earlier files of a record could not be removed")

    def _discard(self, canonical: RecordAddress, upload: UploadRequest) -> None:
        """Remove an upload that failed. If the client has sent an identifier, its status is kept."""
        if not _has_client_identifier(upload):
            upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
        entry = self._ledger.entry(canonical, upload.claims.id)
        # An entry with a location belongs to another upload with the same identifier, and so does the bucket. A newer
        # attempt for the same record shares the entry before it has a location: removing it then would leave its file
        # without an entry, and so out of reach of the garbage collection.
        if entry is not None and not entry.location and not _has_newer_attempt(upload):
            self._ledger.delete(entry)

    def _withdraw(self, canonical: RecordAddress, upload: UploadRequest, error: UploadError) -> None:
        """Remove a stored upload. If the client has sent an identifier, the status becomes that of *error*."""
        note_withdrawn(error, upload.request.method, "attachment file")
        upload.pool.clear(upload.claims.id, condition=_owned_by(upload))
        # The entry is removed last: while it exists, the garbage collection finds all that a crash has left.
        if (entry := self._ledger.entry(canonical, upload.claims.id)) is not None:
            self._ledger.delete(entry)
        if _has_client_identifier(upload):
            upload.pool.record_refusal(upload.claims.id, upload.first_status().failed(error))

    def _resolve_doubt(self, client: AppClient, canonical: RecordAddress, upload: UploadRequest) -> None:
        """Read the record after the app has failed: commit the upload if the record refers to it, else withdraw it."""
        entry = self._ledger.entry(canonical, upload.claims.id)
        try:
            answer = client.request("GET", canonical.path)
        except AppFailed:
            answer = Response(status=500)
        attachment = self._api.attachment(answer) if answer.status_code == 200 else None
        if isinstance(attachment, dict) and entry is not None and entry.is_at(attachment.get("location")):
            self._commit(client, canonical, upload)
        elif answer.status_code in {200, 404}:
            self._withdraw(canonical, upload, StorageFailed())
        else:
            log.warning(
                "the app failed, so a file may have no record; `fileupload records gc` finds and removes such files"
            )


def _has_client_identifier(upload: UploadRequest) -> bool:
    """Return whether the client has sent an identifier, and so may request the status."""
    return bool(upload.request.identifier)


def _has_newer_attempt(upload: UploadRequest) -> bool:
    """Return whether another attempt for the same record has the bucket of an upload that failed, or may have it."""
    try:
        status = upload.pool.bucket(upload.claims.id).get_status()
    except OSError:
        return True  # the entry stays; the garbage collection finds it
    return status.owner == upload.owner and (status.running or status.state is State.DONE)


def _owned_by(upload: UploadRequest) -> Condition:
    """Return the condition that a bucket belongs to this record, not to another one or to another application."""
    return lambda status: status.owner == upload.owner


def _passed_on(answer: Response) -> list[tuple[str, str]]:
    """Return the headers of the app's answer to pass on: all but those of its body, so CORS and validators too."""
    return [(name, value) for name, value in answer.headerlist if name.lower() not in _BODY_HEADERS]


def _answer(answer: Response, location: str, attachment: dict[str, Any]) -> Response:
    response = json_response(attachment, 201 if answer.status_code == 201 else 200)
    passed = _passed_on(answer)
    for name, _ in passed:
        response.headers.pop(name, None)
    response.headers.extend(passed)
    response.headers["Location"] = location
    return response
