"""The addresses beside the upload itself: status, reset, new identifiers, downloads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from webob import Request, Response

from fileupload.errors import FileMissing, MethodNotAllowed
from fileupload.manager import UploadManager
from fileupload.responses import Environ, json_response, script_response, secured
from fileupload.status import State, UploadedFile, timestamp

_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)
_BLOCK = 256 << 10


def status(environ: Environ, query: dict[str, str], manager: UploadManager, identifier: str) -> Response:
    """Answer the status of an upload, or reset it.

    :raises InvalidIdentifier: the identifier is not valid.
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
    file = found.files[int(index)]
    response = Response(
        app_iter=_FileBytes(bucket.open(int(index)), 0, file.size),
        content_length=file.size,
        conditional_response=True,
        accept_ranges="bytes",
        etag=file.sha256 or f"{found.finished or timestamp()}-{index}",
    )
    secured(response).headers["Content-Type"] = file.content_type
    # Whatever the client called it, the browser is to keep it, not to run it.
    response.headers["Content-Disposition"] = _attachment(file)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return Request(environ).get_response(response)


class _FileBytes:
    """The bytes of a file from *start* to *stop*; the server closes it with the answer, however much it sent."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._start = start
        self._stop = stop

    def app_iter_range(self, start: int, stop: int) -> _FileBytes:
        return _FileBytes(self._file, start, stop)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self._stop - self._start
        while data := self._file.read(min(left, _BLOCK)):
            left -= len(data)
            yield data

    def close(self) -> None:
        self._file.close()


def _attachment(file: UploadedFile) -> str:
    """Return a Content-Disposition (RFC 6266) that names *file*, in ASCII and as it is."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file.filename)
    return f"attachment; filename=\"{plain or 'file'}\"; filename*=UTF-8''{quote(file.filename or 'file', safe='')}"
