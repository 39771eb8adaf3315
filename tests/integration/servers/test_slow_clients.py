"""Slow, stalled and non-reading clients: none holds a thread beyond the limits.

The servers have short limits to keep the tests short; a limit that must not take effect is an hour.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.integration.servers.conftest import KINDS, start_server
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Server

THREADS = 8  # of each server, as conftest starts it
HOUR = "1h"
BOUNDED = [name for name, kind in KINDS.items() if kind.ends_reads and name != "uwsgi"]


@pytest.fixture(scope="module", params=BOUNDED)
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with a grace time of two seconds for slow clients, and an hour for draining bodies."""
    started = start_server(
        request.param,
        tmp_path_factory.mktemp(request.param),
        min_rate_grace=2,
        drain_time=HOUR,
        drain_size="1T",
    )
    yield started
    stop_group(started.process)


def head_of(server: Server, identifier: str, method: str = "PUT", *headers: str) -> bytes:
    lines = (f"{method} {server.target(identifier, filename='a.bin')} HTTP/1.1", "Host: localhost", *headers)
    return "\r\n".join((*lines, "", "")).encode()


FORM_HEAD = b'--limes\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
FORM_TYPE = "Content-Type: multipart/form-data; boundary=limes"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def plain(server: Server, identifier: str) -> tuple[bytes, bytes]:
    """Return the beginning of a plain body of a megabyte, and its next byte."""
    return head_of(server, identifier, "PUT", "Content-Length: 1000000") + b"x" * 100, b"x"


def form(server: Server, identifier: str) -> tuple[bytes, bytes]:
    """Return the beginning of a form of a megabyte, and its next byte."""
    return head_of(server, identifier, "POST", FORM_TYPE, "Content-Length: 1000000") + FORM_HEAD, b"x"


def chunked(server: Server, identifier: str) -> tuple[bytes, bytes]:
    """Return the beginning of a form in chunks, and its next chunk of one byte."""
    head = head_of(server, identifier, "POST", FORM_TYPE, "Transfer-Encoding: chunked")
    return head + chunk(FORM_HEAD), chunk(b"x")


def fast_first(server: Server, identifier: str) -> tuple[bytes, bytes]:
    """Return a plain body whose beginning is sent at full speed, before the client slows down."""
    start, byte = plain(server, identifier)
    return start + bytes(500_000), byte


