"""Session attachments over HTTP: files that belong to the client who has sent them, in bundles.

==================================  ====================================================================================
``POST <bundle>/``                  a form with any number of files; answers the list of what was stored
``PUT <bundle>/?filename=<name>``   a plain body
``GET <bundle>/``                   the list
``DELETE <bundle>/``                remove all; also ``POST <bundle>/delete/``
``GET <bundle>/<name>/``            the file
``PUT <bundle>/<name>/``            a plain body
``DELETE <bundle>/<name>/``         remove it; also ``POST <bundle>/<name>/delete/``
``POST <bundle>/?identifier``       a new identifier, to be sent as ``X-Progress-ID`` with an upload
``GET <bundle>/?status&…``          the status of that upload; ``DELETE`` removes it
==================================  ====================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from webob import Response

from fileupload import endpoints
from fileupload.apps.session_attachments.bundles import Attachment, Bundle, SessionBundles, remove_outdated
from fileupload.apps.session_attachments.errors import BadName, NoSuchAddress
from fileupload.apps.session_attachments.session_cookie import SessionCookie, SessionCookieSigner
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.apps.session_attachments.uploads import AttachmentUploads
from fileupload.errors import FileMissing, MethodNotAllowed, UploadError, storage_error
from fileupload.manager import UploadManager, expire_opportunistically
from fileupload.protocols.registry import identifier_of, parse_query
from fileupload.wsgi.csrf import answer_preflight, check_same_origin, cors_headers, is_preflight
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.headers import clean_filename
from fileupload.wsgi.request_body import BODY_KEY
from fileupload.wsgi.responses import Environ, StartResponse, WSGIApp, json_response, problem, send

Action = Callable[[], Response]

log = logging.getLogger("fileupload")

_BUNDLE_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_FILE_METHODS = ("GET", "HEAD", "PUT", "DELETE")
_MAX_ATTEMPTS = 5  # to open a file that may be replaced between the look at the bundle and the opening


class AttachmentsMiddleware:
    """Answers below ``path``, and lets the app see the attachments: ``environ['fileupload.attachments']``."""

    def __init__(self, app: WSGIApp | None, manager: UploadManager, settings: SessionSettings) -> None:
        """Stand in front of *app*; without one, all other addresses are nowhere."""
        self.app = app
        self.manager = manager
        self._settings = settings
        self._intake = AttachmentUploads(manager, settings)
        self._visitors = SessionCookieSigner(manager.key_ring, settings)
        self._remove_outdated = partial(remove_outdated, manager.pool)
        self._base = settings.path.encode().decode("latin-1")  # as PEP 3333 gives paths

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        visitor = self._visitors.visitor(environ)
        bundles = SessionBundles(self.manager.pool, visitor.session)
        environ.setdefault("fileupload", self.manager)
        environ["fileupload.attachments"] = bundles
        path = self._path_below(environ)
        if path is None and self.app is not None:
            return self.app(environ, _starting(start_response, visitor, []))
        cors = cors_headers(environ, self._settings.trusted_origins)
        environ.setdefault(BODY_KEY, [])
        response = self._answer(path, environ, bundles)
        return send(response, environ, _starting(start_response, visitor, cors), self._settings)

    def _path_below(self, environ: Environ) -> str | None:
        """Return what follows the address of the attachments, or None for another address."""
        path_info = environ.get("PATH_INFO", "")
        for path in (environ.get("SCRIPT_NAME", "") + path_info, path_info):
            if path == self._base or path.startswith(self._base + "/"):
                return str(path[len(self._base) :])
        return None

    def _answer(self, path: str | None, environ: Environ, bundles: SessionBundles) -> Response:
        try:
            expire_opportunistically(
                self.manager.pool,
                self._settings.expire_after,
                self._remove_outdated,
                "attachments",
                "uploads of attachments",
            )
            return self._find_action(path, environ, bundles)()
        except UploadError as error:
            log.info("%s attachments refused: %s", environ["REQUEST_METHOD"], error.code)
            return problem(error, environ)
        except OSError as error:
            log.exception("the pool failed")
            return problem(storage_error(error), environ)

    def _find_action(self, path: str | None, environ: Environ, bundles: SessionBundles) -> Action:
        """Return what answers a request.

        :raises UploadError: it is refused.
        """
        if is_preflight(environ):
            return partial(answer_preflight, environ, self._settings.trusted_origins)
        check_same_origin(environ, self._settings.trusted_origins)
        segments = _segments(path)
        if len(segments) == 1:
            return self._for_bundle(environ, bundles, segments[0])
        return self._for_file(environ, bundles.bundle(segments[0]), *segments[1:])

    def _for_bundle(self, environ: Environ, bundles: SessionBundles, name: str) -> Action:
        method, query = environ["REQUEST_METHOD"], parse_query(environ)
        if "status" in query:
            return partial(endpoints.status, environ, query, self.manager, identifier_of(environ, query))
        if "identifier" in query and method == "POST":
            return partial(endpoints.create_identifier, environ, self.manager)
        bundle = bundles.bundle(name)
        actions: dict[str, Action] = {
            "GET": lambda: _list(bundle),
            "POST": partial(self._receive, environ, query, bundle),
            "PUT": partial(self._receive, environ, query, bundle),
            "DELETE": lambda: _clear(bundle),
        }
        return _choose(actions, method, _BUNDLE_METHODS)

    def _for_file(self, environ: Environ, bundle: Bundle, name: str, verb: str = "") -> Action:
        method = environ["REQUEST_METHOD"]
        if verb:
            return _choose(dict.fromkeys(("POST", "DELETE"), lambda: _delete(bundle, name)), method, ("POST", "DELETE"))
        if name == "delete" and method == "POST":
            return lambda: _clear(bundle)
        if method == "PUT" and clean_filename(name) != name:
            raise BadName
        actions: dict[str, Action] = {
            "GET": lambda: _download(environ, bundle, name, self._settings),
            "PUT": partial(self._receive_named, environ, bundle, name),
            "DELETE": lambda: _delete(bundle, name),
        }
        return _choose(actions, method, _FILE_METHODS)

    def _receive(self, environ: Environ, query: dict[str, str], bundle: Bundle) -> Response:
        return _list(self._intake.receive(environ, query, bundle))

    def _receive_named(self, environ: Environ, bundle: Bundle, name: str) -> Response:
        """Receive a plain body that has its name from the address, whatever else may name it."""
        plain = {key: value for key, value in environ.items() if key != "HTTP_CONTENT_DISPOSITION"}
        return self._receive(plain, {**parse_query(environ), "filename": name}, bundle)


def _starting(start_response: StartResponse, visitor: SessionCookie, added: list[tuple[str, str]]) -> StartResponse:
    """Return what starts an answer with the cookie, if the session was asked for until then."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, *added, *visitor.headers()], *([exc_info] if exc_info else []))

    return start


