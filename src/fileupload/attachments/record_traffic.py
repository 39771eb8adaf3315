"""Requests that change records and pass through to the app: single ones, and batches of them."""

from __future__ import annotations

import http
import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from webob import Response

from fileupload.attachments.record_apis import RecordApi
from fileupload.attachments.record_changes import ABSENT, Change, RecordChanges, Watch, decode
from fileupload.attachments.record_errors import AttachmentFixed, RecordError
from fileupload.attachments.record_urls import RecordTemplate
from fileupload.attachments.subrequests import OVERRIDES, AppClient, AppFailed, forward, json_of
from fileupload.errors import TooLarge, UploadError
from fileupload.protocols.body import BodyReader
from fileupload.responses import Environ
from fileupload.settings import Settings, size_text

_TRIES = 3  # to write a record that others change meanwhile
_MOST_JSON = 64 << 20  # bytes of a body that we read before the app does


@dataclass
class _Batch:
    """A batch request: what of it goes to the app, and what has been answered already.

    :ivar sent: the places of those that go to the app, in the client's order.
    :ivar refused: the answers to the others, by place.
    """

    body: dict[str, Any]
    sent: list[int] = field(default_factory=list)
    refused: dict[int, dict[str, Any]] = field(default_factory=dict)
    watches: dict[int, Watch] = field(default_factory=dict)