@contextmanager
def trickling(connection: socket.socket, piece: bytes) -> Iterator[None]:
    """Send *piece* a few times a second, until the connection closes or the test ends."""
    over = threading.Event()

    def send() -> None:
        with suppress(OSError):
            while not over.wait(0.3):
                connection.sendall(piece)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def read_to_end(connection: socket.socket) -> bytes:
    """Return the bytes received until the server closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def test_slow_and_stalled_uploads_fail_after_the_grace_time(strict: Server) -> None:
    """Slow and stalled bodies have failed after the grace time, and nothing of them is left."""
    ways = [plain, form, fast_first, *([chunked] if strict.kind.chunked else [])]
    identifiers = []
    with ExitStack() as held:
        connections = []
        for begin in ways:
            for trickles in (True, False):
                identifiers.append(strict.new_identifier())
                start, byte = begin(strict, identifiers[-1])
                connections.append(held.enter_context(strict.open_socket()))
                connections[-1].sendall(start)
                if trickles:
                    held.enter_context(trickling(connections[-1], byte))
        for connection in connections:
            received = read_to_end(connection)
            assert b" 408 " in received[:20] or not received, received
    for identifier in identifiers:
        status = strict.wait_for_status(identifier, lambda found: found["state"] == "error")
        assert status["code"] == "too-slow"
        strict.wait_until_clean(identifier)


@pytest.mark.parametrize("trickles", [True, False], ids=["trickling", "silent"])
@pytest.mark.parametrize("begin", [plain, form, chunked])
def test_without_a_valid_identifier_no_thread_is_held(
    strict: Server, begin: Callable[[Server, str], tuple[bytes, bytes]], trickles: bool
) -> None:
    """Stalled clients without a valid identifier, more than there are threads, are refused, and others are served."""
    identifier = strict.new_identifier()
    forged = ("0" if identifier[0] != "0" else "1") + identifier[1:]
    start, byte = begin(strict, forged)
    with ExitStack() as held:
        connections = [held.enter_context(strict.open_socket()) for _ in range(THREADS + 2)]
        for connection in connections:
            connection.sendall(start)
            if trickles:
                held.enter_context(trickling(connection, byte))
        codes = {connection.recv(65536).split(b" ", 2)[1] for connection in connections}
        assert codes <= {b"403", b"411"}
        assert requests.get(f"{strict.url}/plain", timeout=PATIENCE).ok


@pytest.mark.servers_that("streams")
def test_the_answer_is_sent_before_the_body_is_drained(server: Server) -> None:
    """A client reads its refusal even if it sends nothing more of a body that it has announced."""
    identifier = server.new_identifier()
    for begin in (
        head_of(server, identifier, "PUT", "Content-Length: 1000000000000"),
        head_of(server, identifier, "PUT", "Content-Length: 1000", "Content-Range: bytes 0-999/2000"),
        head_of(server, "forged", "PUT", "Content-Length: 1000000"),
        head_of(server, identifier, "POST", "Content-Type: text/plain", "Content-Length: 1000000"),
    ):
        with server.open_socket() as connection:
            connection.sendall(begin + bytes(500))
            assert connection.recv(12).split(b" ")[1][:1] == b"4"


def test_an_unread_answer_is_ended(tmp_path: Path) -> None:
    """With a limit of one connection, the next client is served even if the one before never reads."""
    options = ("--workers", "1", "--threads", "1", "--anonymous")
    settings = ("--set", "downloads=true", "--set", "min_rate_grace=2", "--set", "min_free_space=0")
    command = [sys.executable, "-m", "fileupload", "serve", "--port", "0", "--directory", str(tmp_path / "pool")]
    process = start_group([*command, *options, *settings], tmp_path / "log")
    try:
        (port,) = wait_for_line(process, tmp_path / "log", r"^http://127\.0\.0\.1:(\d+)/$")
        url = f"http://127.0.0.1:{port}/upload"
        with requests.Session() as session:
            session.headers["Connection"] = "close"
            identifier = session.post(f"{url}/identifier", timeout=PATIENCE).json()["identifier"]
            query = {"X-Progress-ID": identifier, "filename": "a.bin"}
            assert session.put(url, params=query, data=bytes(64 << 20), timeout=PATIENCE).ok
            with socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE) as unread:
                unread.sendall(f"GET /upload?X-Progress-ID={identifier} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert unread.recv(1, socket.MSG_PEEK)
                assert session.get(f"{url}/status", params=query, timeout=PATIENCE).json()["state"] == "done"
    finally:
        stop_group(process)


@pytest.mark.parametrize("name", [name for name in BOUNDED if name != "fileupload-serve"])
def test_an_unread_download_is_ended(name: str, start: Callable[..., Server]) -> None:
    """The server answers again after all its threads sent downloads to clients that never read."""
    server = start(name, min_rate_grace=2, min_rate="1G", max_size=64, downloads=True)
    identifier = server.new_identifier()
    url = server.url + server.target(identifier, filename="a.bin")
    assert requests.put(url, data=bytes(32 << 20), timeout=PATIENCE).ok
    with ExitStack() as held:
        for _ in range(THREADS):
            connection = held.enter_context(server.open_socket())
            connection.sendall(head_of(server, identifier, "GET"))
            assert connection.recv(1, socket.MSG_PEEK)
        assert requests.get(f"{server.url}/plain", timeout=PATIENCE).ok


def test_a_client_above_the_minimum_rate_finishes(tmp_path: Path) -> None:
    """A client above the minimum rate finishes, beside stalled ones that are ended, and the status stays available."""
    server = start_server("fileupload-serve", tmp_path, min_rate=100, min_rate_grace=4)
    try:
        steady, silent = server.new_identifier(), [server.new_identifier() for _ in range(4)]
        with ExitStack() as held:
            for identifier in silent:
                held.enter_context(server.open_socket()).sendall(plain(server, identifier)[0])
            connection = held.enter_context(server.open_socket())
            connection.sendall(head_of(server, steady, "PUT", "Content-Length: 8000"))
            sent = 0
            while sent < 8000:
                connection.sendall(b"y" * 200)
                sent += 200
                time.sleep(0.2)  # 1,000 bytes a second, over twice the grace time
            assert connection.recv(12).endswith(b"200")
            for identifier in silent:
                status = server.wait_for_status(identifier, lambda found: found["state"] == "error")
                assert status["code"] == "too-slow"
    finally:
        stop_group(server.process)


@pytest.mark.full
def test_the_default_limits_end_a_trickling_client_of_gunicorn(tmp_path: Path) -> None:
    """With default settings, the one thread of a server becomes free again while a client sends a byte now and then."""
    module = tmp_path / "site_.py"
    module.write_text(
        "from fileupload import UploadMiddleware\n"
        "def hello(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [environ['fileupload'].create_identifier().encode()]\n"
        f"application = UploadMiddleware(hello, directory={str(tmp_path / 'pool')!r}, min_free_space=0)\n"
    )
    command = (sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "1", "-b", "127.0.0.1:0")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    process = start_group([*command, "site_:application"], tmp_path / "log", cwd=tmp_path, env=environment)
    try:
        (port,) = wait_for_line(process, tmp_path / "log", r"127\.0\.0\.1:([1-9]\d*)")
        url = f"http://127.0.0.1:{port}"
        identifier = requests.get(url, timeout=PATIENCE, headers={"Connection": "close"}).text
        with socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE) as connection:
            target = f"/upload?X-Progress-ID={identifier}&filename=a"
            connection.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n".encode() + b"x" * 99
            )
            with trickling(connection, b"x"):
                status = requests.get(f"{url}/upload/status?X-Progress-ID={identifier}", timeout=PATIENCE).json()
        assert (status["state"], status["code"]) == ("error", "too-slow")
    finally:
        stop_group(process)
