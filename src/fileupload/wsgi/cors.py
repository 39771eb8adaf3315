"""Cross-origin resource sharing (CORS, Fetch standard): headers of answers, and answers to preflights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from webob import Response

from fileupload.errors import OriginNotAllowed

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"[!-~]{1,1000}", re.ASCII)
_REQUEST_HEADERS = ("Content-Type", "Content-Disposition", "X-Progress-ID", "X-Requested-With")
_RESPONSE_HEADERS = ("Location", "Content-Disposition", "Content-Length", "ETag")
_MAX_AGE = 600  # seconds for which a browser may remember the answer to a preflight

Headers = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class CorsPolicy:
    """The origins that may use an application, and the requests that their pages may send.

    :ivar origins: such as ``https://www.example.com``; ``*`` for any. If empty, no answer has CORS headers.
    :ivar credentials: whether pages of the listed origins may send cookies; ``*`` never allows that.
    :ivar request_headers: further request headers that the pages may send.
    :ivar response_headers: further headers of answers that the pages may read.
    :ivar refusal: the error sentence for a preflight from another origin.
    """

    origins: tuple[str, ...]
    refusal: str
    credentials: bool = False
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()

    def headers(self, environ: WSGIEnvironment) -> Headers:
        """Return the headers that allow the requesting page to read the answer, if its origin is allowed."""
        if not self.origins:
            return []
        # The answer depends on the origin, also if the request has none: caches must not mix them up.
        headers = [("Vary", "Origin")]
        origin = str(environ.get("HTTP_ORIGIN", ""))
        if self._allows(origin):
            headers.append(("Access-Control-Allow-Origin", origin))
            if self.credentials and origin in self.origins:
                headers.append(("Access-Control-Allow-Credentials", "true"))
            headers.append(("Access-Control-Expose-Headers", ", ".join((*_RESPONSE_HEADERS, *self.response_headers))))
        return headers

    def preflight(self, environ: WSGIEnvironment, methods: Iterable[str]) -> Response:
        """Return the answer to a preflight for a resource with these *methods*.

        :raises OriginNotAllowed: the origin is not allowed.
        """
        if not self._allows(str(environ.get("HTTP_ORIGIN", ""))):
            raise OriginNotAllowed(self.refusal)
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        response.headers["Access-Control-Allow-Headers"] = ", ".join((*_REQUEST_HEADERS, *self.request_headers))
        response.headers["Access-Control-Max-Age"] = str(_MAX_AGE)
        return response

    def _allows(self, origin: str) -> bool:
        # The answer repeats the origin in a header. With "*" it could be any text, so its characters are checked.
        return _ORIGIN.fullmatch(origin) is not None and (origin in self.origins or ANY_ORIGIN in self.origins)


def adding_headers(start_response: StartResponse, added: Sequence[tuple[str, str]]) -> StartResponse:
    """Return a ``start_response`` that adds the headers that the answer does not have already.

    ``Vary`` is always added: the values of several ``Vary`` headers are combined (RFC 9110, 12.5.5).
    """
    if not added:
        return start_response

    def start(status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        given = {name.lower() for name, _ in headers}
        missing = [header for header in added if header[0] == "Vary" or header[0].lower() not in given]
        return start_response(status, headers + missing, *([exc_info] if exc_info else []))

    return start
