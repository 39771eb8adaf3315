"""The end of ``fileupload serve``: by Ctrl-C in a terminal, by SIGTERM, and under make; and its next start."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from fileupload import UploadManager
from fileupload.factory import make_manager
from fileupload.settings import Settings
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.terminal import CTRL_C, Terminal, terminal
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-m", "fileupload", "serve", "--port", "0", "--directory", "pool", "--workers", "2"]
GRACE = 30  # seconds after which a worker that does not end is killed
STOPPING = "the server stops"

Start = Callable[..., tuple[Terminal, int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Provide a function that starts a server in a terminal, and returns its port."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with ExitStack() as stack:

        def run(command: list[str] = SERVE) -> tuple[Terminal, int]:
            opened = stack.enter_context(terminal(command, cwd=tmp_path, environ=environ))
            return opened, int(opened.wait_for(r"^http://127\.0\.0\.1:(\d+)/\r?$")[1])

        yield run


@pytest.fixture
def uploads(tmp_path: Path) -> UploadManager:
    """Return the manager of the servers' pool."""
    return make_manager(Settings.parse({"directory": str(tmp_path / "pool")}))


def idle_connections(port: int) -> list[http.client.HTTPConnection]:
    """Return connections that are kept alive after an answer, and one on which nothing was sent."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE) for _ in range(5)]
    for connection in connections[1:]:
        connection.request("GET", "/")
        connection.getresponse().read()
    connections[0].connect()
    return connections


def begin_upload(port: int, uploads: UploadManager, length: int) -> tuple[http.client.HTTPConnection, str]:
    """Send the head and the first byte of an upload; return when the server has received it."""
    identifier = uploads.create_identifier()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest("PUT", "/upload?" + urlencode({"X-Progress-ID": identifier, "filename": "a"}))
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    connection.send(b"x")
    wait_until(lambda: uploads.access_upload_bucket(identifier))
    return connection, identifier


@pytest.mark.parametrize("connected", [False, True])
def test_ctrl_c_ends_the_server(start: Start, connected: bool) -> None:
    """One Ctrl-C, which all processes receive, ends the server before any worker has to be killed."""
    for _ in range(3):  # a worker may deadlock in two of three cases
        opened, port = start()
        connections = idle_connections(port) if connected else []
        begun = time.monotonic()
        opened.press(CTRL_C)
        assert opened.wait() == 0
        assert time.monotonic() - begun < GRACE
        assert b"the server has stopped" in opened.output
        assert b"Traceback" not in opened.output
        for connection in connections:
            connection.close()


def test_a_running_upload_is_finished_after_ctrl_c(start: Start, uploads: UploadManager) -> None:
    """A client that is sending when the server is stopped sends the rest, and gets its answer."""
    opened, port = start()
    upload, identifier = begin_upload(port, uploads, 5)
    opened.press(CTRL_C)
    opened.wait_for(STOPPING)
    upload.send(b"xxxx")
    assert upload.getresponse().status == 200
    assert opened.wait() == 0
    assert uploads.get_status(identifier).state == "done"
    upload.close()


def test_a_second_ctrl_c_ends_the_server_at_once(start: Start, uploads: UploadManager) -> None:
    """After a second Ctrl-C no process waits for a client that does not send."""
    opened, port = start()
    upload, identifier = begin_upload(port, uploads, 1000)
    begun = time.monotonic()
    opened.press(CTRL_C)
    opened.wait_for(STOPPING)
    opened.press(CTRL_C)
    assert opened.wait() == 130
    assert time.monotonic() - begun < GRACE
    wait_until(lambda: uploads.get_status(identifier).code == "interrupted")
    upload.close()


@pytest.mark.parametrize("moment", ["start", "later"])
def test_sigterm_to_all_processes_ends_the_server(tmp_path: Path, moment: str) -> None:
    """SIGTERM to the whole group, as systemd sends it, ends the server, also while its workers start."""
    log = tmp_path / "log"
    process = start_group(SERVE, log, cwd=tmp_path)
    try:
        wait_for_line(process, log, "the server starts" if moment == "start" else r"^http://127\.0\.0\.1:(\d+)/$")
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)
        assert time.monotonic() - begun < GRACE
        wait_until(lambda: not group_exists(process.pid))
    finally:
        stop_group(process)


def group_exists(group: int) -> bool:
    """Return whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def make_serve(tmp_path: Path) -> list[str]:
    """Return the command ``make serve`` with the real Makefile; what it would install in .venv is there."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    program = binaries / "fileupload"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fileupload "$@"\n')
    program.chmod(0o755)
    for name in ("setup.py", "pyproject.toml", ".venv/bin/python", ".venv/.server"):
        (tmp_path / name).touch()
    return ["make", "serve", "PORT=0", "DIRECTORY=pool"]


def test_ctrl_c_ends_make_serve(start: Start, make_serve: list[str]) -> None:
    """Ctrl-C ends `make serve`, and with it the server."""
    opened, port = start(make_serve)
    begun = time.monotonic()
    opened.press(CTRL_C)
    opened.wait()
    assert time.monotonic() - begun < GRACE
    assert b"the server has stopped" in opened.output
    assert not is_listening(port)


def test_sigterm_to_make_ends_the_server(start: Start, make_serve: list[str]) -> None:
    """`kill` of the make process ends the server, too."""
    opened, port = start(make_serve)
    begun = time.monotonic()
    os.kill(opened.pid, signal.SIGTERM)
    opened.wait()
    assert time.monotonic() - begun < GRACE
    assert b"the server has stopped" in opened.output
    assert not is_listening(port)


def is_listening(port: int) -> bool:
    """Return whether the port accepts connections."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_closed_connections_of_another_server_do_not_occupy_the_port(start: Start) -> None:
    """A server starts on a port on which nothing listens, though connections there were closed a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            other.accept()[0].close()  # the side that closes first keeps the connection in TIME_WAIT
            assert client.recv(1) == b""
    _, listening = start([*SERVE[:5], str(port), *SERVE[6:]])
    assert listening == port


def test_two_servers_do_not_share_a_port(start: Start, tmp_path: Path) -> None:
    """A second server on the port of a running one does not start."""
    _, port = start()
    done = subprocess.run(
        [*SERVE[:5], str(port), *SERVE[6:]], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
