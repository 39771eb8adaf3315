"""A REST app, with its records in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import make_server

from webob import Request, Response

from tests.integration.servers.run_server import QuietHandler
from tests.support.threaded_server import running


class RestApp:
    """Records as plain JSON objects, by path.

    :ivar refuses: whether writes are answered with 403.
    """

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.refuses = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if self.refuses and request.method != "GET":
            return Response(status=403)(environ, start_response)
        there = self.records.get(request.path_info)
        if request.method in {"PUT", "PATCH"} and (there is not None or request.method == "PUT"):
            self.records[request.path_info] = {**(there or {}), **request.json_body}
        elif there is None:
            return Response(status=404)(environ, start_response)
        elif request.method == "DELETE":
            del self.records[request.path_info]
        status = 201 if request.method == "PUT" and there is None else 200
        return Response(status=status, json=self.records.get(request.path_info, {}))(environ, start_response)


@contextmanager
def record_server(app: RestApp) -> Iterator[str]:
    """Serve *app*; provide its address."""
    with running(make_server("127.0.0.1", 0, app, handler_class=QuietHandler)) as address:
        yield address
