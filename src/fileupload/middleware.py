"""The middleware: match, dispatch, swap the request for its descriptor, turn errors into responses."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from typing import Any

from webob import Response

from fileupload import direct_endpoints, endpoints
from fileupload.errors import OriginNotAllowed, UploadError, storage_error
from fileupload.manager import UploadManager
from fileupload.protocols.receiver import UploadRequest
from fileupload.protocols.registry import brings_upload, identifier_of, open_upload, parse_query, receive
from fileupload.status import UploadStatus
from fileupload.wsgi.request_body import BODY_KEY
from fileupload.wsgi.responses import Environ, StartResponse, WSGIApp, cors_headers, preflight, problem, send

log = logging.getLogger("fileupload")

# What a request may say of its body, and no longer says when the descriptor has taken the body's place.
_BODY_HEADERS = ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_DISPOSITION", "HTTP_EXPECT", "HTTP_TRAILER")

# The addresses beside that of the upload.
SUB_ENDPOINTS = ("status", "identifier", "direct", "direct/part", "direct/complete")


class Middleware:
    """Stands in front of *app*, and receives what is sent to the upload address.

    Under *app*, every request finds the :class:`UploadManager` in ``environ['fileupload']``. A request that is no
    upload passes through otherwise untouched.
    """

    def __init__(self, app: WSGIApp, manager: UploadManager) -> None:
        self.app = app
        self.manager = manager
        self._settings = manager.settings
        base = self._settings.path or "/upload"
        self._addresses = {base: "upload", **{f"{base}/{name}": name for name in SUB_ENDPOINTS}}
        self._path_suffixes = () if self._settings.upload_url else tuple(self._addresses)
        self._warned_of_buffering = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["fileupload"] = self.manager
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if not path.endswith(self._path_suffixes):
            return self.app(environ, start_response)
        address = self._address(path, environ.get("PATH_INFO", ""))
        if address is None:
            return self.app(environ, start_response)
        return self._answer(address, environ, start_response)

    def _address(self, path: str, path_info: str) -> str | None:
        """Return which of the addresses *path* is, if any."""
        if self._settings.path:
            return self._addresses.get(path) or self._addresses.get(path_info)
        return next(name for ending, name in self._addresses.items() if path.endswith(ending))

    def _answer(self, address: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        cors = cors_headers(environ, self._settings)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # What the app says of origins itself is not said twice.
            given = {name.lower() for name, _ in headers}
            added = [header for header in cors if header[0] == "Vary" or header[0].lower() not in given]
            return start_response(status, headers + added, *([exc_info] if exc_info else []))

        query = parse_query(environ)
        environ.setdefault(BODY_KEY, [])
        try:
            response = self._dispatch(address, environ, query, bool(cors))
        except UploadError as error:
            log.info("%s %s refused: %s", environ["REQUEST_METHOD"], address, error.code)
            response = problem(error, environ)
        except OSError as error:
            log.exception("the pool failed")
            response = problem(storage_error(error), environ)
        if response is None:
            return self.app(environ, start if cors else start_response)
        return send(response, environ, start if cors else start_response, self._settings)

    def _dispatch(self, address: str, environ: Environ, query: dict[str, str], cors: bool) -> Response | None:
        """Return the answer, or None where the app is to answer.

        :raises UploadError: the request is refused.
        """
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return self._preflight(environ) if cors else None
        if address == "identifier":
            return endpoints.create_identifier(environ, self.manager) if self._settings.anonymous else None
        if address == "direct/part" and "ticket" in query:
            return direct_endpoints.part(environ, query, self.manager)
        identifier = identifier_of(environ, query)
        if not identifier:
            return None
        self.manager.purge_if_due()
        if address.startswith("direct"):
            return self._direct(address, environ, query, identifier)
        if address == "status" or "status" in query:
            return endpoints.status(environ, query, self.manager, identifier)
        if method in {"GET", "HEAD"} and self._settings.downloads:
            return endpoints.download(environ, query, self.manager, identifier)
        if brings_upload(environ):
            self._receive(environ, query, identifier)
        return None

    def _direct(self, address: str, environ: Environ, query: dict[str, str], identifier: str) -> Response | None:
        """Return the answer of an address of direct uploads; a complete upload goes to the app.

        :raises UploadError: the request is refused.
        """
        if address == "direct":
            return direct_endpoints.offer(environ, query, self.manager, identifier)
        if address == "direct/complete":
            upload = open_upload(environ, query, self.manager, identifier, begun=True)
            self._replace_body(upload, direct_endpoints.complete(upload, self.manager))
        return None

    def _preflight(self, environ: Environ) -> Response | None:
        if "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        if not any(name == "Access-Control-Allow-Origin" for name, _ in cors_headers(environ, self._settings)):
            raise OriginNotAllowed("Pages of this origin may not upload here; the setting is cors_origins.")
        return preflight()

    def _receive(self, environ: Environ, query: dict[str, str], identifier: str) -> None:
        """Take the upload out of this request, and put its descriptor in the place of the body.

        :raises UploadError: it is refused, or failed.
        """
        upload = open_upload(environ, query, self.manager, identifier)
        if upload.body.buffered:
            self._warn_of_buffering()
        self._replace_body(upload, receive(upload))

    @staticmethod
    def _replace_body(upload: UploadRequest, status: UploadStatus) -> None:
        """Put the descriptor in the place of the body; the app sees a POST, whatever the protocol was."""
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

    def _warn_of_buffering(self) -> None:
        if not self._warned_of_buffering:
            self._warned_of_buffering = True
            log.warning("this WSGI server stores bodies before the app sees them: uploads work, without progress")
