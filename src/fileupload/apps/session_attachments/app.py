"""Session attachments over HTTP: files in bundles, which belong to the session of the client that has uploaded them.

==================================  ====================================================================================
``POST <bundle>/``                  upload a form with any number of files; answers with the list of the stored files
``PUT <bundle>/?filename=<name>``   upload a plain body
``GET <bundle>/``                   list the files
``DELETE <bundle>/``                remove all files; also ``POST <bundle>/delete/``
``GET <bundle>/<name>/``            download a file
``PUT <bundle>/<name>/``            upload a plain body under this name
``DELETE <bundle>/<name>/``         remove a file; also ``POST <bundle>/<name>/delete/``
``POST <bundle>/?identifier``       create an identifier, to be sent as ``X-Progress-ID`` with an upload
``GET <bundle>/?status&…``          the status of the upload with that identifier; ``DELETE`` removes the upload
==================================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from webob import Response

from fileupload import endpoints
from fileupload.apps.session_attachments.bundles import Attachment, Bundle, SessionBundles, remove_outdated
from fileupload.apps.session_attachments.errors import BadName, NoSuchAddress, PreconditionFailed
from fileupload.apps.session_attachments.session_cookie import SessionCookie, SessionCookieSigner
from fileupload.apps.session_attachments.session_pages import is_page_request, is_private_page, with_private
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.apps.session_attachments.uploads import AttachmentUploads
from fileupload.errors import FileMissing, MalformedRequest
from fileupload.expiry import expire_opportunistically
from fileupload.factory import make_manager
from fileupload.manager import UploadManager
from fileupload.wsgi.conditional_requests import Preconditions
from fileupload.wsgi.cors import CorsPolicy
from fileupload.wsgi.csrf import check_same_origin
from fileupload.wsgi.file_responses import ServedFile, file_response
from fileupload.wsgi.headers import clean_filename
from fileupload.wsgi.paths import from_wsgi_path, to_wsgi_path
from fileupload.wsgi.pipeline import Handler, Pipeline, Resource
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import json_response

_REFUSAL = "Attachments can only be changed by pages of this site; the setting is trusted_origins."
_MAX_ATTEMPTS = 5  # to open a file; other uploads may replace it between the lookup and the opening


class SessionAttachments:
    """Stores attachments for the sessions of a WSGI app, below the address in the setting ``path``.

    ::

        app = SessionAttachments(app, directory="/srv/uploads")

    The app finds the session's attachments in ``environ['fileupload.attachments']``, as
    :class:`~fileupload.apps.session_attachments.bundles.SessionBundles`.
    """

    def __init__(self, app: WSGIApplication | None = None, **settings: Any) -> None:
        """Wrap *app*; without one, requests to other addresses are answered with 404.

        :param settings: those of :class:`~fileupload.apps.session_attachments.settings.SessionSettings`.
        :raises SettingError: a setting is unknown or invalid, or the pool cannot be used.
        """
        parsed = SessionSettings.parse(settings)
        self._set_up(app, make_manager(parsed), parsed)

    @classmethod
    def from_manager(cls, app: WSGIApplication | None, manager: UploadManager, settings: SessionSettings) -> Self:
        """Return the component in front of *app*, with the pool of *manager*."""
        self = cls.__new__(cls)
        self._set_up(app, manager, settings)
        return self

    def _set_up(self, app: WSGIApplication | None, manager: UploadManager, settings: SessionSettings) -> None:
        self.app = app
        self.manager = manager
        manager.pool.check()
        self._settings = settings
        self._uploads = AttachmentUploads(manager, settings)
        self._cookies = SessionCookieSigner(manager.key_ring, settings)
        self._base = to_wsgi_path(settings.path)
        self._pipeline = Pipeline(
            settings,
            name="attachments",
            cors=CorsPolicy(origins=settings.trusted_origins, credentials=True, refusal=_REFUSAL),
            guard=self._guard,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        cookie = self._cookies.cookie_of(environ)
        bundles = SessionBundles(self.manager.pool, cookie.session)
        environ.setdefault("fileupload", self.manager)
        environ["fileupload.attachments"] = bundles
        path = self._path_below(environ)
        if path is None and self.app is not None:
            begins = self._settings.session_pages and self._settings.session is None and is_page_request(environ)
            return self.app(environ, _setting_cookie(start_response, cookie, begins=begins))
        start = _setting_cookie(start_response, cookie)
        return self._pipeline.run(Request(environ), start, partial(self._route, path or "", bundles))

    def _path_below(self, environ: WSGIEnvironment) -> str | None:
        """Return the path below the address of the attachments, or None for another address."""
        path_info = environ.get("PATH_INFO", "")
        for path in (environ.get("SCRIPT_NAME", "") + path_info, path_info):
            if path == self._base or path.startswith(self._base + "/"):
                return str(path[len(self._base) :])
        return None

    def _guard(self, request: Request) -> None:
        expire_opportunistically(
            self.manager.pool,
            self._settings.expire_after,
            partial(remove_outdated, self.manager.pool),
            "attachments",
            "uploads of attachments",
        )
        check_same_origin(request.environ, self._settings, self._settings.trusted_origins, _REFUSAL)

    def _route(self, path: str, bundles: SessionBundles, request: Request) -> Resource:
        """Return the resource at *path* below the address of the attachments.

        :raises UploadError: the address does not exist.
        """
        bundle_name, *names = _segments(path)
        # Only handlers call this: it may create a session and set its cookie, which a refused request must not do.
        open_bundle = partial(bundles.bundle, bundle_name)
        return (
            self._file_resource(request, open_bundle, *names) if names else self._bundle_resource(request, open_bundle)
        )

    def _bundle_resource(self, request: Request, open_bundle: Callable[[], Bundle]) -> Resource:
        if "status" in request.query:
            return endpoints.status_resource(self.manager, request)
        if "identifier" in request.query and request.method == "POST":
            return Resource("identifier", {"POST": partial(endpoints.create_identifier, self.manager)})
        receive = partial(self._receive, open_bundle)
        return Resource(
            "bundle",
            {
                "GET": lambda request: _list(open_bundle()),
                "POST": receive,
                "PUT": receive,
                "DELETE": lambda request: _clear(request, open_bundle()),
            },
        )

    def _file_resource(
        self, request: Request, open_bundle: Callable[[], Bundle], name: str, verb: str = ""
    ) -> Resource:
        def delete(request: Request) -> Response:
            return _delete(request, open_bundle(), name)

        if verb:
            return Resource("file", {"POST": delete, "DELETE": delete})
        if request.method == "PUT" and clean_filename(name) != name:
            raise BadName
        handlers: dict[str, Handler] = {
            "GET": lambda request: _download(request.environ, open_bundle(), name, self._settings),
            "PUT": partial(self._receive_named, open_bundle, name),
            "DELETE": delete,
        }
        if name == "delete":  # also the address that clears the bundle, for forms
            handlers["POST"] = lambda request: _clear(request, open_bundle())
        return Resource("file", handlers)

    def _receive(self, open_bundle: Callable[[], Bundle], request: Request) -> Response:
        return _list(self._uploads.receive(request, open_bundle(), preconditions=_preconditions(request)))

    def _receive_named(self, open_bundle: Callable[[], Bundle], name: str, request: Request) -> Response:
        """Receive a plain body, whose name is the one in the address; other names in the request are ignored."""
        attachments = self._uploads.receive(request, open_bundle(), name, preconditions=_preconditions(request))
        response = _list(attachments)
        for attachment in attachments:
            response.etag = attachment.etag  # of the stored file (RFC 9110, 9.3.4), for the next If-Match
        return response


def _setting_cookie(start_response: StartResponse, cookie: SessionCookie, *, begins: bool = False) -> StartResponse:
    """Return a ``start_response`` that adds the session cookie, if a handler or the app has used the session.

    :param begins: whether a page that no shared cache may store begins a session. A page without the cookie may send
        several uploads at the same time, each of which would begin a session of its own.
    """

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        if begins and is_private_page(status, headers):
            cookie.begin()
            headers = with_private(headers) if cookie.headers() else headers
        return start_response(status, [*headers, *cookie.headers()], *([exc_info] if exc_info else []))

    return start


def _segments(path: str) -> list[str]:
    """Return the segments of a path of the environ.

    :raises NoSuchAddress: it is not the address of a bundle or of a file.
    """
    try:
        segments = from_wsgi_path(path).removesuffix("/").split("/")[1:]
    except UnicodeError:
        raise NoSuchAddress from None
    if not 1 <= len(segments) <= 3 or not all(segments) or segments[2:] not in ([], ["delete"]):
        raise NoSuchAddress
    return segments


def _list(attachments: Iterable[Attachment]) -> Response:
    return json_response([attachment.to_json() for attachment in attachments])


def _preconditions(request: Request) -> Preconditions:
    """Return the conditions of a request.

    :raises MalformedRequest: they cannot be read.
    """
    try:
        return Preconditions.of(request.environ)
    except ValueError as error:
        raise MalformedRequest(f"{error}.") from None


def _clear(request: Request, bundle: Bundle) -> Response:
    conditions = _preconditions(request)
    if conditions and not conditions.hold("" if len(bundle) else None):  # a bundle has no entity tag
        raise PreconditionFailed
    return json_response([[removed] for removed in bundle.clear()])


def _delete(request: Request, bundle: Bundle, name: str) -> Response:
    attachment = bundle.get(name)
    conditions = _preconditions(request)
    if conditions and not conditions.hold(attachment.etag if attachment else None):
        raise PreconditionFailed
    # Only the version whose tag was compared is removed: one that replaces it meanwhile stays.
    return json_response([attachment is not None and attachment.delete()])


def _download(environ: WSGIEnvironment, bundle: Bundle, name: str, settings: SessionSettings) -> Response:
    for _ in range(_MAX_ATTEMPTS):
        if (attachment := bundle.get(name)) is None:
            break
        file = ServedFile(
            name=attachment.name, content_type=attachment.mimetype, size=attachment.size, etag=attachment.etag
        )
        with suppress(FileMissing):
            return file_response(environ, file, attachment.open, settings)
    raise FileMissing
