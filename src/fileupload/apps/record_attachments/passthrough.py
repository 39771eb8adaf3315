"""Requests that change records: they are checked, passed through to the app, and followed by a cleanup."""

from __future__ import annotations

import http
import io
import re
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.record_attachments.api_adapters import ApiAdapter
from fileupload.apps.record_attachments.batches import RecordBatches
from fileupload.apps.record_attachments.bodies import RecordBody, query_of, read_body, read_fields
from fileupload.apps.record_attachments.change_guard import Change, ChangeGuard, PendingChange
from fileupload.apps.record_attachments.methods import overriding_methods, require_override_of_post, require_plain_host
from fileupload.apps.record_attachments.paths import AddressKind, GuardedAddress, GuardedAddresses
from fileupload.apps.record_attachments.subrequests import AppClient, AppFailed, forward
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.errors import TooLarge
from fileupload.settings import Settings, format_size
from fileupload.wsgi.request_body import BodyReader

_MAX_ATTEMPTS = 3  # to write a record that other requests change at the same time
_MAX_JSON = 64 << 20  # bytes of a body that is read and checked before the app reads it
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_FORM = re.compile(r"[ \t]*(?:multipart/form-data|application/x-www-form-urlencoded)[ \t]*(?:;|$)", re.IGNORECASE)


class RecordPassthrough:
    """Passes allowed changes through to *app*, and removes the files that no record refers to afterwards."""

    def __init__(
        self, app: Any, settings: Settings, template: RecordTemplate, api: ApiAdapter, changes: ChangeGuard
    ) -> None:
        self._app = app
        self._settings = settings
        self._changes = changes
        self._addresses = GuardedAddresses(template, api.batch_path, api.flush_path)
        self._batches = RecordBatches(app, template, api, changes, self._addresses)

    def respond(self, environ: WSGIEnvironment) -> Response | None:
        """Return the answer, or None for a request that changes no record.

        :raises UploadError: the change is refused.
        :raises AppFailed: the app raised an exception.
        """
        method = str(environ["REQUEST_METHOD"]).upper()
        others = overriding_methods(environ) - {method}
        if _SAFE_METHODS.issuperset({method, *others}):
            return None
        require_plain_host(environ.get("HTTP_HOST", ""))
        address = self._addresses.find(environ.get("PATH_INFO", ""))
        if address is None:
            return None
        require_override_of_post(method, others, address.kind)
        if address.kind is AddressKind.BATCH:
            return (
                self._batches.respond(environ, self._read(environ, is_batch=True).value) if method == "POST" else None
            )
        return self._respond_to_change(environ, address, method, others)

    def _respond_to_change(
        self, environ: WSGIEnvironment, address: GuardedAddress, method: str, others: set[str]
    ) -> Response | None:
        client = AppClient(self._app, environ)
        body = self._read(environ) if self._is_body_read(environ, address, {method, *others}) else RecordBody()
        if method == "POST":
            others |= set(body.methods) - {method}
            require_override_of_post(method, others, address.kind)
        methods = [each for each in (method, *sorted(others)) if self._changes.concerns(each, address.kind)]
        # The query of a DELETE may be a filter by any attribute, also by the attachment.
        query = read_fields(query_of(environ)) if set(methods) - {"DELETE"} else ()
        certain = method == environ["REQUEST_METHOD"] and not others
        changes = [
            Change(method=each, path=address.path, body=body.value, fields=(*body.fields, *query), certain=certain)
            for each in methods
        ]
        return self._pass_on(client, changes, environ) if changes else None

    def _is_body_read(self, environ: WSGIEnvironment, address: GuardedAddress, methods: set[str]) -> bool:
        # A form may override its POST by another method, for example by a DELETE of a whole list.
        form = "POST" in methods and _FORM.match(environ.get("CONTENT_TYPE", "")) is not None
        return form or any(each != "DELETE" and self._changes.concerns(each, address.kind) for each in methods)

    def _pass_on(self, client: AppClient, changes: list[Change], environ: WSGIEnvironment) -> Response:
        """Return the app's answer to a request that may be any of *changes*.

        :raises AttachmentFixed: one of them would change an attachment.
        """
        pending = [self._changes.begin(client, change) for change in changes]
        try:
            answer = self._forward(client, changes, environ)
        except AppFailed:
            self._end(client, pending, Response(status=500))
            raise
        self._end(client, pending, answer)
        return answer

    def _end(self, client: AppClient, pending: list[PendingChange | None], answer: Response) -> None:
        for each in pending:
            self._changes.end(client, each, answer)

    def _forward(self, client: AppClient, changes: list[Change], environ: WSGIEnvironment) -> Response:
        for _ in range(_MAX_ATTEMPTS):
            tag = next(filter(None, [self._changes.check(client, change) for change in changes]), "")
            if not tag or client.has_preconditions:
                return forward(self._app, environ)
            answer = forward(self._app, {**environ, "HTTP_IF_MATCH": tag})
            if answer.status_code != http.HTTPStatus.PRECONDITION_FAILED:
                return answer
            # Race: another request has changed the record between the check and this request. If it has changed the
            # attachment, this request, with the old one, would change it back. So check again.
            environ["wsgi.input"].seek(0)
        return answer

    def _read(self, environ: WSGIEnvironment, *, is_batch: bool = False) -> RecordBody:
        """Return the content of the body, and put the body back for the app.

        :raises UploadError: the body cannot be parsed, or is too large.
        """
        declared = environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ
        # Over HTTP/2, and behind servers that decode chunked bodies, a body may come without these headers.
        data = self._read_bytes(environ) if declared or environ.get("wsgi.input_terminated") else b""
        environ["wsgi.input"] = io.BytesIO(data)
        environ["CONTENT_LENGTH"] = str(len(data))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return read_body(data, environ.get("CONTENT_TYPE", ""), is_batch=is_batch)

    def _read_bytes(self, environ: WSGIEnvironment) -> bytes:
        reader = BodyReader(environ, self._settings)
        if (reader.length or 0) > _MAX_JSON:
            raise TooLarge(
                f"At most {format_size(_MAX_JSON)} can be sent here; files go to the address of an attachment."
            )
        return b"".join(reader.chunks(_MAX_JSON))
