"""Session attachments in the session of Django: they end with its logout.

::

    MIDDLEWARE = [
        ...
        "django.contrib.sessions.middleware.SessionMiddleware",
        "fileupload.apps.session_attachments.django.middleware",
        ...
    ]

    application = SessionAttachments(
        get_wsgi_application(), session="fileupload.apps.session_attachments.django:session", directory="/srv/uploads"
    )

The session of Django holds a secret of its own for the attachments. So attachments from before a login are those of the
user after it, although Django then changes the session key; and after a logout, at which Django flushes its session,
they cannot be reached by any cookie. Works with every session engine of Django.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from importlib import import_module
from typing import Any
from wsgiref.types import WSGIEnvironment

from fileupload.apps.session_attachments.session_pages import is_page_request

_SECRET = "fileupload.attachments_session"  # noqa: S105 - the key in the session of Django, and in the environ


def session(environ: WSGIEnvironment) -> str | None:
    """Return the secret in the session of Django, for the setting ``session``; None if there is no session.

    Under Django, the middleware creates it; requests for attachments, which Django does not see, find it by the cookie.
    """
    if _SECRET in environ:
        return str(environ[_SECRET]())
    from django.conf import settings

    key = _cookie(environ, settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    found = import_module(settings.SESSION_ENGINE).SessionStore(key).get(_SECRET)
    return str(found) if found else None


def middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a middleware of Django that begins the session of the attachments with the first page.

    Other requests begin it only if their view uses the attachments. The middleware also removes the attachments when
    their user logs out: the signal is sent before Django flushes the session.
    """
    from django.contrib.auth.signals import user_logged_out

    user_logged_out.connect(_clear, dispatch_uid=_SECRET)

    def answer(request: Any) -> Any:
        def begin() -> str:
            if _SECRET not in request.session:
                request.session[_SECRET] = secrets.token_urlsafe()
            return str(request.session[_SECRET])

        request.META[_SECRET] = begin
        if is_page_request(request.META):
            begin()
        return get_response(request)

    return answer


def _clear(request: Any = None, **_: Any) -> None:
    bundles = request.META.get("fileupload.attachments") if request is not None else None
    if bundles is not None and _SECRET in request.META:
        bundles.clear()


def _cookie(environ: WSGIEnvironment, name: str) -> str:
    """Return the value of a cookie, read as Django reads it."""
    from django.http.cookie import parse_cookie

    header = str(environ.get("HTTP_COOKIE", "")).encode("latin-1", "replace").decode("utf-8", "replace")
    return str(parse_cookie(header).get(name, ""))
