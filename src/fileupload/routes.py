"""The addresses of the middleware: the upload address and those below it, and which handlers answer there.

Another protocol adds its handlers here: see :meth:`UploadRoutes._upload_resource`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fileupload import endpoints
from fileupload.manager import UploadManager
from fileupload.protocols.direct import endpoints as direct_endpoints
from fileupload.protocols.registry import PROTOCOLS, find_protocol, open_upload
from fileupload.protocols.upload_request import UploadRequest
from fileupload.status import UploadStatus
from fileupload.wsgi.pipeline import Answer, PassThrough, Resource
from fileupload.wsgi.request import Request

SUB_ENDPOINTS = ("status", "identifier", "direct", "direct/part", "direct/complete")

Completion = Callable[[UploadRequest, UploadStatus], PassThrough]


class UploadRoutes:
    """Finds the resource of a request to the upload address, or to one below it."""

    def __init__(self, manager: UploadManager, complete: Completion) -> None:
        """Serve the uploads of *manager*.

        :param complete: hands the descriptor of a finished upload to the app behind.
        """
        self._manager = manager
        self._settings = manager.settings
        self._complete = complete
        base = self._settings.path or "/upload"
        self._names = {base: "upload", **{f"{base}/{name}": name for name in SUB_ENDPOINTS}}
        self._suffixes = () if self._settings.upload_url else tuple(self._names)

    def name_of(self, script_name: str, path_info: str) -> str | None:
        """Return which of the addresses a path is: ``upload``, or one of SUB_ENDPOINTS; None for any other path."""
        path = script_name + path_info
        if not path.endswith(self._suffixes):  # nearly every request of an app ends here
            return None
        if self._settings.path:
            return self._names.get(path) or self._names.get(path_info)
        return next(name for suffix, name in self._names.items() if path.endswith(suffix))

    def find(self, name: str, request: Request) -> Resource | None:
        """Return the resource at the address *name*; None where the app behind is to answer.

        Only requests with an identifier are answered here. Three need none: a preflight, which cannot carry one; a
        request for an identifier; and a part of a direct upload, whose address is signed by itself.
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
        """Return the upload address; what is neither an upload nor a download passes through to the app."""
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
        """Take the upload out of the request, and hand its descriptor to the app.

        :raises UploadError: it is refused, or failed.
        """
        protocol = find_protocol(request.environ)
        if protocol is None:
            return PassThrough()
        upload = open_upload(request.environ, request.query, self._manager, request.identifier)
        return self._complete(upload, protocol.receive(upload))

    def _complete_direct(self, request: Request) -> Answer:
        """Complete a direct upload, and hand its descriptor to the app.

        :raises UploadError: it cannot be completed.
        """
        upload = open_upload(request.environ, request.query, self._manager, request.identifier, begun=True)
        return self._complete(upload, direct_endpoints.complete(self._manager, upload))
