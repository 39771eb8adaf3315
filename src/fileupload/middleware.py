"""Middleware that receives uploads, and passes the app a descriptor in place of the body."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from fileupload.factory import make_manager
from fileupload.manager import UploadManager
from fileupload.protocols.upload_request import UploadRequest
from fileupload.routes import ORIGIN_REFUSAL, UploadRoutes
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.cors import CorsPolicy
from fileupload.wsgi.json_body import encode_json
from fileupload.wsgi.pipeline import PassThrough, Pipeline
from fileupload.wsgi.request import Request

log = logging.getLogger("fileupload")

# Headers about the body of the client, which are removed with all Content-* when the descriptor replaces it.
_BODY_HEADERS = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_TRAILER", "HTTP_DIGEST", "HTTP_REPR_DIGEST"})


class UploadMiddleware:
    """Upload middleware for a WSGI app.

    ::

        app = UploadMiddleware(app, directory="/srv/uploads")

    Each request has the :class:`~fileupload.manager.UploadManager` in ``environ['fileupload']``; otherwise, requests
    other than uploads pass through unchanged.
    """

    def __init__(self, app: WSGIApplication, **settings: Any) -> None:
        """Wrap *app*, with the *settings* of :class:`~fileupload.settings.Settings`.

        :raises SettingError: a setting is unknown or invalid, or the pool cannot be used.
        """
        self._set_up(app, make_manager(Settings.parse(settings)))

    @classmethod
    def from_manager(cls, app: WSGIApplication, manager: UploadManager) -> Self:
        """Return the middleware around *app*, with the settings and the pool of *manager*."""
        self = cls.__new__(cls)
        self._set_up(app, manager)
        return self

    def _set_up(self, app: WSGIApplication, manager: UploadManager) -> None:
        self.app = app
        self.manager = manager
        manager.pool.check()
        settings = manager.settings
        self._routes = UploadRoutes(manager, self._complete)
        cors = CorsPolicy(
            origins=settings.cors_origins,
            response_headers=("X-Progress-ID",) if settings.anonymous else (),
            refusal=ORIGIN_REFUSAL,
        )
        self._pipeline = Pipeline(
            settings,
            cors=cors if settings.cors_origins else None,  # without origins, the app answers preflights
            guard=lambda request: manager.purge_if_due(),
        )
        self._warned_of_buffering = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["fileupload"] = self.manager
        name = self._routes.name_of(environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", ""))
        if name is None:
            return self.app(environ, start_response)
        return self._pipeline.run(Request(environ), start_response, partial(self._routes.find, name), self.app)

    def _complete(self, upload: UploadRequest, status: UploadStatus) -> PassThrough:
        """Replace the body by the descriptor; the app sees a POST, whatever the protocol was."""
        if upload.body.buffered:
            self._warn_of_buffering()
        environ = upload.environ
        descriptor = encode_json({**status.to_json(), "identifier": upload.identifier})
        for name in [name for name in environ if name in _BODY_HEADERS or name.startswith("HTTP_CONTENT_")]:
            del environ[name]
        environ["fileupload.request_method"] = environ["REQUEST_METHOD"]
        environ["fileupload.bucket"] = upload.pool.bucket(upload.claims.id).with_identifier(upload.identifier)
        environ["REQUEST_METHOD"] = "POST"
        environ["CONTENT_TYPE"] = "application/json"
        environ["CONTENT_LENGTH"] = str(len(descriptor))
        environ["wsgi.input"] = io.BytesIO(descriptor)
        environ["wsgi.input_terminated"] = True
        return PassThrough()

    def _warn_of_buffering(self) -> None:
        if not self._warned_of_buffering:
            self._warned_of_buffering = True
            log.warning("this WSGI server buffers bodies before it calls the app: uploads work, but without progress")