def _segments(path: str | None) -> list[str]:
    """Return the segments of *path*, which WSGI has decoded from percent-encoding into Latin-1 (PEP 3333).

    :raises NoSuchAddress: they are not those of a bundle or of a file.
    """
    try:
        segments = (path or "").encode("latin-1").decode("utf-8").removesuffix("/").split("/")[1:]
    except UnicodeError:
        raise NoSuchAddress from None
    if not 1 <= len(segments) <= 3 or not all(segments) or segments[2:] not in ([], ["delete"]):
        raise NoSuchAddress
    return segments


def _choose(actions: dict[str, Action], method: str, allowed: tuple[str, ...]) -> Action:
    action = actions.get("GET" if method == "HEAD" else method)
    if action is None:
        raise MethodNotAllowed(method, allowed)
    return action


def _list(attachments: Iterable[Attachment]) -> Response:
    return json_response([attachment.to_json() for attachment in attachments])


def _clear(bundle: Bundle) -> Response:
    return json_response([[removed] for removed in bundle.clear()])


def _delete(bundle: Bundle, name: str) -> Response:
    attachment = bundle.get(name)
    return json_response([attachment is not None and attachment.delete()])


def _download(environ: Environ, bundle: Bundle, name: str, settings: SessionSettings) -> Response:
    for _ in range(_MAX_ATTEMPTS):
        if (attachment := bundle.get(name)) is None:
            break
        file = ServedFile(
            name=attachment.name, content_type=attachment.mimetype, size=attachment.size, etag=attachment.etag
        )
        with suppress(FileMissing):
            return file_response(environ, file, attachment.open, settings)
    raise FileMissing
