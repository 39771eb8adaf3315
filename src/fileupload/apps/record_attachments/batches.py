"""Batch requests: several requests in the body of one (Kinto, "Batch operations")."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.record_attachments.api_adapters import ApiAdapter
from fileupload.apps.record_attachments.attribute import ABSENT
from fileupload.apps.record_attachments.bodies import (
    FormField,
    parse_content_type,
    read_body,
    read_fields,
    require_text,
)
from fileupload.apps.record_attachments.change_guard import Change, ChangeGuard, PendingChange
from fileupload.apps.record_attachments.errors import AmbiguousRequest, AttachmentFixed, RecordError, UnsupportedBody
from fileupload.apps.record_attachments.methods import overriding_methods, require_override_of_post, require_plain_host
from fileupload.apps.record_attachments.paths import AddressKind, GuardedAddresses
from fileupload.apps.record_attachments.subrequests import AppClient, forward, json_of, without
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.errors import UploadError
from fileupload.wsgi.paths import to_wsgi_path

# A token (RFC 9110, 5.6.2) without "_": in the environ, "-" becomes "_", and two names would be one.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_BODY_HEADERS = frozenset({"CONTENT-LENGTH", "TRANSFER-ENCODING", "CONTENT-ENCODING"})


@dataclass
class _Batch:
    """A batch request, while it is checked and answered.

    :ivar sent: the indexes of the requests to be sent to the app, in the client's order.
    :ivar refused: the answers to the refused requests, by index.
    :ivar pending: the changes of the sent requests, by index, with the client of each request.
    """

    body: dict[str, Any]
    sent: list[int] = field(default_factory=list)
    refused: dict[int, dict[str, Any]] = field(default_factory=dict)
    pending: dict[int, list[tuple[AppClient, PendingChange]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _InnerRequest:
    """One request of a batch, as the app receives it.

    :ivar methods: the methods as which the app may treat it, its own first.
    :ivar path: the path below the mount, as in the environ.
    :ivar environ: the headers: its own, and those of the batch.
    """

    methods: tuple[str, ...]
    path: str
    query: tuple[FormField, ...]
    body: Any
    environ: WSGIEnvironment


class RecordBatches:
    """Passes batch requests on to *app*, without the requests in them that are refused."""

    def __init__(
        self,
        app: Any,
        template: RecordTemplate,
        api: ApiAdapter,
        changes: ChangeGuard,
        addresses: GuardedAddresses,
    ) -> None:
        self._app = app
        self._root = template.at_root("")
        self._api = api
        self._changes = changes
        self._addresses = addresses

    def respond(self, environ: WSGIEnvironment, body: Any) -> Response:
        """Return the answer to a batch with this body.

        :raises RecordError: a string in it is not valid Unicode.
        :raises AppFailed: the app raised an exception.
        """
        requests = body.get("requests") if isinstance(body, dict) else None
        if not isinstance(requests, list) or self._api.passes_batch_limit(AppClient(self._app, environ), len(requests)):
            return forward(self._app, environ)  # the app refuses it, with its own error
        require_text({**body, "requests": None})
        batch = _Batch(body)
        for index, request in enumerate(requests):
            self._check(batch, index, request, environ)
        answer = self._send(environ, batch)
        return self._finish(batch, answer)

    def _check(self, batch: _Batch, index: int, request: Any, environ: WSGIEnvironment) -> None:
        try:
            require_text(request)
            inner = _read_request(request, batch.body.get("defaults"), self._root, environ)
            if inner is not None:
                self._begin(batch, index, inner)
        except UploadError as error:
            answer = self._api.problem(error, environ)
            batch.refused[index] = {
                "path": _path_of(request, batch.body.get("defaults"), self._root),
                "status": answer.status_code,
                "headers": dict(answer.headers),
                "body": json_of(answer),
            }
        else:
            batch.sent.append(index)

    def _begin(self, batch: _Batch, index: int, inner: _InnerRequest) -> None:
        """Check one request of a batch, and begin its changes.

        :raises UploadError: the request is refused.
        """
        address = self._addresses.find(inner.path)
        if address is None:
            return
        if address.kind is AddressKind.BATCH and "POST" in inner.methods:
            raise RecordError(f"Recursive call on {self._api.batch_path} endpoint is forbidden.", location="body")
        require_override_of_post(inner.methods[0], set(inner.methods[1:]), address.kind)
        client = AppClient(self._app, inner.environ)
        removed = [
            pending.segments for each in batch.pending.values() for _, pending in each if pending.removal is not None
        ]
        for method in inner.methods:
            if not self._changes.concerns(method, address.kind):
                continue
            certain = len(inner.methods) == 1
            change = Change(method=method, path=address.path, body=inner.body, fields=inner.query, certain=certain)
            self._changes.check(client, change)
            pending = self._changes.begin(client, change)
            if pending is None:
                continue
            gone = any(pending.segments[: len(segments)] == segments for segments in removed)
            if gone and method != "DELETE" and self._changes.attachment_in(change) is not ABSENT:
                # An earlier request of the batch removes the record, so this one would not repeat its attachment but
                # set it.
                raise AttachmentFixed
            batch.pending.setdefault(index, []).append((client, pending))

    def _send(self, environ: WSGIEnvironment, batch: _Batch) -> Response:
        """Return the app's answer to the requests that are not refused."""
        if not batch.refused:
            return forward(self._app, environ)
        if not batch.sent:
            return Response(json={"responses": []})
        requests = [batch.body["requests"][index] for index in batch.sent]
        data = json.dumps({**batch.body, "requests": requests}).encode()
        return forward(self._app, {**environ, "wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))})

    def _finish(self, batch: _Batch, answer: Response) -> Response:
        """Remove the files that the batch has orphaned, and insert the answers to the refused requests."""
        data = json_of(answer)
        answers = data.get("responses") if isinstance(data, dict) else None
        if answer.status_code != 200 or not isinstance(answers, list) or len(answers) != len(batch.sent):
            for index in batch.pending:
                self._end(batch, index, answer)
            return answer
        by_index = dict(zip(batch.sent, answers, strict=True))
        for index in batch.pending:
            each = by_index.get(index)
            if isinstance(each, dict) and isinstance(each.get("status"), int):
                self._end(batch, index, Response(json=each.get("body"), status=each["status"]))
        if batch.refused:
            by_index.update(batch.refused)
            answer.body = json.dumps({**data, "responses": [by_index[index] for index in sorted(by_index)]}).encode()
        return answer

    def _end(self, batch: _Batch, index: int, answer: Response) -> None:
        for client, pending in batch.pending[index]:
            self._changes.end(client, pending, answer)


def _read_request(request: Any, defaults: Any, root: str, environ: WSGIEnvironment) -> _InnerRequest | None:
    """Return one request of a batch, or None if it is invalid, which the app answers itself.

    It is interpreted as by ``kinto.core.utils.build_request``.

    :raises RecordError: the app might interpret it differently, or fail.
    """
    if not isinstance(request, dict):
        return None
    merged = _merge(request, defaults) if isinstance(defaults, dict) else request
    method, path = merged.get("method") or "GET", merged.get("path")
    headers, body = merged.get("headers") or {}, merged.get("body") or None
    if not isinstance(method, str) or not isinstance(path, str) or not isinstance(headers, dict):
        return None
    if not all(isinstance(value, str) for value in headers.values()):
        return None
    path, query = _split_path(path, root)
    inner = {**without(environ, ("QUERY_STRING",)), **_read_headers(headers)}
    if not isinstance(body, dict | None):
        body = _read_other_body(body, inner)
    methods = dict.fromkeys((method.upper(), *sorted(overriding_methods(inner, query))))
    return _InnerRequest(methods=tuple(methods), path=path, query=read_fields(query), body=body, environ=inner)


def _split_path(path: str, root: str) -> tuple[str, str]:
    """Return the path as the app finds it in the environ (PEP 3333), and the query.

    :raises AmbiguousRequest: the app may find another path.
    """
    if not path.isascii() or not path.isprintable():
        raise AmbiguousRequest("The path must be percent-encoded: ASCII, without control characters.", location="body")
    path, _, query = path.partition("?")
    if not path.startswith(root):
        path = root + path
    try:
        decoded = to_wsgi_path(unquote_to_bytes(path).decode("utf-8"))
    except UnicodeDecodeError:
        raise AmbiguousRequest("The path must be UTF-8, percent-encoded.", location="body") from None
    # Kinto redirects these paths, and follows the redirect itself, with method and body. It treats the text after the
    # last occurrence of the path in the URL as the query: /v1/a/?/v1/a/b leads it to /v1/ab.
    if (decoded.endswith("/") or decoded == root) and root in query:
        raise AmbiguousRequest("A path with a slash at its end cannot have this query.", location="body")
    return decoded, query


def _read_headers(headers: dict[str, Any]) -> WSGIEnvironment:
    """Return the headers of a request in a batch, as the app finds them in its environ.

    :raises RecordError: with them, the app may interpret the body or the address differently.
    """
    found: WSGIEnvironment = {}
    for name, value in headers.items():
        if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
            raise AmbiguousRequest("A header of the request is malformed.", location="body")
        if name == "Content-Length":
            continue  # Kinto ignores it in this spelling
        upper = name.upper()
        if upper in _BODY_HEADERS:
            raise UnsupportedBody(f"The header {name} cannot be given for a request in a batch.")
        if upper == "HOST":
            require_plain_host(value)
        key = "HTTP_" + upper.replace("-", "_")
        if upper == "CONTENT-TYPE":
            key = "CONTENT_TYPE"
            kind, _ = parse_content_type(value)
            if kind and not kind.endswith(("/json", "+json")):
                raise UnsupportedBody("Requests in a batch are sent as JSON.")
        if key in found:
            raise AmbiguousRequest(f"The header {name} is given twice.", location="body")
        found[key] = value
    return found


def _read_other_body(body: Any, environ: WSGIEnvironment) -> Any:
    """Return the content of a body that is not a JSON object.

    :raises RecordError: it is neither text nor a list.
    """
    if isinstance(body, str):
        return read_body(body.encode("utf-8", "replace"), environ.get("CONTENT_TYPE", "")).value
    if isinstance(body, list):
        return body
    raise RecordError("The body of a request must be a JSON object.", location="body")


def _path_of(request: dict[str, Any], defaults: Any, root: str) -> str:
    """Return the path that the answer to a refused request names."""
    path = str(request.get("path") or (defaults.get("path") if isinstance(defaults, dict) else None) or "")
    path = path.encode("utf-8", "replace").decode().partition("?")[0]
    return path if path.startswith(root) else root + path


def _merge(request: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return *request*, completed by *defaults* at any depth.

    :raises RecordError: a default is an object and the request's value is not; Kinto would fail.
    """
    merged = dict(request)
    for name, value in defaults.items():
        own = merged.get(name, {})
        if isinstance(value, dict):
            if not isinstance(own, dict):
                raise RecordError(f"{name!r} must be a JSON object, as in the defaults.", location="body")
            merged[name] = _merge(own, value)
        else:
            merged.setdefault(name, value)
    return merged