class RecordTraffic:
    """Passes changes on to *app*, unless they may not be, and removes what they leave behind."""

    def __init__(
        self, app: Any, settings: Settings, template: RecordTemplate, api: RecordApi, changes: RecordChanges
    ) -> None:
        self._app = app
        self._settings = settings
        self._template = template
        self._api = api
        self._changes = changes

    def respond(self, environ: Environ) -> Response | None:
        """Return the answer, or None for a request that changes no record.

        :raises UploadError: the change is refused.
        :raises AppFailed: the app raised an error.
        """
        path = environ.get("PATH_INFO", "").rstrip("/")
        for method in _methods_of(environ):
            if method == "POST" and path and path == self._api.batch_path:
                return self._respond_to_batch(environ)
            if self._changes.concerns(method, path):
                return self._respond_to_change(environ, method, path)
        return None

    def _respond_to_change(self, environ: Environ, method: str, path: str) -> Response:
        client = AppClient(self._app, environ)
        body = None if method == "DELETE" else self._read(environ)
        certain = method == environ["REQUEST_METHOD"]
        change = Change(method=method, path=path, body=body, certain=certain)
        watch = self._changes.begin(client, change)
        try:
            answer = self._forward(client, change, environ)
        except AppFailed:
            self._changes.end(client, watch, Response(status=500))
            raise
        self._changes.end(client, watch, answer)
        return answer

    def _forward(self, client: AppClient, change: Change, environ: Environ) -> Response:
        """Return the app's answer to a change that is none of an attachment.

        :raises AttachmentFixed: it is one.
        """
        for _ in range(_TRIES):
            tag = self._changes.check(client, change)
            if not tag or client.has_preconditions:
                return forward(self._app, environ)
            answer = forward(self._app, {**environ, "HTTP_IF_MATCH": tag})
            if answer.status_code != http.HTTPStatus.PRECONDITION_FAILED:
                return answer
            # Another change came between. If that was one of the attachment, this one is no longer none.
            environ["wsgi.input"].seek(0)
        return answer

    def _respond_to_batch(self, environ: Environ) -> Response:
        client = AppClient(self._app, environ)
        body = self._read(environ)
        requests = body.get("requests") if isinstance(body, dict) else None
        if not isinstance(requests, list) or self._api.passes_batch_limit(client, len(requests)):
            return forward(self._app, environ)  # which says what is wrong
        batch = _Batch(body)
        for place, request in enumerate(requests):
            self._look_at(client, batch, place, request, environ)
        answer = self._send(environ, batch)
        return self._finish(client, batch, answer)

    def _look_at(self, client: AppClient, batch: _Batch, place: int, request: Any, environ: Environ) -> None:
        change = _change_in(request, batch.body.get("defaults"), self._template.at_root(""))
        try:
            if change is not None:
                self._watch(client, batch, place, change)
        except UploadError as error:
            answer = self._api.problem(error, environ)
            assert change is not None
            batch.refused[place] = {
                "path": change.path,
                "status": answer.status_code,
                "headers": dict(answer.headers),
                "body": json_of(answer),
            }
        else:
            batch.sent.append(place)

    def _watch(self, client: AppClient, batch: _Batch, place: int, change: Change) -> None:
        """Look at one change of a batch.

        :raises UploadError: it is refused.
        """
        if change.method == "POST" and change.path.rstrip("/") == self._api.batch_path:
            raise RecordError(f"Recursive call on {self._api.batch_path} endpoint is forbidden.", location="body")
        if not self._changes.concerns(change.method, change.path):
            return
        self._changes.check(client, change)
        watch = self._changes.begin(client, change)
        if watch is None:
            return
        removed = (each.segments for each in batch.watches.values() if each.removal is not None)
        gone = any(watch.segments[: len(segments)] == segments for segments in removed)
        if gone and self._changes.attachment_in(change) is not ABSENT:
            raise AttachmentFixed  # what the record has now, it will not have when this change is made
        batch.watches[place] = watch

    def _send(self, environ: Environ, batch: _Batch) -> Response:
        """Return the app's answer to what is sent of a batch."""
        if not batch.refused:
            return forward(self._app, environ)
        if not batch.sent:
            return Response(json={"responses": []})
        requests = [batch.body["requests"][place] for place in batch.sent]
        data = json.dumps({**batch.body, "requests": requests}).encode()
        return forward(self._app, {**environ, "wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data))})

    def _finish(self, client: AppClient, batch: _Batch, answer: Response) -> Response:
        """Remove what the batch left behind, and put the refusals where they belong."""
        data = json_of(answer)
        answers = data.get("responses") if isinstance(data, dict) else None
        if answer.status_code != 200 or not isinstance(answers, list) or len(answers) != len(batch.sent):
            for watch in batch.watches.values():
                self._changes.end(client, watch, answer)
            return answer
        by_place = dict(zip(batch.sent, answers, strict=True))
        for place, watch in batch.watches.items():
            each = by_place.get(place)
            if isinstance(each, dict) and isinstance(each.get("status"), int):
                self._changes.end(client, watch, Response(json=each.get("body"), status=each["status"]))
        if batch.refused:
            by_place.update(batch.refused)
            answer.body = json.dumps({**data, "responses": [by_place[place] for place in sorted(by_place)]}).encode()
        return answer

    def _read(self, environ: Environ) -> Any:
        """Return what the body says, as JSON; the app can then read it again.

        :raises UploadError: it cannot be read, or is too large.
        """
        if not environ.get("CONTENT_LENGTH") and "HTTP_TRANSFER_ENCODING" not in environ:
            return None
        reader = BodyReader(environ, self._settings)
        if (reader.length or 0) > _MOST_JSON:
            raise TooLarge(
                f"At most {size_text(_MOST_JSON)} can be sent here; files go to the address of an attachment."
            )
        body = b"".join(reader.chunks(_MOST_JSON))
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return decode(body, environ.get("CONTENT_TYPE", ""))


def _methods_of(environ: Environ) -> list[str]:
    """Return the methods that an app may take a request for: its own first, then what a header puts in its place."""
    method = str(environ["REQUEST_METHOD"]).upper()
    others = [str(environ[name]).strip().upper() for name in OVERRIDES if name in environ and method == "POST"]
    return [method, *others]


def _change_in(request: Any, defaults: Any, root: str) -> Change | None:
    """Return the change that one request of a batch asks for (Kinto, "Batch operations"), or None."""
    if not isinstance(request, dict):
        return None
    merged = _merge(request, defaults) if isinstance(defaults, dict) else request
    method, path = merged.get("method", "GET"), merged.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    path = path.partition("?")[0]
    if not path.startswith(root):
        path = root + path
    # As WSGI gives it (PEP 3333), since that is how the app will see it.
    return Change(method=method.upper(), path=unquote_to_bytes(path).decode("latin-1"), body=merged.get("body"))


def _merge(request: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return *request* with what it lacks of *defaults*, at any depth."""
    merged = dict(request)
    for name, value in defaults.items():
        own = merged.get(name, {})
        if isinstance(value, dict) and isinstance(own, dict):
            merged[name] = _merge(own, value)
        else:
            merged.setdefault(name, value)
    return merged
