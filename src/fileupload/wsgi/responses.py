"""Responses: problem documents and pages for errors, JSON, JSONP."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib import resources
from string import Template
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Response
from webob.acceptparse import create_accept_header

from fileupload.errors import BadCallback, UploadError
from fileupload.wsgi.json_body import encode_json

_CALLBACK = re.compile(r"[A-Za-z_$][\w$]{0,63}(?:\.[A-Za-z_$][\w$]{0,63}){0,3}", re.ASCII)


@cache
def _error_page() -> Template:
    # The page contains its style: any URL for a style sheet could belong to the app behind.
    return Template(resources.files("fileupload.wsgi").joinpath("message.html").read_text(encoding="utf-8"))


def prefers_html(environ: WSGIEnvironment) -> bool:
    """Return whether the request's Accept header prefers HTML to JSON (RFC 9110, 12.5.1)."""
    return _preferred(environ, "text/html")


def prefers_text(environ: WSGIEnvironment) -> bool:
    """Return whether the request's Accept header prefers plain text to JSON."""
    return _preferred(environ, "text/plain")


def _preferred(environ: WSGIEnvironment, content_type: str) -> bool:
    offers = create_accept_header(environ.get("HTTP_ACCEPT")).acceptable_offers(["application/json", content_type])
    return bool(offers and offers[0][0] == content_type)


def with_no_store_headers(response: Response) -> Response:
    """Return *response* with headers that forbid caching, and guessing another content type."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def json_response(
    data: dict[str, Any] | list[Any], status: int = 200, content_type: str = "application/json"
) -> Response:
    """Return a response with *data* as JSON and a line end, after which a terminal shows its prompt on a new line."""
    response = Response(encode_json(data) + b"\n", status=status)
    response.headers["Content-Type"] = content_type
    return with_no_store_headers(response)


def text_response(text: str, status: int = 200) -> Response:
    """Return a response with the line *text*."""
    return with_no_store_headers(Response(text + "\n", status=status, content_type="text/plain", charset="utf-8"))


def script_response(callback: str, data: dict[str, Any]) -> Response:
    """Return a script that calls *callback* with *data* (JSONP).

    :raises BadCallback: *callback* is no plain JavaScript name.
    """
    if _CALLBACK.fullmatch(callback) is None:
        raise BadCallback("The callback must be a JavaScript name, which may contain dots.")
    # The leading comment prevents a response that begins with bytes of the client's choice, which a plugin could run
    # as a file of its own type ("Rosetta Flash"). json.dumps escapes U+2028 and U+2029, which older engines refuse.
    body = f"/**/{callback}({json.dumps(data)});".replace("</", "<\\/")
    return with_no_store_headers(Response(body.encode(), content_type="text/javascript", charset="utf-8"))


def problem(error: UploadError, environ: WSGIEnvironment) -> Response:
    """Return the response for *error*: a problem document (RFC 9457), or a page if the client prefers HTML."""
    data = {"status": error.status, "title": error.title, "detail": error.detail, "code": error.code}
    if prefers_html(environ):
        body = _error_page().substitute(
            {name: html.escape(str(value)) for name, value in data.items()},
            status_json=html.escape(json.dumps({"state": "error", "error": error.detail, "code": error.code})),
        )
        response = Response(body, status=error.status, content_type="text/html", charset="utf-8")
        response.headers["Content-Security-Policy"] = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        response = with_no_store_headers(response)
    else:
        response = json_response(data, error.status, "application/problem+json")
    return response


def with_error_headers(response: Response, error: UploadError) -> Response:
    """Return *response*, an answer to *error* in any form, with the headers that the error requires."""
    for name, value in error.headers.items():
        response.headers[name] = value
    return response
