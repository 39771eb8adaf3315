"""The calls that Uppy's AwsS3 plugin makes to its Companion, for uploads in one piece and in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fileupload.apps.s3fileup.bodies import etags_of, parse_uppy_request, read_json
from fileupload.apps.s3fileup.errors import CallbackFailed, UnknownAddress, UnknownKey
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.uploads import FileUploads, UploadHandle
from fileupload.errors import MalformedRequest, MethodNotAllowed, TooLarge
from fileupload.protocols.registry import parse_query
from fileupload.settings import format_size
from fileupload.wsgi.headers import type_of
from fileupload.wsgi.responses import Environ

_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


class Companion:
    """Answers the calls, with what becomes JSON."""

    def __init__(self, uploads: FileUploads, settings: S3FileupSettings) -> None:
        self._uploads = uploads
        self._settings = settings

    def answer(self, environ: Environ, segments: Sequence[str], base: str) -> Any:
        """Answer the call to an address below ``s3``, whose further *segments* are given.

        :param base: the address of the app.
        :raises UploadError: it cannot be answered.
        """
        method = environ["REQUEST_METHOD"]
        if segments == ["params"]:
            _require(method, "GET")
            return self._begin_single(environ, base)
        if segments == ["multipart"]:
            _require(method, "POST")
            begun = self._uploads.begin(environ, parse_uppy_request(read_json(environ, self._settings), form=False))
            return {"key": begun.key, "uploadId": begun.upload_id}
        if len(segments) in {2, 3} and segments[0] == "multipart":
            return self._for_parts(environ, self._find(environ, segments[1]), segments[2:], base)
        raise UnknownAddress

    def _begin_single(self, environ: Environ, base: str) -> dict[str, Any]:
        # Uppy 6 posts forms, whatever the method says, and asks for no type of answer. Uppy 5 does what the method
        # says, and of a form it wants an ETag back, which not every store gives.
        form = "application/json" not in map(type_of, environ.get("HTTP_ACCEPT", "").split(","))
        begun = self._uploads.begin(environ, parse_uppy_request(dict(parse_query(environ)), form=form))
        answer = {"headers": {}, "expires": int(self._settings.direct_expires)}
        if not form:
            urls = self._uploads.direct.part_urls(begun.bucket_id, begun.status, base, [1])
            return {"method": "PUT", "url": urls[1], "fields": {"key": begun.key}, **answer}
        offer = self._uploads.direct.describe(begun.bucket_id, begun.status, base)
        # A store needs the key of its object; our own server takes what we call the upload.
        return {"method": "POST", "url": offer["url"], "fields": offer["fields"] or {"key": begun.key}, **answer}

    def _find(self, environ: Environ, upload_id: str) -> UploadHandle:
        begun = self._uploads.find(parse_query(environ).get("key", ""))
        if begun.upload_id != upload_id:
            raise UnknownKey
        return begun

    def _for_parts(self, environ: Environ, begun: UploadHandle, rest: Sequence[str], base: str) -> Any:
        method = environ["REQUEST_METHOD"]
        if not rest:
            _require(method, "GET", "DELETE")
            return self._list(begun) if method == "GET" else self._cancel(begun)
        if rest[0] == "complete":
            _require(method, "POST")
            # The upload is complete, and Uppy could do nothing about an application that does not answer.
            with suppress(CallbackFailed):
                self._uploads.complete(begun, etags_of(read_json(environ, self._settings)))
            return {"location": self._uploads.link(begun, base), "key": begun.key}
        _require(method, "GET")
        if rest[0] == "batch":
            numbers = parse_query(environ).get("partNumbers", "").split(",")
            return {"presignedUrls": self._sign(begun, numbers, base)}
        (url,) = self._sign(begun, rest, base).values()
        return {"url": url, "expires": int(self._settings.direct_expires)}

    def _sign(self, begun: UploadHandle, numbers: Sequence[str], base: str) -> dict[str, str]:
        """Return the addresses of the parts of these *numbers*.

        :raises UploadError: there are none for them.
        """
        if not all(map(_NUMBER.fullmatch, numbers)):
            raise MalformedRequest("The number of a part must be a whole number from 1.")
        # Of a finished upload no part is signed, nor beyond what was agreed.
        status = self._uploads.direct.find(begun.bucket_id)
        limit = status.direct.max_size if status.direct else None
        if limit is not None and status.received > limit:
            raise TooLarge(f"At most {format_size(limit)} can be sent here; {status.received} bytes were.")
        urls = self._uploads.direct.part_urls(begun.bucket_id, status, base, map(int, numbers))
        return {str(number): url for number, url in urls.items()}

    def _list(self, begun: UploadHandle) -> list[dict[str, Any]]:
        parts = self._uploads.direct.parts(begun.bucket_id, begun.status)
        return [{"PartNumber": part.number, "Size": part.size, "ETag": part.etag} for part in parts]

    def _cancel(self, begun: UploadHandle) -> dict[str, Any]:
        self._uploads.cancel(begun)
        return {}


def _require(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise MethodNotAllowed(method, allowed)
