"""Answers: errors as problem documents or small pages, JSON, and what other origins may read."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from webob import Response
from webob.acceptparse import create_accept_header

from fileupload.errors import BadCallback, MethodNotAllowed, UploadError
from fileupload.protocols.registry import unread_body
from fileupload.settings import Settings
from fileupload.wsgi.json_body import encode_json
from fileupload.wsgi.request_body import BodyReader

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_CALLBACK = re.compile(r"[A-Za-z_$][\w$]{0,63}(?:\.[A-Za-z_$][\w$]{0,63}){0,3}", re.ASCII)
_ORIGIN = re.compile(r"[!-~]{1,1000}", re.ASCII)
_CORS_METHODS = "GET, HEAD, POST, PUT, DELETE"
_CORS_HEADERS = "Content-Type, Content-Disposition, X-Progress-ID, X-Requested-With"
_CORS_EXPOSED = "Location, Content-Disposition, Content-Length, ETag"


@cache
def _error_page() -> Template:
    # It has its style in itself: behind any app, there is no other address that we could take for it.
    return Template(resources.files("fileupload.wsgi").joinpath("message.html").read_text(encoding="utf-8"))


def prefers_html(environ: Environ) -> bool:
    """Tell whether the client would rather have a page than JSON (RFC 9110, 12.5.1)."""
    accept = create_accept_header(environ.get("HTTP_ACCEPT"))
    offers = accept.acceptable_offers(["application/json", "text/html"])
    return bool(offers and offers[0][0] == "text/html")


def with_no_store_headers(response: Response) -> Response:
    """Return *response*, kept out of caches and taken for nothing else than it says it is."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def json_response(
    data: dict[str, Any] | list[Any], status: int = 200, content_type: str = "application/json"
) -> Response:
    """Return *data* as JSON."""
    response = Response(encode_json(data), status=status)
    response.headers["Content-Type"] = content_type
    return with_no_store_headers(response)


def script_response(callback: str, data: dict[str, Any]) -> Response:
    """Return a script that calls *callback* with *data*.

    :raises BadCallback: it is no plain JavaScript name.
    """
    if _CALLBACK.fullmatch(callback) is None:
        raise BadCallback("The callback must be a JavaScript name, with dots at most.")
    # The comment before it keeps the answer from beginning with characters of the client's choice, and the
    # escaped separators would end a line in older engines.
    body = f"/**/{callback}({json.dumps(data)});".replace("</", "<\\/")
    return with_no_store_headers(Response(body.encode(), content_type="text/javascript", charset="utf-8"))


def problem(error: UploadError, environ: Environ) -> Response:
    """Return the answer to *error*: a problem document (RFC 9457), or a page where the client asks for one."""
    data = {"status": error.status, "title": error.title, "detail": error.detail, "code": error.code}
    if prefers_html(environ):
        body = _error_page().substitute(
            {name: html.escape(str(value)) for name, value in data.items()},
            status_json=html.escape(json.dumps({"state": "error", "error": error.detail, "code": error.code})),
        )
        response = Response(body, status=error.status, content_type="text/html", charset="utf-8")
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        response = with_no_store_headers(response)
    else:
        response = json_response(data, error.status, "application/problem+json")
    return with_error_headers(response, error)


def with_error_headers(response: Response, error: UploadError) -> Response:
    """Return *response*, the answer to *error* in any form, with what its headers have to tell."""
    if isinstance(error, MethodNotAllowed):
        response.allow = error.allowed
    if error.retry_after is not None:
        response.retry_after = error.retry_after
    return response


class _ThenDrain:
    """An answer behind which what is left of the request's body is drained, once the server has sent it."""

    def __init__(self, answer: Iterable[bytes], body: BodyReader) -> None:
        self._answer = answer
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        try:
            if (close := getattr(self._answer, "close", None)) is not None:
                close()
        finally:
            self._body.drain()


def send(response: Response, environ: Environ, start_response: StartResponse, settings: Settings) -> Iterable[bytes]:
    """Answer a request with *response*, and drain what is left of its body after it.

    The answer goes out first, and so at once: servers call ``close()`` of it when they have sent it (PEP 3333).
    """
    body = unread_body(environ, settings)
    if body is not None:
        body.prepare_to_drain()
    answer: Iterable[bytes] = response(environ, start_response)
    return answer if body is None else _ThenDrain(answer, body)


def cors_headers(environ: Environ, settings: Settings) -> list[tuple[str, str]]:
    """Return the headers that let the page of another origin read the answer, if ``cors_origins`` names it."""
    if not settings.cors_origins:
        return []
    origin = environ.get("HTTP_ORIGIN", "")
    headers = [("Vary", "Origin")]
    # What is sent back in a header is first looked at: where any origin may come, this one may be any text.
    if _ORIGIN.fullmatch(origin) and (origin in settings.cors_origins or "*" in settings.cors_origins):
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Expose-Headers", _CORS_EXPOSED))
    return headers


def preflight() -> Response:
    """Return the answer to a page's question what it may send here (Fetch standard, CORS preflight)."""
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
    response.headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
    response.headers["Access-Control-Max-Age"] = "600"
    return response
