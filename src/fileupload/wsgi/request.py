"""One HTTP request, as handlers receive it."""

from __future__ import annotations

from urllib.parse import parse_qsl
from wsgiref.types import WSGIEnvironment

from fileupload.errors import MalformedRequest

_MAX_QUERY_FIELDS = 1000


class Request:
    """A request: its environ, and the values that handlers often need.

    :ivar environ: the WSGI environ itself, not a copy; an app behind receives the same one.
    :ivar method: the method; methods are case-sensitive (RFC 9110, 9.1).
    """

    def __init__(self, environ: WSGIEnvironment, method: str | None = None) -> None:
        """Wrap *environ*.

        :param method: the method, if it is another than ``REQUEST_METHOD``.
        """
        self.environ = environ
        self.method = str(environ["REQUEST_METHOD"]) if method is None else method
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """The fields of the query, with the first value of each name.

        :raises MalformedRequest: the query has too many fields.
        """
        if self._query is None:  # cached_property would take a lock, on Python 3.11
            self._query = self._parse_query()
        return self._query

    def _parse_query(self) -> dict[str, str]:
        text = self.environ.get("QUERY_STRING", "")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS, errors="replace")
        except ValueError:
            raise MalformedRequest(f"The query has more than {_MAX_QUERY_FIELDS} fields.") from None
        return dict(reversed(pairs))

    @property
    def identifier(self) -> str:
        """The identifier of an upload, from the query or else the header X-Progress-ID; empty if there is none."""
        return self.query.get("X-Progress-ID") or str(self.environ.get("HTTP_X_PROGRESS_ID", ""))

    @property
    def is_preflight(self) -> bool:
        """Return whether the request is a CORS preflight (Fetch standard)."""
        return self.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in self.environ
