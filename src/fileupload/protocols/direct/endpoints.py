"""Handlers for direct uploads: begin, list parts and presigned URLs, receive a part at this server, complete."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from webob import Response

from fileupload.errors import MalformedRequest
from fileupload.manager import UploadManager
from fileupload.protocols.direct.part_requests import receive_part
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.protocols.registry import open_upload
from fileupload.protocols.upload_request import UploadRequest
from fileupload.status import UploadStatus
from fileupload.wsgi.json_body import read_json
from fileupload.wsgi.pipeline import Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response, with_no_store_headers
from fileupload.wsgi.upload_log import note_upload
from fileupload.wsgi.urls import path_url

MAX_JSON_SIZE = 2 << 20  # bytes; enough for the ETags of 10,000 parts

_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


def begin(manager: UploadManager, request: Request, identifier: str = "") -> Response:
    """Begin an upload of one file, and answer with the URLs of its parts.

    :param identifier: the identifier of the upload, if it is not the one in the request.
    :raises UploadError: the upload is refused.
    """
    first, base = _first_part(request), path_url(request.environ, manager.settings)
    upload = open_upload(request, manager, identifier=identifier)
    wanted = DirectUploadRequest.read(read_json(upload.body, MAX_JSON_SIZE))
    status = DirectUploads(manager).begin(upload, wanted)
    return _describe(manager, upload.identifier, upload.claims.id, status, base, first)


def describe(manager: UploadManager, request: Request) -> Response:
    """Answer with the URLs of the parts of an upload, and the ETags of those that are stored.

    :raises UploadError: the identifier has no unfinished direct upload.
    """
    first, base = _first_part(request), path_url(request.environ, manager.settings)
    bucket_id = manager.verify(request.identifier).id
    note_upload(bucket_id=bucket_id)
    status = DirectUploads(manager).find(bucket_id)
    return _describe(manager, request.identifier, bucket_id, status, base, first)


def _describe(
    manager: UploadManager, identifier: str, bucket_id: str, status: UploadStatus, base: str, first: int
) -> Response:
    answer = DirectUploads(manager).describe(bucket_id, status, base, first)
    return json_response({"identifier": identifier, "received": status.received, **answer})


def _first_part(request: Request) -> int:
    """Return the number of the first part that the client requests (``from=``).

    :raises MalformedRequest: it is not the number of a part.
    """
    first = request.query.get("from", "1")
    if _NUMBER.fullmatch(first) is None:
        raise MalformedRequest("'from' must be the number of a part.")
    return int(first)


def complete(manager: UploadManager, upload: UploadRequest) -> UploadStatus:
    """Finish the direct upload of a request; return its status.

    :raises UploadError: the upload cannot be completed.
    """
    etags = _etags(read_json(upload.body, MAX_JSON_SIZE))
    return DirectUploads(manager).complete(upload.claims.id, etags)


def part_resource(manager: UploadManager) -> Resource:
    """Return the resource that receives parts and forms at this server, with the answers of an S3 store.

    Its URL carries its own authorisation, as a presigned URL does; it needs no identifier.
    """
    return Resource(
        "direct/part", {"PUT": partial(_put_part, manager), "POST": partial(_post_form, manager)}, guarded=False
    )


def _put_part(manager: UploadManager, request: Request) -> Response:
    """Store the part in the body, and answer with its ETag."""
    stored = receive_part(request, manager)
    response = with_no_store_headers(Response(status=200, content_type="text/plain"))
    response.headers["ETag"] = stored.etag
    return response


def _post_form(manager: UploadManager, request: Request) -> Response:
    """Store the file of a form, and answer as S3 does to a POST with ``success_action_status=201``."""
    location = path_url(request.environ, manager.settings)
    response = _put_part(manager, request)
    response.status = 201
    response.location = location
    return response


def _etags(data: Any) -> dict[int, str] | None:
    """Return the ETags in ``{"parts": [{"number": 1, "etag": "…"}, …]}``, or None for no value or an empty object.

    :raises MalformedRequest: *data* is of another form.
    """
    if data is None or data == {}:
        return None
    try:
        return {_number(part["number"]): _text(part["etag"]).strip('"') for part in data["parts"]}
    except (TypeError, KeyError, ValueError):
        raise MalformedRequest('Send nothing, or {"parts": [{"number": 1, "etag": "…"}, …]}.') from None


def _number(value: object) -> int:
    if type(value) is not int:  # not a bool, which is an int, too
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
