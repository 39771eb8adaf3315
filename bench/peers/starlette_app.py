"""Starlette: ``request.form()`` and a copy of its temporary file, in its thread pool."""

from __future__ import annotations

import os
import shutil

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.peers.storage import new_path


def _save(file: UploadFile) -> int:
    path = new_path()
    with open(path, "xb") as target:
        shutil.copyfileobj(file.file, target, 1 << 20)
    return os.path.getsize(path)


async def upload(request: Request) -> PlainTextResponse:
    """Store the file."""
    async with request.form() as form:
        file = form["file"]
        assert isinstance(file, UploadFile)
        return PlainTextResponse(f"{await run_in_threadpool(_save, file)}\n")


app = Starlette(routes=[Route("/", upload, methods=["POST"])])
