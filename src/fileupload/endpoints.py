"""Handlers of status, reset, new identifiers, the script for pages, and downloads."""

from __future__ import annotations

import re
from functools import cache, partial
from importlib import resources
from typing import Any

from webob import Response
from webob.exc import HTTPSeeOther

from fileupload.errors import FileMissing
from fileupload.manager import UploadManager
from fileupload.status import State, timestamp
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.pipeline import Handler, Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import (
    json_response,
    prefers_text,
    script_response,
    text_response,
    with_no_store_headers,
)
from fileupload.wsgi.static_files import STATIC_TYPES, static_response
from fileupload.wsgi.upload_log import note_upload

_LINK_TTL = 300.0  # lifetime in seconds of the presigned URL of a download
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)


def status_resource(manager: UploadManager, request: Request) -> Resource:
    """Return the status resource of an upload: GET shows the status; DELETE, and POST with ``clear``, reset the upload.

    With the setting ``jsonp``, GET with ``clear`` resets it too: a script element can send no other method.
    """
    show, reset = partial(_show_status, manager), partial(_reset, manager)
    clears = "clear" in request.query
    by_script = clears and manager.settings.jsonp and request.method == "GET"
    handlers: dict[str, Handler] = {"GET": reset if by_script else show, "DELETE": reset}
    return Resource("status", {**handlers, "POST": reset} if clears else handlers)


def reset_resource(manager: UploadManager, request: Request) -> Resource:
    """Return the resource ``U?clear``: POST and DELETE reset the upload, and with the setting ``jsonp`` GET too.

    GET without ``jsonp`` is refused: it must not change anything, and another answer would look like a success.
    """
    reset = partial(_reset, manager)
    by_script = manager.settings.jsonp and request.method == "GET"
    return Resource("clear", dict.fromkeys(("GET", "POST", "DELETE") if by_script else ("POST", "DELETE"), reset))


def _show_status(manager: UploadManager, request: Request) -> Response:
    """Answer with the status; 404 if the upload is unknown.

    :raises InvalidIdentifier: the identifier is not valid.
    """
    found = manager.get_status(request.identifier)
    return _json_or_script(manager, request, found.to_json(), 404 if found.state is State.UNKNOWN else 200)


def _reset(manager: UploadManager, request: Request) -> Response:
    """Remove the upload; a missing upload is not an error.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises UploadKept: an application keeps the upload.
    """
    note_upload(bucket_id=manager.verify(request.identifier).id)
    manager.get_status(request.identifier)  # an expired identifier without an upload is refused
    manager.clear_upload_bucket(request.identifier)
    return _json_or_script(manager, request, {"success": True}, 200)


def _json_or_script(manager: UploadManager, request: Request, data: dict[str, Any], code: int) -> Response:
    if manager.settings.jsonp and request.method == "GET" and "callback" in request.query:
        # Always 200: browsers do not run scripts of error responses.
        return script_response(request.query["callback"], data)
    return json_response(data, code)


def create_identifier(manager: UploadManager, request: Request) -> Response:
    """Answer with a new identifier and status 201: as JSON, or as a line of text if the client prefers that."""
    identifier = manager.create_identifier()
    answer = (
        text_response(identifier, 201)
        if prefers_text(request.environ)
        else json_response({"identifier": identifier}, 201)
    )
    answer.headers["Vary"] = "Accept"
    return answer


def serve_script(request: Request) -> Response:
    """Answer with fileupload.js, by which any page sends files; pages of other origins may load it too."""
    response = static_response(request.environ, _script(), STATIC_TYPES["js"])
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@cache
def _script() -> bytes:
    return resources.files("fileupload").joinpath("static/fileupload.js").read_bytes()


def download(manager: UploadManager, request: Request) -> Response:
    """Answer with a file of a finished upload, whole or as byte ranges (RFC 9110, 14); ``file=`` is its index, from 0.

    With the setting ``download_links`` the answer is a redirect to a presigned URL, if the pool has them.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises FileMissing: there is no such file.
    """
    found = manager.get_status(request.identifier)
    note_upload(bucket_id=manager.verify(request.identifier).id)
    index = request.query.get("file", "0")
    bucket = manager.access_upload_bucket(request.identifier)
    if bucket is None or not _INDEX.fullmatch(index) or int(index) >= len(found.files):
        raise FileMissing
    if manager.settings.download_links and (url := bucket.url(int(index), expires=_LINK_TTL)) is not None:
        return with_no_store_headers(HTTPSeeOther(location=url))
    file = found.files[int(index)]
    return file_response(
        request.environ,
        ServedFile(
            name=file.filename,
            content_type=file.content_type,
            size=file.size,
            etag=file.sha256 or f"{found.finished or timestamp()}-{index}",
        ),
        partial(bucket.open, int(index)),
        manager.settings,
    )
