"""A minimal WSGI app that reads a body and writes it to a file, without parsing and without a status."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from bench.peers.storage import new_path

READ_SIZE = int(os.environ.get("BENCH_READ_SIZE", "65536"))


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Store the body as it arrives."""
    read = environ["wsgi.input"].read
    received = 0
    with open(new_path(), "xb", buffering=0) as file:
        while chunk := read(READ_SIZE):
            received += file.write(chunk)
    answer = b"%d\n" % received
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def make_app() -> Any:
    """Return the app, for servers that require a factory."""
    return app
