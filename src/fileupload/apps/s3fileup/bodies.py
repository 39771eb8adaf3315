"""What requests for addresses bring: a query, a form, or JSON, all of them small."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from fileupload.errors import MalformedRequest
from fileupload.protocols.direct.terms import DirectUploadRequest
from fileupload.protocols.registry import parse_query
from fileupload.settings import Settings
from fileupload.wsgi.headers import clean_filename, media_type, type_of
from fileupload.wsgi.json_body import parse_json
from fileupload.wsgi.request_body import BodyReader
from fileupload.wsgi.responses import Environ

_MOST = 2 << 20  # bytes: the ETags of 10,000 parts, and more
_MAX_NAME_LENGTH = 4096  # characters; more than a form or an address can hold
_SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)


def read_json(environ: Environ, settings: Settings) -> dict[str, Any]:
    """Return the JSON object in the body.

    :raises MalformedRequest, TooLarge: it is something else, or too long.
    """
    try:
        data = parse_json(_read(environ, settings) or b"{}")
    except ValueError as error:
        raise MalformedRequest(f"The body must be JSON in UTF-8: {error}.") from None
    if not isinstance(data, dict):
        raise MalformedRequest("The body must be a JSON object.")
    return data


def read_parameters(environ: Environ, settings: Settings) -> dict[str, str]:
    """Return the parameters of the query, and of a body that is a form or JSON.

    :raises MalformedRequest, TooLarge: the body is something else, or too long.
    """
    parameters = parse_query(environ)
    if environ["REQUEST_METHOD"] != "POST":
        return parameters
    if type_of(environ.get("CONTENT_TYPE")) == "application/json":
        data = read_json(environ, settings)
        return parameters | {name: str(value) for name, value in data.items() if isinstance(value, str | int)}
    try:
        text = _read(environ, settings).decode("ascii")
        return parameters | dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
    except (UnicodeDecodeError, ValueError):
        raise MalformedRequest("The body must be a form (application/x-www-form-urlencoded), or JSON.") from None


def parse_s3fileup_request(parameters: dict[str, str]) -> DirectUploadRequest:
    """Return the wanted in ``s3_object_name``, ``s3_object_type`` and ``s3_object_size``.

    :raises MalformedRequest: one of them is missing, or not as it must be.
    """
    name, size = _filename(parameters, "s3_object_name"), parameters.get("s3_object_size", "")
    if _SIZE.fullmatch(size) is None:
        raise MalformedRequest("'s3_object_size' must be the bytes of the file, a whole number from 0.")
    content_type = media_type(parameters.get("s3_object_type"), name)
    return DirectUploadRequest(filename=name, content_type=content_type, size=int(size), single_part=True)


def parse_uppy_request(data: dict[str, Any], *, form: bool) -> DirectUploadRequest:
    """Return the wanted in Uppy's ``filename`` and ``type``; it does not tell the size.

    :raises MalformedRequest: there is no name, or a very long one.
    """
    name, content_type = _filename(data, "filename"), data.get("type")
    given = content_type if isinstance(content_type, str) else ""
    return DirectUploadRequest(filename=name, content_type=media_type(given, name), size=None, form=form)


def _filename(data: Mapping[str, Any], parameter: str) -> str:
    given = data.get(parameter)
    if not isinstance(given, str) or len(given) > _MAX_NAME_LENGTH or not (name := clean_filename(given)):
        raise MalformedRequest(f"{parameter!r} must be the name of the file, in {_MAX_NAME_LENGTH} characters at most.")
    return name


def etags_of(data: dict[str, Any]) -> dict[int, str]:
    """Return the ETags in ``{"parts": [{"PartNumber": 1, "ETag": "…"}, …]}`` by their numbers.

    :raises MalformedRequest: it is something else.
    """
    try:
        return {int(part["PartNumber"]): str(part["ETag"]).strip('"') for part in data["parts"]}
    except (TypeError, KeyError, ValueError, OverflowError):
        raise MalformedRequest('Send {"parts": [{"PartNumber": 1, "ETag": "…"}, …]}.') from None


def detach_body(environ: Environ) -> Environ:
    """Return the request with its body, and leave it without one: who takes it reads it to its end, and nobody again.

    A server may let us wait for ever at the end of a body that was read before.
    """
    taken = dict(environ)
    environ.update({"CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO()})
    for name in ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING"):
        environ.pop(name, None)
    return taken


def _read(environ: Environ, settings: Settings) -> bytes:
    body = BodyReader(detach_body(environ), settings)
    body.trusted = True  # by the app in front, which knows the client
    return b"".join(body.chunks(_MOST))
