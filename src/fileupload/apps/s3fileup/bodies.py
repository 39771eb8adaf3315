"""The parameters of requests to the app: in the query, in a form, or in JSON."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import WSGIEnvironment

from fileupload.errors import MalformedRequest
from fileupload.protocols.direct.endpoints import MAX_JSON_SIZE
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.settings import Settings
from fileupload.wsgi.headers import clean_filename, media_type, type_of
from fileupload.wsgi.json_body import read_json
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BodyReader

_MAX_NAME_LENGTH = 4096  # characters; more than a form or a URL can hold
_PARAMETERS = frozenset({"key", "s3_object_name", "s3_object_type", "s3_object_size"})
_SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)


def read_object(request: Request, settings: Settings) -> dict[str, Any]:
    """Return the JSON object in the body; an empty object for an empty body.

    :raises MalformedRequest: the body is no JSON object.
    :raises TooLarge: the body is too large.
    """
    data = read_json(_body(request, settings), MAX_JSON_SIZE)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MalformedRequest("The body must be a JSON object.")
    return data


def read_parameters(request: Request, settings: Settings) -> dict[str, str]:
    """Return the parameters of the query, and those of a form or a JSON object in the body.

    :raises MalformedRequest: the body is neither.
    :raises TooLarge: the body is too large.
    """
    parameters = request.query
    if request.method != "POST":
        return parameters
    if type_of(request.environ.get("CONTENT_TYPE")) == "application/json":
        data = {name: value for name, value in read_object(request, settings).items() if value is not None}
        for name in data.keys() & _PARAMETERS:
            if not isinstance(data[name], str | int):
                raise MalformedRequest(f"{name!r} must be a text or an integer.")
        return parameters | {name: str(value) for name, value in data.items()}
    try:
        text = b"".join(_body(request, settings).chunks(MAX_JSON_SIZE)).decode("ascii")
        return parameters | dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
    except (UnicodeDecodeError, ValueError):
        raise MalformedRequest("The body must be a form (application/x-www-form-urlencoded), or JSON.") from None


def parse_s3fileup_request(parameters: dict[str, str]) -> DirectUploadRequest:
    """Return the file in the parameters ``s3_object_name``, ``s3_object_type`` and ``s3_object_size``.

    Only the name is required: the page of the predecessor never sends the size.

    :raises MalformedRequest: a parameter is missing or invalid.
    """
    name, size = _filename(parameters, "s3_object_name"), parameters.get("s3_object_size")
    if size is not None and _SIZE.fullmatch(size) is None:
        raise MalformedRequest("'s3_object_size' must be the size of the file in bytes, an integer from 0.")
    content_type = media_type(parameters.get("s3_object_type"), name)
    announced = None if size is None else int(size)
    return DirectUploadRequest(filename=name, content_type=content_type, size=announced, single_part=True)


def parse_uppy_request(data: dict[str, Any], *, form: bool) -> DirectUploadRequest:
    """Return the file in Uppy's parameters ``filename`` and ``type``; Uppy does not send the size.

    :raises MalformedRequest: the name is missing or too long.
    """
    name, content_type = _filename(data, "filename"), data.get("type")
    given = content_type if isinstance(content_type, str) else ""
    return DirectUploadRequest(filename=name, content_type=media_type(given, name), size=None, form=form)


def _filename(data: Mapping[str, Any], parameter: str) -> str:
    given = data.get(parameter)
    if not isinstance(given, str) or len(given) > _MAX_NAME_LENGTH or not (name := clean_filename(given)):
        raise MalformedRequest(f"{parameter!r} must be the name of the file, at most {_MAX_NAME_LENGTH} characters.")
    return name


def etags_of(data: dict[str, Any]) -> dict[int, str]:
    """Return the ETags in ``{"parts": [{"PartNumber": 1, "ETag": "…"}, …]}`` by part number.

    :raises MalformedRequest: *data* is of another form.
    """
    try:
        return {int(part["PartNumber"]): str(part["ETag"]).strip('"') for part in data["parts"]}
    except (TypeError, KeyError, ValueError, OverflowError):
        raise MalformedRequest('Send {"parts": [{"PartNumber": 1, "ETag": "…"}, …]}.') from None


def detach_body(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return a copy of *environ* with the body, and replace the body in *environ* by an empty one.

    The caller reads the body to its end. No other code may read it again: with some servers, a read after the end of a
    body blocks forever.
    """
    detached = dict(environ)
    environ.update({"CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO()})
    for name in ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING"):
        environ.pop(name, None)
    return detached


def _body(request: Request, settings: Settings) -> BodyReader:
    body = BodyReader(detach_body(request.environ), settings)
    body.trusted = True  # the guard has accepted the client
    return body
