"""Routes of the middleware: the upload path and the paths below it, with their handlers.

A protocol with requests of its own, such as direct uploads, gets a resource that :meth:`UploadRoutes.find` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fileupload import endpoints
from fileupload.manager import UploadManager
from fileupload.protocols.direct import endpoints as direct_endpoints
from fileupload.protocols.registry import PROTOCOLS, open_upload, receive
from fileupload.protocols.upload_request import UploadRequest
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.cors import ANY_ORIGIN
from fileupload.wsgi.csrf import check_same_origin
from fileupload.wsgi.headers import type_of
from fileupload.wsgi.pipeline import Answer, PassThrough, Resource
from fileupload.wsgi.request import Request

ORIGIN_REFUSAL = "Pages of this origin may not upload here; the setting is cors_origins."
SUB_ENDPOINTS = ("status", "identifier", "fileupload.js", "direct", "direct/part", "direct/complete")

_WITHOUT_IDENTIFIER = frozenset({"identifier", "fileupload.js", "direct/part"})

Completion = Callable[[UploadRequest, UploadStatus], PassThrough]


class UploadPaths:
    """The upload path ``U`` of an application, and the paths of its sub-endpoints, such as ``U/status``."""

    def __init__(self, settings: Settings) -> None:
        self._is_fixed = bool(settings.path)
        base = settings.path or "/upload"
        self._names = {base: "upload", **{f"{base}/{name}": name for name in SUB_ENDPOINTS}}
        self._suffixes = () if settings.upload_url else tuple(self._names)

    def name_of(self, script_name: str, path_info: str) -> str | None:
        """Return the name of the endpoint at a path: ``upload``, or one of SUB_ENDPOINTS; None for any other path."""
        path = script_name + path_info
        if not path.endswith(self._suffixes):  # most requests of an app end here
            return None
        if self._is_fixed:
            return self._names.get(path) or self._names.get(path_info)
        return next(name for suffix, name in self._names.items() if path.endswith(suffix))


class UploadRoutes:
    """Route table of the upload path ``U`` and its sub-endpoints, such as ``U/status``."""

    def __init__(self, manager: UploadManager, complete: Completion) -> None:
        """Serve the uploads of *manager*.

        :param complete: replaces the body of a request by the descriptor of its finished upload, for the app behind.
        """
        self._manager = manager
        self._settings = manager.settings
        self._complete = complete
        self.name_of = UploadPaths(self._settings).name_of
        self._resources = self._make_resources()
        self._anonymous_resources = {
            "upload": Resource("upload", dict.fromkeys(("POST", "PUT"), self._receive_anonymous)),
            "direct": Resource("direct", {"POST": self._begin_anonymous}),
        }

    def find(self, name: str, request: Request) -> Resource | None:
        """Return the resource of the endpoint *name*; None if the request passes through to the app behind.

        A request without an identifier passes through, with four exceptions: a CORS preflight, which cannot carry one;
        a request for a new identifier, or for the script; a part of a direct upload, whose URL is presigned; and with
        the setting ``anonymous`` the start of an upload, which then gets an identifier.
        """
        if request.method == "OPTIONS" and not (request.is_preflight and self._settings.cors_origins):
            return None
        if name == "identifier" and not self._settings.anonymous:
            return None
        if name == "direct/part" and "ticket" not in request.query and not request.is_preflight:
            return None
        if name not in _WITHOUT_IDENTIFIER and not request.identifier and not request.is_preflight:
            return self._anonymous_resources[name] if self._starts_anonymously(name, request) else None
        if name == "status" or (name == "upload" and "status" in request.query):
            return endpoints.status_resource(self._manager, request)
        if name == "upload" and "clear" in request.query:
            return endpoints.reset_resource(self._manager, request)
        return self._resources[name]

    def _make_resources(self) -> dict[str, Resource]:
        """Return the resources that are the same for all requests, by the name of the endpoint.

        The methods of the upload path are those of the protocols, and GET for downloads. Requests with any other
        method pass through to the app.
        """
        manager = self._manager
        upload = dict.fromkeys((method for protocol in PROTOCOLS for method in protocol.methods), self._receive)
        if self._settings.downloads:
            upload["GET"] = partial(endpoints.download, manager)
        return {
            "upload": Resource("upload", upload, otherwise=lambda request: PassThrough()),
            "identifier": Resource(
                "identifier", {"POST": partial(endpoints.create_identifier, manager)}, guarded=False
            ),
            "fileupload.js": Resource("fileupload.js", {"GET": endpoints.serve_script}, guarded=False),
            "direct": Resource(
                "direct",
                {"POST": partial(direct_endpoints.begin, manager), "GET": partial(direct_endpoints.describe, manager)},
            ),
            "direct/part": direct_endpoints.part_resource(manager),
            "direct/complete": Resource("direct/complete", {"POST": self._complete_direct}),
        }

    def _receive(self, request: Request) -> Answer:
        """Receive the upload by the protocol of the request, and pass its descriptor to the app.

        :raises UploadError: the upload is refused, or it fails.
        """
        upload = open_upload(request, self._manager)
        return self._complete(upload, receive(upload))

    def _starts_anonymously(self, name: str, request: Request) -> bool:
        """Return whether a request without an identifier starts an upload: a form, a PUT, or a direct upload.

        Any other POST is the app's own, such as one of its forms without a file.
        """
        if not self._settings.anonymous:
            return False
        is_form = type_of(request.environ.get("CONTENT_TYPE")) == "multipart/form-data"
        is_upload = request.method == "PUT" or (request.method == "POST" and is_form)
        return (name == "upload" and is_upload) or (name == "direct" and request.method == "POST")

    def _create_identifier(self, request: Request) -> str:
        """Return the identifier of an upload that has none.

        :raises OriginNotAllowed: the page of another site has sent it. Such a page cannot get an identifier either,
            which it would have to read; it could make a visitor upload to a server that the page cannot reach.
        """
        origins = self._settings.cors_origins
        if ANY_ORIGIN not in origins:
            check_same_origin(request.environ, self._settings, origins, ORIGIN_REFUSAL)
        return self._manager.create_identifier()

    def _receive_anonymous(self, request: Request) -> Answer:
        """Receive an upload without an identifier; the descriptor has the new one, and so has the answer of the app.

        :raises UploadError: the upload is refused, or it fails.
        """
        upload = open_upload(request, self._manager, identifier=self._create_identifier(request))
        answer = self._complete(upload, receive(upload))
        return replace(answer, headers=(*answer.headers, ("X-Progress-ID", upload.identifier)))

    def _begin_anonymous(self, request: Request) -> Answer:
        """Begin a direct upload without an identifier; the answer has the new one.

        :raises UploadError: the upload is refused.
        """
        return direct_endpoints.begin(self._manager, request, self._create_identifier(request))

    def _complete_direct(self, request: Request) -> Answer:
        """Complete a direct upload, and pass its descriptor to the app.

        :raises UploadError: it cannot be completed.
        """
        upload = open_upload(request, self._manager, begun=True, body_required=False)
        return self._complete(upload, direct_endpoints.complete(self._manager, upload))
