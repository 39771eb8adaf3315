"""Routes of the middleware: the upload path and the paths below it, with their handlers.

A protocol with requests of its own, such as direct uploads, gets a resource that :meth:`UploadRoutes.find` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fileupload import endpoints
from fileupload.manager import UploadManager
from fileupload.protocols.direct import endpoints as direct_endpoints
from fileupload.protocols.registry import PROTOCOLS, open_upload, receive
from fileupload.protocols.upload_request import UploadRequest
from fileupload.status import UploadStatus
from fileupload.wsgi.pipeline import Answer, PassThrough, Resource
from fileupload.wsgi.request import Request

SUB_ENDPOINTS = ("status", "identifier", "direct", "direct/part", "direct/complete")

Completion = Callable[[UploadRequest, UploadStatus], PassThrough]


class UploadRoutes:
    """Route table of the upload path ``U`` and its sub-endpoints, such as ``U/status``."""

    def __init__(self, manager: UploadManager, complete: Completion) -> None:
        """Serve the uploads of *manager*.

        :param complete: replaces the body of a request by the descriptor of its finished upload, for the app behind.
        """
        self._manager = manager
        self._settings = manager.settings
        self._complete = complete
        base = self._settings.path or "/upload"
        self._names = {base: "upload", **{f"{base}/{name}": name for name in SUB_ENDPOINTS}}
        self._suffixes = () if self._settings.upload_url else tuple(self._names)

    def name_of(self, script_name: str, path_info: str) -> str | None:
        """Return the name of the endpoint at a path: ``upload``, or one of SUB_ENDPOINTS; None for any other path."""
        path = script_name + path_info
        if not path.endswith(self._suffixes):  # most requests of an app end here
            return None
        if self._settings.path:
            return self._names.get(path) or self._names.get(path_info)
        return next(name for suffix, name in self._names.items() if path.endswith(suffix))

    def find(self, name: str, request: Request) -> Resource | None:
        """Return the resource of the endpoint *name*; None if the request passes through to the app behind.

        A request without an identifier passes through, with three exceptions: a CORS preflight, which cannot carry
        one; a request for a new identifier; and a part of a direct upload, whose URL is presigned.
        """
        if request.method == "OPTIONS" and not (request.is_preflight and self._settings.cors_origins):
            return None
        if name == "identifier":
            return self._identifier_resource() if self._settings.anonymous else None
        if name == "direct/part":
            return self._part_resource() if "ticket" in request.query or request.is_preflight else None
        if not request.identifier and not request.is_preflight:
            return None
        if name == "direct":
            return self._direct_resource()
        if name == "direct/complete":
            return Resource(name, {"POST": self._complete_direct})
        if name == "status" or "status" in request.query:
            return endpoints.status_resource(self._manager, request)
        return self._upload_resource()

    def _upload_resource(self) -> Resource:
        """Return the resource of the upload path; its methods are those of the protocols, and GET for downloads.

        Requests with any other method pass through to the app.
        """
        handlers = dict.fromkeys((method for protocol in PROTOCOLS for method in protocol.methods), self._receive)
        if self._settings.downloads:
            handlers["GET"] = partial(endpoints.download, self._manager)
        return Resource("upload", handlers, otherwise=lambda request: PassThrough())

    def _identifier_resource(self) -> Resource:
        return Resource("identifier", {"POST": partial(endpoints.create_identifier, self._manager)}, guarded=False)

    def _direct_resource(self) -> Resource:
        return Resource(
            "direct",
            {
                "POST": partial(direct_endpoints.begin, self._manager),
                "GET": partial(direct_endpoints.describe, self._manager),
            },
        )

    def _part_resource(self) -> Resource:
        return direct_endpoints.part_resource(self._manager)

    def _receive(self, request: Request) -> Answer:
        """Receive the upload by the protocol of the request, and pass its descriptor to the app.

        :raises UploadError: the upload is refused, or it fails.
        """
        upload = open_upload(request.environ, request.query, self._manager, request.identifier)
        return self._complete(upload, receive(upload))

    def _complete_direct(self, request: Request) -> Answer:
        """Complete a direct upload, and pass its descriptor to the app.

        :raises UploadError: it cannot be completed.
        """
        upload = open_upload(request.environ, request.query, self._manager, request.identifier, begun=True)
        return self._complete(upload, direct_endpoints.complete(self._manager, upload))
