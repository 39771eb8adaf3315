"""Servers of the standard library, each in a thread of the test."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import make_server

from tests.integration.servers.run_server import QuietHandler, ThreadedServer

_POLL_INTERVAL = 0.01  # seconds within which a server notices that it must end

WSGIApp = Callable[..., Iterable[bytes]]


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[str]:
    """Run *server*, which is already listening; provide its address."""
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_INTERVAL,), daemon=True)
    thread.start()
    try:
        address: Any = server.server_address
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def served(app: WSGIApp) -> Iterator[str]:
    """Serve *app* on a free port, each request in a thread; provide the address."""
    server = make_server("127.0.0.1", 0, app, server_class=ThreadedServer, handler_class=QuietHandler)
    with running(server) as address:
        yield address
