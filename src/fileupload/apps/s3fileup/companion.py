"""The endpoints of Companion that Uppy's AwsS3 plugin uses, for single uploads and for multipart uploads."""

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
    """The resources below ``s3/``."""

    def __init__(self, uploads: FileUploads, settings: S3FileupSettings) -> None:
        self._uploads = uploads
        self._settings = settings

    def resource(self, segments: Sequence[str]) -> Resource:
        """Return the resource at the address ``s3/`` with these *segments* below it.

        :raises UnknownAddress: the address does not exist.
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
        # Uppy 6 always posts a form, whatever method the answer names, and sends no Accept for JSON. Uppy 5 uses the
        # method in the answer; after a POST it needs an ETag, which not every store sends, so it gets a PUT.
        base = application_url(request.environ, self._settings)
        form = "application/json" not in map(type_of, request.environ.get("HTTP_ACCEPT", "").split(","))
        handle = self._uploads.begin(request, parse_uppy_request(dict(request.query), form=form))
        answer = {"headers": {}, "expires": int(self._settings.direct_expires)}
        if not form:
            urls = self._uploads.direct.part_urls(handle.bucket_id, handle.status, base, [1])
            return json_response({"method": "PUT", "url": urls[1], "fields": {"key": handle.key}, **answer})
        description = self._uploads.direct.describe(handle.bucket_id, handle.status, base)
        # Uppy later names the upload by the field "key": a store requires its own; this server accepts the identifier.
        fields = description["fields"] or {"key": handle.key}
        return json_response({"method": "POST", "url": description["url"], "fields": fields, **answer})

    def _begin_parts(self, request: Request) -> Response:
        application_url(request.environ, self._settings)  # refuses a Host header that the next requests could not use
        wanted = parse_uppy_request(read_object(request, self._settings), form=False)
        handle = self._uploads.begin(request, wanted, in_parts=True)
        return json_response({"key": handle.key, "uploadId": handle.upload_id})

    def _find(self, request: Request, upload_id: str) -> UploadHandle:
        handle = self._uploads.find(request.query.get("key", ""))
        if handle.upload_id != upload_id:
            raise UnknownKey
        return handle

    def _list(self, upload_id: str, request: Request) -> Response:
        handle = self._find(request, upload_id)
        parts = self._uploads.direct.parts(handle.bucket_id, handle.status)
        return json_response([{"PartNumber": part.number, "Size": part.size, "ETag": part.etag} for part in parts])

    def _cancel(self, upload_id: str, request: Request) -> Response:
        self._uploads.cancel(self._find(request, upload_id))
        return json_response({})

    def _complete(self, upload_id: str, request: Request) -> Response:
        base, handle = application_url(request.environ, self._settings), self._find(request, upload_id)
        # The upload is complete, and Uppy could not react to an application that does not answer its webhook. The
        # delivery is retried later.
        with suppress(CallbackFailed):
            self._uploads.complete(handle, etags_of(read_object(request, self._settings)))
        return json_response({"location": self._uploads.link(handle, base), "key": handle.key})

    def _sign_batch(self, upload_id: str, request: Request) -> Response:
        handle = self._find(request, upload_id)
        numbers = request.query.get("partNumbers", "").split(",")
        return json_response(
            {"presignedUrls": self._sign(handle, numbers, application_url(request.environ, self._settings))}
        )

    def _sign_one(self, upload_id: str, number: str, request: Request) -> Response:
        handle = self._find(request, upload_id)
        (url,) = self._sign(handle, [number], application_url(request.environ, self._settings)).values()
        return json_response({"url": url, "expires": int(self._settings.direct_expires)})

    def _sign(self, handle: UploadHandle, numbers: Sequence[str], base: str) -> dict[str, str]:
        """Return the presigned URLs of the parts with these *numbers*.

        :raises UploadError: a number is not valid, the upload is finished, or it has passed its maximum size.
        """
        if not all(map(_NUMBER.fullmatch, numbers)):
            raise MalformedRequest("The number of a part must be an integer from 1.")
        status = self._uploads.direct.find(handle.bucket_id)
        limit = status.direct.max_size if status.direct else None
        if limit is not None and status.received > limit:
            raise TooLarge(f"At most {format_size(limit)} can be sent here; {status.received} bytes were sent.")
        urls = self._uploads.direct.part_urls(handle.bucket_id, status, base, map(int, numbers))
        return {str(number): url for number, url in urls.items()}
