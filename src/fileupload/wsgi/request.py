"""One HTTP request, as handlers receive it."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import parse_qsl
from wsgiref.types import WSGIEnvironment

_MAX_QUERY_FIELDS = 100


class Request:
    """A request: its environ, and what handlers ask of it most.

    :ivar environ: the WSGI environ itself, not a copy; an app behind receives the same one.
    :ivar method: the method; methods are case-sensitive (RFC 9110, 9.1).
    """

    def __init__(self, environ: WSGIEnvironment, method: str | None = None) -> None:
        """Wrap *environ*.

        :param method: in the place of ``REQUEST_METHOD``.
        """
        self.environ = environ
        self.method = str(environ["REQUEST_METHOD"]) if method is None else method

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query, of each name the first value."""
        return parse_query(self.environ)

    @property
    def identifier(self) -> str:
        """The identifier of an upload that the request gives, in its query or a header; empty if it gives none."""
        return identifier_of(self.environ, self.query)

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks what a page of another origin may send (Fetch standard, CORS preflight)."""
        return self.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in self.environ


def identifier_of(environ: WSGIEnvironment, query: dict[str, str]) -> str:
    """Return the identifier that a request gives, in its query or in the header X-Progress-ID; empty if none."""
    return query.get("X-Progress-ID") or str(environ.get("HTTP_X_PROGRESS_ID", ""))


def parse_query(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the fields of the query, of each name the first value; a query that cannot be read has none."""
    text = environ.get("QUERY_STRING", "")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS, errors="replace")
    except ValueError:
        return {}
    return dict(reversed(pairs))
