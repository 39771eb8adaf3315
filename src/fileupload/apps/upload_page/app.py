"""The WSGI app of a dedicated upload server: its page, and the result page of finished uploads."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from functools import cache, partial
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import parse_qs, quote
from wsgiref.types import StartResponse, WSGIEnvironment

from webob import Response
from webob.exc import HTTPFound

from fileupload.errors import IdentifierRequired, NotFound, UnsupportedRequest
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.routes import UploadPaths
from fileupload.settings import least
from fileupload.wsgi.pipeline import Pipeline, Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response, prefers_html, with_no_store_headers
from fileupload.wsgi.static_files import STATIC_TYPES, static_response
from fileupload.wsgi.urls import application_url, relative_root

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"  # completed with the origins in cors_origins
)
_QUERY_SAFE = "%/?:@!$&'()*+,;=~"  # RFC 3986, 3.4


class UploadPage:
    """A WSGI app behind the middleware: the page at ``/``, its files below ``/static/``, a result for each upload.

    Like any app behind the middleware, it gets descriptors of uploads, and ``environ['fileupload']``.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        manager: UploadManager = environ["fileupload"]
        pipeline = Pipeline(manager.settings, name="page")
        return pipeline.run(Request(environ), start_response, partial(self._route, manager))

    def _route(self, manager: UploadManager, request: Request) -> Resource:
        """Return the resource of a request.

        :raises IdentifierRequired: the middleware has passed on a request to one of its addresses.
        :raises NotFound: the address does not exist.
        """
        environ = request.environ
        path = environ.get("PATH_INFO", "")
        if "fileupload.bucket" in environ:
            return Resource("result", {"POST": partial(_result_page, manager)})
        if path == "":
            return Resource("page", {"GET": partial(_redirect, manager)})
        if path == "/":
            return Resource("page", {"GET": partial(_page, manager)})
        if path.startswith("/static/"):
            return Resource("static", {"GET": partial(_static, path.removeprefix("/static/"))})
        name = UploadPaths(manager.settings).name_of(environ.get("SCRIPT_NAME", ""), path)
        # A browser's GET of the upload path is a wrong link; a program's is a request for a download.
        if name is None or (name == "upload" and request.method in {"GET", "HEAD"}):
            raise NotFound
        if manager.settings.anonymous and name in {"upload", "direct"}:
            raise UnsupportedRequest("Send a form (multipart/form-data) by POST, or a plain file by PUT.")
        raise IdentifierRequired(anonymous=manager.settings.anonymous)


def _redirect(manager: UploadManager, request: Request) -> Response:
    """Redirect to the address of the page, which ends with a slash."""
    query = quote(request.environ.get("QUERY_STRING", ""), safe=_QUERY_SAFE, encoding="latin-1")
    root = application_url(request.environ, manager.settings)
    return HTTPFound(location=f"{root}/" + (f"?{query}" if query else ""))


def _page(manager: UploadManager, request: Request) -> Response:
    settings = manager.settings
    given = parse_qs(request.environ.get("QUERY_STRING", ""), errors="replace").get("X-Progress-ID", [""])[0]
    identifier = given if manager.verify_identifier(given) else ""
    if not identifier and settings.anonymous:
        identifier = manager.create_identifier()
    max_size = _max_size(manager, identifier)
    # Relative to the page, as all its addresses: a proxy may have removed a prefix that is not known here.
    upload_path = "." + (settings.path or "/upload")
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


def _result_page(manager: UploadManager, request: Request) -> Response:
    environ, settings = request.environ, manager.settings
    descriptor = json.load(environ["wsgi.input"])
    if not prefers_html(environ):
        return json_response(descriptor)
    rows = "\n".join(_row(file) for file in descriptor["files"]) or '<tr><td colspan="4">No file was sent.</td></tr>'
    root = relative_root(environ)
    values = {
        "state": descriptor["state"],
        "identifier": descriptor["identifier"],
        "status_json": json.dumps(descriptor),
        "title": "Upload complete",
        "static_path": f"{root}static/",
    }
    # Without anonymous uploads, the identifier of the application is used up, and the page could not get another.
    more = f'<p><a href="{html.escape(root)}">Upload more files</a></p>' if settings.anonymous else ""
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


def _static(name: str, request: Request) -> Response:
    kind = name.rpartition(".")[2]
    if name not in _assets() or kind not in STATIC_TYPES:  # the HTML files in the folder are templates
        raise NotFound
    return static_response(request.environ, _asset(name), STATIC_TYPES[kind])


@cache
def _assets() -> frozenset[str]:
    folder = resources.files("fileupload.apps.upload_page").joinpath("static")
    return frozenset(entry.name for entry in folder.iterdir())


@cache
def _asset(name: str) -> bytes:
    return resources.files("fileupload.apps.upload_page").joinpath("static", name).read_bytes()
