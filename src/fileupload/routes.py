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

SUB_ENDPOINTS = ("status", "identifier", "fileupload.js", "direct", "direct/part", "direct/complete")

_WITHOUT_IDENTIFIER = frozenset({"identifier", "fileupload.js", "direct/part"})

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
        self._resources = self._make_resources()

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

        A request without an identifier passes through, with four exceptions: a CORS preflight, which cannot carry one;
        a request for a new identifier, or for the script; and a part of a direct upload, whose URL is presigned.
        """
        if request.method == "OPTIONS" and not (request.is_preflight and self._settings.cors_origins):
            return None
        if name == "identifier" and not self._settings.anonymous:
            return None
        if name == "direct/part" and "ticket" not in request.query and not request.is_preflight:
            return None
        if name not in _WITHOUT_IDENTIFIER and not request.identifier and not request.is_preflight:
            return None
        if name == "status" or (name == "upload" and "status" in request.query):
            return endpoints.status_resource(self._manager, request)
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

    def _complete_direct(self, request: Request) -> Answer:
        """Complete a direct upload, and pass its descriptor to the app.

        :raises UploadError: it cannot be completed.
        """
        upload = open_upload(request, self._manager, begun=True, body_required=False)
        return self._complete(upload, direct_endpoints.complete(self._manager, upload))
