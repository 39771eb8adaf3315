"""Requests to the wrapped app, made in the name of the client whose request is being served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Request, Response

# A page asks by these what methods it may use (Fetch, CORS preflight); any other header with a method in its name may
# put another one in the place of the request's own: X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override, …
_PREFLIGHT = "HTTP_ACCESS_CONTROL_"
# What belongs to the client's own request: its body, its ranges, its address as servers and proxies keep it.
_OWN = frozenset(
    (
        *("CONTENT_LENGTH", "CONTENT_TYPE", "QUERY_STRING", "RAW_URI", "REQUEST_URI", "wsgi.input_terminated"),
        *("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_DISPOSITION", "HTTP_EXPECT", "HTTP_TRAILER", "HTTP_ACCEPT_ENCODING"),
        *("HTTP_CONTENT_ENCODING", "HTTP_CONTENT_RANGE", "HTTP_CONTENT_MD5", "HTTP_DIGEST", "HTTP_CONTENT_DIGEST"),
        *("HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MODIFIED_SINCE", "HTTP_RESPONSE_BEHAVIOR"),
    )
)
_PRECONDITIONS = frozenset({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_UNMODIFIED_SINCE"})


class AppFailed(Exception):
    """The app raised *error*, which is none of ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class AppClient:
    """Asks the app, with the credentials and all other headers of a client's request."""

    def __init__(self, app: Any, environ: WSGIEnvironment) -> None:
        """Take *environ* as it is now; what the app makes of it later is not seen here."""
        self._app = app
        self._environ = {name: value for name, value in environ.items() if name not in _OWN}
        for name in method_overrides(environ):
            del self._environ[name]

    @property
    def has_preconditions(self) -> bool:
        """Whether the client's own request has any (RFC 9110, 13.1)."""
        return not _PRECONDITIONS.isdisjoint(self._environ)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        conditional: bool = False,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Response:
        """Return the app's answer, with its whole body.

        :param path: of the app, percent-encoded, below its mount.
        :param body: what is sent as JSON; None for nothing.
        :param conditional: let the client's own preconditions (``If-Match`` and its like) hold for this request too.
        :param headers: further ones.
        :raises AppFailed: the app raised an error.
        """
        kept = self._environ if conditional else without(self._environ, _PRECONDITIONS)
        blank = Request.blank(path).environ
        asked = Request({**blank, **kept, "PATH_INFO": blank["PATH_INFO"], "QUERY_STRING": blank["QUERY_STRING"]})
        asked.environ["REQUEST_METHOD"] = method
        asked.accept = "application/json"
        asked.body = b"" if body is None else json.dumps(body).encode()
        asked.environ["wsgi.input_terminated"] = True
        if body is not None:
            asked.content_type = "application/json"
        for name, value in headers.items():
            asked.headers[name] = value
        return forward(self._app, asked.environ)


def method_overrides(environ: WSGIEnvironment) -> list[str]:
    """Return the names of the headers by which an app may take another method than that of the request."""
    return [
        name for name in environ if name.startswith("HTTP_") and "METHOD" in name and not name.startswith(_PREFLIGHT)
    ]


def without(environ: WSGIEnvironment, names: Iterable[str]) -> WSGIEnvironment:
    """Return a copy of *environ* without *names*."""
    unwanted = frozenset(names)
    return {name: value for name, value in environ.items() if name not in unwanted}


def forward(app: Any, environ: WSGIEnvironment) -> Response:
    """Return the app's answer to *environ*, with its whole body.

    :raises AppFailed: the app raised an error.
    """
    try:
        response = Request(environ).get_response(app)
        response.body  # noqa: B018 - read now, while the app may still use what it needs for it
    except Exception as error:
        raise AppFailed(error) from error
    return response


def json_of(response: Response) -> Any:
    """Return what the body of *response* says as JSON, or None if it says nothing."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None
