"""The WSGI app: its addresses, who may ask, and how errors are told."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from webob import Response

from fileupload import direct_endpoints
from fileupload.apps.s3fileup.bodies import detach_body, parse_s3fileup_request, read_parameters
from fileupload.apps.s3fileup.companion import Companion
from fileupload.apps.s3fileup.errors import NotAuthorized, UnknownAddress
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.uploads import FileUploads
from fileupload.errors import MethodNotAllowed, OriginNotAllowed, UploadError, storage_error
from fileupload.manager import UploadManager
from fileupload.protocols.registry import parse_query
from fileupload.wsgi import csrf as origin
from fileupload.wsgi import responses
from fileupload.wsgi.request_body import BODY_KEY
from fileupload.wsgi.responses import Environ, StartResponse, json_response, send, with_error_headers
from fileupload.wsgi.urls import application_url

log = logging.getLogger("fileupload")


class S3FileupApp:
    """Gives signed addresses to whoever may upload: ``s3put/``, ``s3get/``, ``complete``, and those of Uppy."""

    def __init__(self, manager: UploadManager, settings: S3FileupSettings) -> None:
        self.manager = manager
        self._settings = settings
        self._origins = tuple(each for each in settings.cors_origins if each != "*")
        self._uploads = FileUploads(manager, settings)
        self._companion = Companion(self._uploads, settings)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault("fileupload", self.manager)
        environ.setdefault(BODY_KEY, [])
        response = self._respond(dict(environ))
        # Pages of origins that are named may send their cookies, of others (*) not.
        for name, value in self._cors(environ):
            response.headers[name] = value
        return send(response, environ, start_response, self._settings)

    def _cors(self, environ: Environ) -> list[tuple[str, str]]:
        if environ.get("HTTP_ORIGIN", "") in self._origins:
            return origin.cors_headers(environ, self._origins)
        return responses.cors_headers(environ, self._settings)

    def _respond(self, environ: Environ) -> Response:
        try:
            return self._dispatch(environ)
        except UploadError as error:
            log.info("%s s3fileup refused: %s", environ["REQUEST_METHOD"], error.code)
            return self._refuse(error)
        except OSError as error:
            log.exception("the pool failed")
            return self._refuse(storage_error(error))

    @staticmethod
    def _refuse(error: UploadError) -> Response:
        # Each client looks for the sentence under another name.
        data = {"error": error.detail, "message": error.detail, "code": error.code}
        return with_error_headers(json_response(data, error.status), error)

    def _dispatch(self, environ: Environ) -> Response:
        """Return the answer.

        :raises UploadError: the request is refused.
        """
        segments = environ.get("PATH_INFO", "").strip("/").split("/")
        query = parse_query(environ)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._preflight(environ)
        # These two are signed themselves.
        if segments == ["part"]:
            return direct_endpoints.part(detach_body(environ), query, self.manager)
        if segments == ["file"]:
            if (method := environ["REQUEST_METHOD"]) not in {"GET", "HEAD"}:
                raise MethodNotAllowed(method, ("GET", "HEAD"))
            return self._uploads.file(environ, query.get("ticket", ""))
        self._check(environ)
        self._uploads.purge_if_due()
        base = application_url(environ)
        if segments[0] == "s3":
            return json_response(self._companion.answer(environ, segments[1:], base))
        if len(segments) != 1:
            raise UnknownAddress
        return json_response(self._for_one(environ, segments[0], base))

    def _for_one(self, environ: Environ, address: str, base: str) -> dict[str, Any]:
        method = environ["REQUEST_METHOD"]
        allowed = {"s3put": ("GET", "POST"), "s3get": ("GET", "POST"), "complete": ("POST",)}.get(address)
        if allowed is None:
            raise UnknownAddress
        if method not in allowed:
            raise MethodNotAllowed(method, allowed)
        parameters = read_parameters(environ, self._settings)
        if address == "s3put":
            begun = self._uploads.begin(environ, parse_s3fileup_request(parameters))
            offer = self._uploads.direct.describe(begun.bucket_id, begun.status, base)
            return {**offer, "key": begun.key}
        begun = self._uploads.find(parameters.get("key", ""))
        descriptor = self._uploads.complete(begun)
        return descriptor if address == "complete" else {"url": self._uploads.link(begun, base)}

    def _check(self, environ: Environ) -> None:
        """Refuse who may not upload.

        :raises OriginNotAllowed, NotAuthorized: another site's page asks, or somebody whom the app does not know.
        """
        try:
            # What begins an upload by GET is no safer than what does so by POST.
            if "*" not in self._settings.cors_origins:
                origin.check_same_origin({**environ, "REQUEST_METHOD": "POST"}, self._origins)
        except OriginNotAllowed:
            raise _not_allowed() from None
        authorize = self._settings.authorize
        known = authorize(environ) if authorize else environ.get("REMOTE_USER") or self._settings.anonymous
        if not known:
            raise NotAuthorized

    def _preflight(self, environ: Environ) -> Response:
        if not any(name == "Access-Control-Allow-Origin" for name, _ in self._cors(environ)):
            raise _not_allowed()
        response = responses.preflight()
        # By which the app in front may know the client, where there is no cookie.
        response.headers["Access-Control-Allow-Headers"] += ", Authorization"
        return response


def _not_allowed() -> OriginNotAllowed:
    return OriginNotAllowed("Pages of this origin may not upload here; the setting is cors_origins.")
