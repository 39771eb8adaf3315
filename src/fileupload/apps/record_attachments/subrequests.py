"""Requests to the wrapped app, with the credentials of the client whose request is handled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from wsgiref.types import WSGIEnvironment

from webob import Request, Response

from fileupload.wsgi.json_body import parse_json_or_none

# Headers of a CORS preflight. Any other header with "method" in its name may be an override of the request's method:
# X-HTTP-Method-Override, X-HTTP-Method, X-Method-Override, …
_PREFLIGHT = "HTTP_ACCESS_CONTROL_"
# Keys of the environ that describe the client's own request: its body, its ranges, its address.
_NOT_FORWARDED = frozenset(
    (
        *("CONTENT_LENGTH", "CONTENT_TYPE", "QUERY_STRING", "RAW_URI", "REQUEST_URI", "wsgi.input_terminated"),
        *("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_DISPOSITION", "HTTP_EXPECT", "HTTP_TRAILER", "HTTP_ACCEPT_ENCODING"),
        *("HTTP_CONTENT_ENCODING", "HTTP_CONTENT_RANGE", "HTTP_CONTENT_MD5", "HTTP_DIGEST", "HTTP_CONTENT_DIGEST"),
        *("HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MODIFIED_SINCE", "HTTP_RESPONSE_BEHAVIOR"),
    )
)
_PRECONDITIONS = frozenset({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_UNMODIFIED_SINCE"})


class AppFailed(Exception):
    """The app raised an exception, *error*, which the server must receive unchanged."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class AppClient:
    """Sends requests to the app, with the credentials and the other headers of a client's request."""

    def __init__(self, app: Any, environ: WSGIEnvironment) -> None:
        """Send requests with the headers that *environ* has now; later changes by the app have no effect."""
        self._app = app
        self._environ = {name: value for name, value in environ.items() if name not in _NOT_FORWARDED}
        for name in method_overrides(environ):
            del self._environ[name]

    @property
    def has_preconditions(self) -> bool:
        """Return whether the client's request is conditional (RFC 9110, 13.1)."""
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
        """Send a request to the app; return its answer, with its whole body.

        :param path: the path below the app's mount, percent-encoded.
        :param body: the JSON value to send; None for an empty body.
        :param conditional: whether to send the client's preconditions, such as ``If-Match``, too.
        :param headers: further headers.
        :raises AppFailed: the app raised an exception.
        """
        kept = self._environ if conditional else without(self._environ, _PRECONDITIONS)
        blank = Request.blank(path).environ
        request = Request({**blank, **kept, "PATH_INFO": blank["PATH_INFO"], "QUERY_STRING": blank["QUERY_STRING"]})
        request.environ["REQUEST_METHOD"] = method
        request.accept = "application/json"
        request.body = b"" if body is None else json.dumps(body).encode()
        request.environ["wsgi.input_terminated"] = True
        if body is not None:
            request.content_type = "application/json"
        for name, value in headers.items():
            request.headers[name] = value
        return forward(self._app, request.environ)


def method_overrides(environ: WSGIEnvironment) -> list[str]:
    """Return the names of the headers by which an app may override the method of the request."""
    return [
        name for name in environ if name.startswith("HTTP_") and "METHOD" in name and not name.startswith(_PREFLIGHT)
    ]


def without(environ: WSGIEnvironment, names: Iterable[str]) -> WSGIEnvironment:
    """Return a copy of *environ* without *names*."""
    unwanted = frozenset(names)
    return {name: value for name, value in environ.items() if name not in unwanted}


def forward(app: Any, environ: WSGIEnvironment) -> Response:
    """Return the app's answer to the request in *environ*, with its whole body.

    :raises AppFailed: the app raised an exception.
    """
    try:
        response = Request(environ).get_response(app)
        response.body  # noqa: B018 - read now, while the app's resources, such as a transaction, are open
    except Exception as error:
        raise AppFailed(error) from error
    return response


def json_of(response: Response) -> Any:
    """Return the JSON value in the body of *response*, or None if the body is not JSON."""
    return parse_json_or_none(response.body)
