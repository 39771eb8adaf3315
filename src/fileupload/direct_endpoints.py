"""The addresses of direct uploads: ask for addresses, list what was sent, send to our own server, complete."""

from __future__ import annotations

import re
from typing import Any

from webob import Response

from fileupload.errors import MalformedRequest, MethodNotAllowed
from fileupload.manager import UploadManager
from fileupload.protocols.direct.part_requests import receive_part
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.protocols.receiver import UploadRequest
from fileupload.protocols.registry import open_upload
from fileupload.status import UploadStatus
from fileupload.wsgi.json_body import parse_json
from fileupload.wsgi.responses import Environ, json_response, with_no_store_headers
from fileupload.wsgi.urls import path_url

_MAX_JSON = 2 << 20  # bytes: the ETags of 10,000 parts, and more
_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


def offer(environ: Environ, query: dict[str, str], manager: UploadManager, identifier: str) -> Response:
    """Answer where a file can be sent (POST), or where the rest of it can, and what of it was (GET).

    :raises UploadError: it cannot.
    """
    method, base = environ["REQUEST_METHOD"], path_url(environ)
    first = query.get("from", "1")
    if _NUMBER.fullmatch(first) is None:
        raise MalformedRequest("'from' must be the number of a part.")
    uploads = DirectUploads(manager)
    if method == "POST":
        upload = open_upload(environ, query, manager, identifier)
        status = uploads.begin(upload, DirectUploadRequest.read(read_json(upload)))
        bucket_id = upload.claims.id
    elif method in {"GET", "HEAD"}:
        bucket_id = manager.verify(identifier).id
        status = uploads.find(bucket_id)
    else:
        raise MethodNotAllowed(method, ("POST", "GET"))
    answer = uploads.describe(bucket_id, status, base, int(first))
    return json_response({"identifier": identifier, "received": status.received, **answer})


def complete(upload: UploadRequest, manager: UploadManager) -> UploadStatus:
    """Finish the direct upload that the request speaks of; return its status.

    :raises UploadError: it cannot be finished.
    """
    if (method := upload.environ["REQUEST_METHOD"]) != "POST":
        raise MethodNotAllowed(method, ("POST",))
    return DirectUploads(manager).complete(upload.claims.id, _etags(read_json(upload)))


def part(environ: Environ, query: dict[str, str], manager: UploadManager) -> Response:
    """Take a part, or the file of a form, as an object store would.

    :raises UploadError: it is refused, or failed.
    """
    method = environ["REQUEST_METHOD"]
    if method not in {"PUT", "POST"}:
        raise MethodNotAllowed(method, ("PUT", "POST"))
    location = path_url(environ) if method == "POST" else None
    stored = receive_part(environ, query, manager)
    response = with_no_store_headers(Response(status=201 if method == "POST" else 200, content_type="text/plain"))
    response.headers["ETag"] = stored.etag
    if location is not None:
        response.location = location
    return response


def read_json(upload: UploadRequest) -> Any:
    """Return the JSON in the body of a request; None if there is none.

    :raises MalformedRequest, TooLarge: it is something else, or too long.
    """
    text = b"".join(upload.body.chunks(_MAX_JSON))
    if not text.strip():
        return None
    try:
        return parse_json(text)
    except ValueError as error:
        raise MalformedRequest(f"The body must be JSON in UTF-8: {error}.") from None


def _etags(data: Any) -> dict[int, str] | None:
    """Return the ETags in ``{"parts": [{"number": 1, "etag": "…"}, …]}``, or None where none are given.

    :raises MalformedRequest: it is something else.
    """
    if data is None or data == {}:
        return None
    try:
        return {_number(part["number"]): _text(part["etag"]).strip('"') for part in data["parts"]}
    except (TypeError, KeyError, ValueError):
        raise MalformedRequest('Send nothing, or {"parts": [{"number": 1, "etag": "…"}, …]}.') from None


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
