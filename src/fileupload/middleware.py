"""The middleware: receives what is sent to the upload address, and hands the app a descriptor in its place."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from fileupload.factory import make_manager
from fileupload.manager import UploadManager
from fileupload.protocols.upload_request import UploadRequest
from fileupload.routes import UploadRoutes
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.cors import CorsPolicy
from fileupload.wsgi.pipeline import PassThrough, Pipeline
from fileupload.wsgi.request import Request

log = logging.getLogger("fileupload")

# What a request may say of its body, and no longer says when the descriptor has taken the body's place.
_BODY_HEADERS = ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_DISPOSITION", "HTTP_EXPECT", "HTTP_TRAILER")


class UploadMiddleware:
    """Takes file uploads off a WSGI app.

    ::

        app = UploadMiddleware(app, directory="/srv/uploads")

    Under the app, every request finds the :class:`~fileupload.manager.UploadManager` in ``environ['fileupload']``. A
    request that is no upload passes through, otherwise untouched.
    """

    def __init__(self, app: WSGIApplication, **settings: Any) -> None:
        """Stand in front of *app*, with the *settings* of :class:`~fileupload.settings.Settings`.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
        """
        self._set_up(app, make_manager(Settings.parse(settings)))

    @classmethod
    def from_manager(cls, app: WSGIApplication, manager: UploadManager) -> Self:
        """Return the middleware in front of *app*, with the settings and the pool of *manager*."""
        self = cls.__new__(cls)
        self._set_up(app, manager)
        return self

    def _set_up(self, app: WSGIApplication, manager: UploadManager) -> None:
        self.app = app
        self.manager = manager
        settings = manager.settings
        self._routes = UploadRoutes(manager, self._complete)
        cors = CorsPolicy(
            origins=settings.cors_origins,
            refusal="Pages of this origin may not upload here; the setting is cors_origins.",
        )
        self._pipeline = Pipeline(
            settings,
            cors=cors if settings.cors_origins else None,  # without origins, preflights are the app's affair
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
        """Put the descriptor in the place of the body; the app sees a POST, whatever the protocol was."""
        if upload.body.buffered:
            self._warn_of_buffering()
        environ = upload.environ
        descriptor = json.dumps({**status.to_json(), "identifier": upload.identifier}).encode()
        for name in _BODY_HEADERS:
            environ.pop(name, None)
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
            log.warning("this WSGI server stores bodies before the app sees them: uploads work, without progress")
