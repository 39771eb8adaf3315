"""Handlers for the addresses beside the upload itself: status, reset, new identifiers, downloads."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from webob import Response
from webob.exc import HTTPSeeOther

from fileupload.errors import FileMissing
from fileupload.manager import UploadManager
from fileupload.status import State, timestamp
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.pipeline import Handler, Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response, script_response, with_no_store_headers

_LINK_TTL = 300.0  # seconds in which a download from the store must begin
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)


def status_resource(manager: UploadManager, request: Request) -> Resource:
    """Return the status of an upload as a resource: GET shows it; DELETE, and POST with ``clear``, reset the upload.

    With the setting ``jsonp``, GET with ``clear`` resets it too, since a script tag can send nothing else.
    """
    show, reset = partial(_show_status, manager), partial(_reset, manager)
    clears = "clear" in request.query
    by_script = clears and manager.settings.jsonp and request.method == "GET"
    handlers: dict[str, Handler] = {"GET": reset if by_script else show, "DELETE": reset}
    return Resource("status", {**handlers, "POST": reset} if clears else handlers)


def _show_status(manager: UploadManager, request: Request) -> Response:
    """Answer with the status.

    :raises InvalidIdentifier: the identifier is not valid.
    """
    found = manager.get_status(request.identifier)
    return _json_or_script(manager, request, found.to_json(), 404 if found.state is State.UNKNOWN else 200)


def _reset(manager: UploadManager, request: Request) -> Response:
    """Remove the upload; an upload that is not there is no error.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises UploadKept: the app has taken the upload for its own, and it cannot be reset.
    """
    manager.get_status(request.identifier)  # for its errors
    manager.clear_upload_bucket(request.identifier)
    return _json_or_script(manager, request, {"success": True}, 200)


def _json_or_script(manager: UploadManager, request: Request, data: dict[str, Any], code: int) -> Response:
    if manager.settings.jsonp and request.method == "GET" and "callback" in request.query:
        # A script tag sees no answer of another status.
        return script_response(request.query["callback"], data)
    return json_response(data, code)


def create_identifier(manager: UploadManager, request: Request) -> Response:
    """Answer with a new identifier."""
    return json_response({"identifier": manager.create_identifier()}, 201)


def download(manager: UploadManager, request: Request) -> Response:
    """Answer with a file of a finished upload (``file=`` counts from 0), whole or in ranges.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises FileMissing: there is no such file.
    """
    found = manager.get_status(request.identifier)
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
