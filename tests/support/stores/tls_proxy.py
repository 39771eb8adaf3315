"""A TLS proxy in front of a server without TLS, with its own certificate."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


@contextlib.contextmanager
def tls_before(port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Pass connections on to *port*; provide the address, and the file with the certificate authority."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_serve(port, context), loop).result()
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", file
        asyncio.run_coroutine_threadsafe(_close(server), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(port: int, context: ssl.SSLContext) -> asyncio.Server:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, there[1]), _pass_on(there[0], writer))

    return await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)


async def _close(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 18):
                target.write(data)
                await target.drain()
    finally:
        target.close()
        with contextlib.suppress(OSError):
            await target.wait_closed()
