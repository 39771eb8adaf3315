"""The WSGI app of a dedicated upload server: its page, and the result page of finished uploads."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import parse_qs, quote
from wsgiref.types import WSGIEnvironment

from webob import Response
from webob.exc import HTTPFound, HTTPMethodNotAllowed, HTTPNotFound

from fileupload.errors import MalformedRequest
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.settings import least
from fileupload.wsgi.responses import json_response, prefers_html, problem, with_no_store_headers
from fileupload.wsgi.static_files import STATIC_TYPES, static_response
from fileupload.wsgi.urls import application_url

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"  # completed with the origins in cors_origins
)
_QUERY_SAFE = "%/?:@!$&'()*+,;=~"  # RFC 3986, 3.4


class UploadPage:
    """A WSGI app behind the middleware: the page at ``/``, its files below ``/static/``, a result for each upload.

    Like any app behind the middleware, it gets descriptors of uploads, and ``environ['fileupload']``.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._respond(environ)(environ, start_response)
        return answer

    def _respond(self, environ: WSGIEnvironment) -> Response:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if "fileupload.bucket" in environ:
            return self._result_page(environ)
        if path == "":
            return self._redirect(environ)
        if method not in {"GET", "HEAD"}:
            return HTTPMethodNotAllowed() if path == "/" else HTTPNotFound()
        if path == "/":
            return self._page(environ)
        if path.startswith("/static/"):
            return _static(environ, path.removeprefix("/static/"))
        return HTTPNotFound()

    @staticmethod
    def _redirect(environ: WSGIEnvironment) -> Response:
        """Redirect to the address of the page, which ends with a slash."""
        query = quote(environ.get("QUERY_STRING", ""), safe=_QUERY_SAFE, encoding="latin-1")
        try:
            return HTTPFound(location=application_url(environ) + "/" + (f"?{query}" if query else ""))
        except MalformedRequest as error:
            return problem(error, environ)

    @staticmethod
    def _page(environ: WSGIEnvironment) -> Response:
        manager: UploadManager = environ["fileupload"]
        settings = manager.settings
        given = parse_qs(environ.get("QUERY_STRING", ""), errors="replace").get("X-Progress-ID", [""])[0]
        identifier = given if manager.verify_identifier(given) else ""
        if not identifier and settings.anonymous:
            identifier = manager.create_identifier()
        max_size = _max_size(manager, identifier)
        upload_path = environ.get("SCRIPT_NAME", "") + (settings.path or "/upload")
        values = {
            "upload_path": upload_path,
            "identifier": identifier,
            "form_action": f"{upload_path}?X-Progress-ID={quote(identifier, safe='~')}",
            # If an application has given an identifier in the address, with its claims, the page requests no other.
            "anonymous": "true" if settings.anonymous and identifier != given else "false",
            "max_size": "" if max_size is None else str(max_size),
            "max_size_text": "" if max_size is None else format_size(max_size),
            "form_hidden": "" if identifier else "hidden",
            "notice_hidden": "hidden" if identifier else "",
        }
        return _html("upload.html", values, settings.cors_origins)

    @staticmethod
    def _result_page(environ: WSGIEnvironment) -> Response:
        descriptor = json.load(environ["wsgi.input"])
        if not prefers_html(environ):
            return json_response(descriptor)
        rows = "\n".join(_row(file) for file in descriptor["files"])
        values = {
            "state": descriptor["state"],
            "identifier": descriptor["identifier"],
            "status_json": json.dumps(descriptor),
            "title": "Upload complete",
            "static_path": environ.get("SCRIPT_NAME", "") + "/static/",
        }
        settings = environ["fileupload"].settings
        page = html.escape(environ.get("SCRIPT_NAME", "") + "/")
        # Without anonymous uploads, the identifier of the application is used up, and the page could not get another.
        more = f'<p><a href="{page}">Upload more files</a></p>' if settings.anonymous else ""
        return _html("result.html", values, settings.cors_origins, rows=rows, more=more)


def _max_size(manager: UploadManager, identifier: str) -> int | None:
    """Return the maximum size of an upload with *identifier*, in bytes, or None; 0 is a limit like any other."""
    claimed = manager.verify_for_upload(identifier).max_size if identifier else None
    return least(manager.settings.max_size, claimed)


def _row(file: Mapping[str, Any]) -> str:
    cells = (file["filename"], format_size(file["size"]), file["content-type"], file.get("sha256", "–"))
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _html(name: str, values: Mapping[str, str], framed_by: tuple[str, ...], **ready: str) -> Response:
    """Return the page from the template *name*.

    :param values: the values of the template as text; they are escaped.
    :param framed_by: the other origins whose pages may show the page in a frame.
    :param ready: the values of the template as HTML.
    """
    escaped = {key: html.escape(value) for key, value in values.items()}
    text = Template(_asset(name).decode()).substitute(escaped, **ready)
    response = with_no_store_headers(Response(text, content_type="text/html", charset="utf-8"))
    response.headers["Content-Security-Policy"] = " ".join((_POLICY, *framed_by))
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _static(environ: WSGIEnvironment, name: str) -> Response:
    kind = name.rpartition(".")[2]
    if name not in _assets() or kind not in STATIC_TYPES:  # the HTML files in the folder are templates
        return HTTPNotFound()
    return static_response(environ, _asset(name), STATIC_TYPES[kind])


@cache
def _assets() -> frozenset[str]:
    folder = resources.files("fileupload.apps.upload_page").joinpath("static")
    return frozenset(entry.name for entry in folder.iterdir())


@cache
def _asset(name: str) -> bytes:
    return resources.files("fileupload.apps.upload_page").joinpath("static", name).read_bytes()
