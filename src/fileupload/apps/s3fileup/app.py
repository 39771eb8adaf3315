"""The WSGI app: its addresses, the authorisation of its clients, and the form of its errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIEnvironment

from webob import Response

from fileupload.apps.s3fileup.bodies import parse_s3fileup_request, read_parameters
from fileupload.apps.s3fileup.companion import Companion
from fileupload.apps.s3fileup.errors import NotAuthorized, UnknownAddress
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.uploads import FileUploads
from fileupload.errors import UploadError
from fileupload.factory import make_manager
from fileupload.manager import UploadManager
from fileupload.protocols.direct import endpoints as direct_endpoints
from fileupload.wsgi.cors import ANY_ORIGIN, CorsPolicy
from fileupload.wsgi.csrf import check_same_origin
from fileupload.wsgi.pipeline import Pipeline, Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response
from fileupload.wsgi.urls import application_url

_REFUSAL = "Pages of this origin may not upload here; the setting is cors_origins."


class S3Fileup:
    """A WSGI app with presigned URLs for direct uploads, at ``s3put/``, ``s3get/``, ``complete``, and Uppy's ``s3/``.

    ::

        app = S3Fileup(pool="s3://my-bucket/uploads")
    """

    def __init__(self, **settings: Any) -> None:
        """Create the app with its own pool.

        :param settings: those of :class:`~fileupload.apps.s3fileup.settings.S3FileupSettings`.
        :raises SettingError: a setting is unknown or invalid, or the pool cannot be used.
        """
        parsed = S3FileupSettings.parse(settings)
        self._set_up(make_manager(parsed), parsed)

    @classmethod
    def from_manager(cls, manager: UploadManager, settings: S3FileupSettings) -> Self:
        """Return the app with the pool of *manager*."""
        self = cls.__new__(cls)
        self._set_up(manager, settings)
        return self

    def _set_up(self, manager: UploadManager, settings: S3FileupSettings) -> None:
        self.manager = manager
        manager.pool.check()
        self._settings = settings
        self._uploads = FileUploads(manager, settings)
        self._companion = Companion(self._uploads, settings)
        self._resources = {
            "s3put": Resource("s3put", dict.fromkeys(("GET", "POST"), self._begin)),
            "s3get": Resource("s3get", dict.fromkeys(("GET", "POST"), self._link)),
            "complete": Resource("complete", {"POST": self._complete}),
            # Neither is guarded: their URLs carry their own authorisation.
            "file": Resource("file", {"GET": self._file}, guarded=False),
            "part": direct_endpoints.part_resource(manager),
        }
        cors = CorsPolicy(
            origins=settings.cors_origins,
            credentials=True,
            # The app in front may authenticate clients by the first; clients send the second to a store.
            request_headers=("Authorization", "X-Amz-Acl"),
            refusal=_REFUSAL,
        )
        self._pipeline = Pipeline(settings, name="s3fileup", cors=cors, guard=self._guard, render_error=_render_error)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("fileupload", self.manager)
        return self._pipeline.run(Request(environ), start_response, self._route)

    def _route(self, request: Request) -> Resource:
        """Return the resource of a request.

        :raises UnknownAddress: the address does not exist.
        """
        segments = request.environ.get("PATH_INFO", "").strip("/").split("/")
        if segments[0] == "s3":
            return self._companion.resource(segments[1:])
        if len(segments) != 1 or segments[0] not in self._resources:
            raise UnknownAddress
        return self._resources[segments[0]]

    def _guard(self, request: Request) -> None:
        """Refuse requests that are not authorised.

        :raises OriginNotAllowed: a page of another site has sent the request (CSRF).
        :raises NotAuthorized: the client is not authorised to upload.
        """
        settings = self._settings
        if ANY_ORIGIN not in settings.cors_origins:
            # No method is safe (RFC 9110, 9.2.1): s3put and s3get change something also by GET.
            check_same_origin(request.environ, settings, settings.cors_origins, _REFUSAL, safe_methods=frozenset())
        authorize = settings.authorize
        if not (authorize(request.environ) if authorize else request.environ.get("REMOTE_USER") or settings.anonymous):
            raise NotAuthorized
        self._uploads.maintain_if_due()

    def _begin(self, request: Request) -> Response:
        base = application_url(request.environ, self._settings)  # first, since it may refuse the request
        wanted = parse_s3fileup_request(read_parameters(request, self._settings))
        handle = self._uploads.begin(request, wanted)
        description = self._uploads.direct.describe_put(handle.bucket_id, handle.status, base)
        return json_response({**description, "key": handle.key})

    def _link(self, request: Request) -> Response:
        """Complete the upload, if it is not complete yet, and answer with a URL from which its file can be read."""
        base = application_url(request.environ, self._settings)
        handle = self._uploads.find(read_parameters(request, self._settings).get("key", ""))
        self._uploads.complete(handle, keep_incomplete=True)
        return json_response({"url": self._uploads.link(handle, base)})

    def _complete(self, request: Request) -> Response:
        handle = self._uploads.find(read_parameters(request, self._settings).get("key", ""))
        return json_response(self._uploads.complete(handle))

    def _file(self, request: Request) -> Response:
        return self._uploads.file(request.environ, request.query.get("ticket", ""))


def _render_error(error: UploadError, environ: WSGIEnvironment) -> Response:
    # Clients read the sentence under different names.
    return json_response({"error": error.detail, "message": error.detail, "code": error.code}, error.status)
