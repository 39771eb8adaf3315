"""The addresses beside the upload itself: status, reset, new identifiers, downloads."""

from __future__ import annotations

import re
from functools import partial

from webob import Response
from webob.exc import HTTPSeeOther

from fileupload.errors import FileMissing, MethodNotAllowed
from fileupload.manager import UploadManager
from fileupload.status import State, timestamp
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.responses import Environ, json_response, script_response, with_no_store_headers

_LINK_LIFE = 300.0  # seconds in which a download must begin
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)


def status(environ: Environ, query: dict[str, str], manager: UploadManager, identifier: str) -> Response:
    """Answer the status of an upload, or reset it.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises UploadKept: the app has taken the upload for its own, and it cannot be reset.
    :raises MethodNotAllowed: only GET, HEAD, DELETE, and POST with ``clear`` are possible.
    """
    method = environ["REQUEST_METHOD"]
    jsonp = manager.settings.jsonp
    if method == "DELETE" or ("clear" in query and (method == "POST" or (jsonp and method == "GET"))):
        manager.get_status(identifier)  # an invalid identifier is an error, an absent upload is none
        manager.clear_upload_bucket(identifier)
        data, code = {"success": True}, 200
    elif method in {"GET", "HEAD"}:
        found = manager.get_status(identifier)
        data, code = found.to_json(), 404 if found.state is State.UNKNOWN else 200
    else:
        raise MethodNotAllowed(method, ("GET", "DELETE", "POST with clear"))
    if jsonp and method == "GET" and "callback" in query:
        # A script tag sees no answer of another status.
        return script_response(query["callback"], data)
    return json_response(data, code)


def create_identifier(environ: Environ, manager: UploadManager) -> Response:
    """Answer with a new identifier.

    :raises MethodNotAllowed: only POST is possible.
    """
    if environ["REQUEST_METHOD"] != "POST":
        raise MethodNotAllowed(environ["REQUEST_METHOD"], ("POST",))
    return json_response({"identifier": manager.create_identifier()}, 201)


def download(environ: Environ, query: dict[str, str], manager: UploadManager, identifier: str) -> Response:
    """Answer with a file of a finished upload (``file=`` counts from 0), whole or in ranges.

    :raises InvalidIdentifier: the identifier is not valid.
    :raises FileMissing: there is no such file.
    """
    found = manager.get_status(identifier)
    index = query.get("file", "0")
    bucket = manager.access_upload_bucket(identifier)
    if bucket is None or not _INDEX.fullmatch(index) or int(index) >= len(found.files):
        raise FileMissing
    if manager.settings.download_links and (url := bucket.url(int(index), expires=_LINK_LIFE)) is not None:
        return with_no_store_headers(HTTPSeeOther(location=url))
    file = found.files[int(index)]
    return file_response(
        environ,
        ServedFile(
            name=file.filename,
            content_type=file.content_type,
            size=file.size,
            etag=file.sha256 or f"{found.finished or timestamp()}-{index}",
        ),
        partial(bucket.open, int(index)),
        manager.settings,
    )
