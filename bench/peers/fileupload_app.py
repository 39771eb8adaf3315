"""Our middleware in front of a small app, for WSGI servers other than our own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from bench.peers.storage import DIRECTORY
from fileupload import UploadMiddleware


def _behind(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    descriptor = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(descriptor)))])
    return [descriptor]


app = UploadMiddleware(
    _behind,
    directory=DIRECTORY,
    max_size=0,
    checksum=os.environ.get("BENCH_CHECKSUM", "sha256"),
    durable=os.environ.get("BENCH_DURABLE", "true"),
)
