"""The calls that Uppy's AwsS3 plugin makes to its Companion, for uploads in one piece and in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from webob import Response

from fileupload.apps.s3fileup.bodies import etags_of, parse_uppy_request, read_object
from fileupload.apps.s3fileup.errors import CallbackFailed, UnknownAddress, UnknownKey
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.uploads import FileUploads, UploadHandle
from fileupload.errors import MalformedRequest, TooLarge
from fileupload.formatting import format_size
from fileupload.wsgi.headers import type_of
from fileupload.wsgi.pipeline import Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response
from fileupload.wsgi.urls import application_url

_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


class Companion:
    """Answers the calls."""

    def __init__(self, uploads: FileUploads, settings: S3FileupSettings) -> None:
        self._uploads = uploads
        self._settings = settings

    def resource(self, segments: Sequence[str]) -> Resource:
        """Return the resource at an address below ``s3``, by its further *segments*.

        :raises UnknownAddress: there is none.
        """
        match segments:
            case ["params"]:
                return Resource("s3/params", {"GET": self._begin_single})
            case ["multipart"]:
                return Resource("s3/multipart", {"POST": self._begin_parts})
            case ["multipart", upload_id]:
                return Resource(
                    "s3/multipart/…",
                    {"GET": partial(self._list, upload_id), "DELETE": partial(self._cancel, upload_id)},
                )
            case ["multipart", upload_id, "complete"]:
                return Resource("s3/multipart/…/complete", {"POST": partial(self._complete, upload_id)})
            case ["multipart", upload_id, "batch"]:
                return Resource("s3/multipart/…/batch", {"GET": partial(self._sign_batch, upload_id)})
            case ["multipart", upload_id, number]:
                return Resource("s3/multipart/…/…", {"GET": partial(self._sign_one, upload_id, number)})
        raise UnknownAddress

    def _begin_single(self, request: Request) -> Response:
        # Uppy 6 posts forms, whatever the method says, and asks for no type of answer. Uppy 5 does what the method
        # says, and of a form it wants an ETag back, which not every store gives.
        base = application_url(request.environ)
        form = "application/json" not in map(type_of, request.environ.get("HTTP_ACCEPT", "").split(","))
        begun = self._uploads.begin(request.environ, parse_uppy_request(dict(request.query), form=form))
        answer = {"headers": {}, "expires": int(self._settings.direct_expires)}
        if not form:
            urls = self._uploads.direct.part_urls(begun.bucket_id, begun.status, base, [1])
            return json_response({"method": "PUT", "url": urls[1], "fields": {"key": begun.key}, **answer})
        offer = self._uploads.direct.describe(begun.bucket_id, begun.status, base)
        # A store needs the key of its object; our own server needs the name of the upload.
        fields = offer["fields"] or {"key": begun.key}
        return json_response({"method": "POST", "url": offer["url"], "fields": fields, **answer})

    def _begin_parts(self, request: Request) -> Response:
        application_url(request.environ)  # refuses what the next calls would refuse
        wanted = parse_uppy_request(read_object(request, self._settings), form=False)
        begun = self._uploads.begin(request.environ, wanted)
        return json_response({"key": begun.key, "uploadId": begun.upload_id})

    def _find(self, request: Request, upload_id: str) -> UploadHandle:
        begun = self._uploads.find(request.query.get("key", ""))
        if begun.upload_id != upload_id:
            raise UnknownKey
        return begun

    def _list(self, upload_id: str, request: Request) -> Response:
        begun = self._find(request, upload_id)
        parts = self._uploads.direct.parts(begun.bucket_id, begun.status)
        return json_response([{"PartNumber": part.number, "Size": part.size, "ETag": part.etag} for part in parts])

    def _cancel(self, upload_id: str, request: Request) -> Response:
        self._uploads.cancel(self._find(request, upload_id))
        return json_response({})

    def _complete(self, upload_id: str, request: Request) -> Response:
        base, begun = application_url(request.environ), self._find(request, upload_id)
        # The upload is complete, and Uppy could do nothing about an application that does not answer.
        with suppress(CallbackFailed):
            self._uploads.complete(begun, etags_of(read_object(request, self._settings)))
        return json_response({"location": self._uploads.link(begun, base), "key": begun.key})

    def _sign_batch(self, upload_id: str, request: Request) -> Response:
        begun = self._find(request, upload_id)
        numbers = request.query.get("partNumbers", "").split(",")
        return json_response({"presignedUrls": self._sign(begun, numbers, application_url(request.environ))})

    def _sign_one(self, upload_id: str, number: str, request: Request) -> Response:
        begun = self._find(request, upload_id)
        (url,) = self._sign(begun, [number], application_url(request.environ)).values()
        return json_response({"url": url, "expires": int(self._settings.direct_expires)})

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
