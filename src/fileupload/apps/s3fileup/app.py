"""The WSGI app: its addresses, who may upload, and the form of its errors."""

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
    """Gives signed addresses for uploads straight into the pool: ``s3put/``, ``s3get/``, ``complete``, and Uppy's.

    ::

        app = S3Fileup(pool="s3://my-bucket/uploads")
    """

    def __init__(self, **settings: Any) -> None:
        """Answer alone, with the *settings* of :class:`~fileupload.apps.s3fileup.settings.S3FileupSettings`.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
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
        self._settings = settings
        self._uploads = FileUploads(manager, settings)
        self._companion = Companion(self._uploads, settings)
        cors = CorsPolicy(
            origins=settings.cors_origins,
            credentials=True,
            request_headers=("Authorization",),  # by which the app in front may know a client without a cookie
            refusal=_REFUSAL,
        )
        self._pipeline = Pipeline(settings, name="s3fileup", cors=cors, guard=self._guard, render_error=_render_error)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("fileupload", self.manager)
        return self._pipeline.run(Request(environ), start_response, self._route)

    def _route(self, request: Request) -> Resource:
        """Return the resource of a request.

        :raises UnknownAddress: there is none.
        """
        segments = request.environ.get("PATH_INFO", "").strip("/").split("/")
        if segments[0] == "s3":
            return self._companion.resource(segments[1:])
        resources = {
            "s3put": Resource("s3put", dict.fromkeys(("GET", "POST"), self._begin)),
            "s3get": Resource("s3get", dict.fromkeys(("GET", "POST"), self._link)),
            "complete": Resource("complete", {"POST": self._complete}),
            "file": Resource("file", {"GET": self._file}, guarded=False),  # its address is signed by itself
            "part": direct_endpoints.part_resource(self.manager),  # so is this
        }
        if len(segments) != 1 or segments[0] not in resources:
            raise UnknownAddress
        return resources[segments[0]]

    def _guard(self, request: Request) -> None:
        """Refuse clients that may not upload.

        :raises OriginNotAllowed: a page of another site sends the request.
        :raises NotAuthorized: the app in front does not know the client.
        """
        settings = self._settings
        if ANY_ORIGIN not in settings.cors_origins:
            # Beginning an upload by GET is no safer than by POST.
            check_same_origin(request.environ, settings.cors_origins, _REFUSAL, safe_methods=frozenset())
        authorize = settings.authorize
        if not (authorize(request.environ) if authorize else request.environ.get("REMOTE_USER") or settings.anonymous):
            raise NotAuthorized
        self._uploads.purge_if_due()

    def _begin(self, request: Request) -> Response:
        base = application_url(request.environ)  # before anything is begun, since it may refuse the request
        wanted = parse_s3fileup_request(read_parameters(request, self._settings))
        begun = self._uploads.begin(request.environ, wanted)
        offer = self._uploads.direct.describe(begun.bucket_id, begun.status, base)
        return json_response({**offer, "key": begun.key})

    def _link(self, request: Request) -> Response:
        """Complete the upload, if that was not done, and answer with an address under which its file can be read."""
        base = application_url(request.environ)
        begun = self._uploads.find(read_parameters(request, self._settings).get("key", ""))
        self._uploads.complete(begun)
        return json_response({"url": self._uploads.link(begun, base)})

    def _complete(self, request: Request) -> Response:
        begun = self._uploads.find(read_parameters(request, self._settings).get("key", ""))
        return json_response(self._uploads.complete(begun))

    def _file(self, request: Request) -> Response:
        return self._uploads.file(request.environ, request.query.get("ticket", ""))


def _render_error(error: UploadError, environ: WSGIEnvironment) -> Response:
    # Each client looks for the sentence under another name.
    return json_response({"error": error.detail, "message": error.detail, "code": error.code}, error.status)
