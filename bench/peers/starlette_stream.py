"""Starlette at its fastest: ``request.stream()``, parsed by hand, without a temporary file in between."""

from __future__ import annotations

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.peers.storage import new_path


async def upload(request: Request) -> PlainTextResponse:
    """Store the one file of the form."""
    _, options = parse_options_header(request.headers["content-type"])
    received = 0
    with open(new_path(), "xb", buffering=0) as file:

        def write(data: bytes, start: int, end: int) -> None:
            nonlocal received
            received += file.write(memoryview(data)[start:end])

        parser = MultipartParser(options[b"boundary"], {"on_part_data": write})
        async for chunk in request.stream():
            parser.write(chunk)
    return PlainTextResponse(f"{received}\n")


app = Starlette(routes=[Route("/", upload, methods=["POST"])])
