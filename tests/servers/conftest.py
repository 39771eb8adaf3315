"""Starts each WSGI server for real, with the app of ``run_server.py`` behind the middleware."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.settings import Settings

HERE = Path(__file__).parent
PATIENCE = 30  # seconds after which what should happen has not happened


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server: how it is started, and what it can do.

    :ivar command: arguments of Python, or a program.
    :ivar streams: the app is called while the body still arrives.
    :ivar chunked: a form may come in chunks, without a length.
    :ivar hides_length: of a body in chunks that has a Content-Length too, the app does not see the length.
    :ivar tells_broken_chunks: a plain body may come in chunks as well.
    """

    command: tuple[str, ...]
    needs: str = ""
    streams: bool = True
    chunked: bool = True
    hides_length: bool = False
    tells_broken_chunks: bool = True


def _script(name: str) -> tuple[str, ...]:
    return (sys.executable, str(HERE / "run_server.py"), name)


_GUNICORN = ("-m", "gunicorn", "--worker-class", "gthread", "--threads", "8", "--bind", "127.0.0.1:0")
_UWSGI = ("--http-socket", "127.0.0.1:0", "--plugin", "python3", "--virtualenv", sys.prefix, "--need-app")
_UWSGI_APP = ("--enable-threads", "--threads", "8", "--die-on-term", "--module", "run_server")

KINDS = {
    "gunicorn": Kind(command=(sys.executable, *_GUNICORN, "run_server:application"), needs="gunicorn"),
    "waitress": Kind(command=_script("waitress"), needs="waitress", streams=False, hides_length=True),
    "cheroot": Kind(command=_script("cheroot"), needs="cheroot"),
    "fileupload-serve": Kind(
        command=(sys.executable, "-m", "fileupload", "serve", "--port", "0", "{paste}"),
        needs="granian",
        tells_broken_chunks=False,
        hides_length=True,
    ),
    "granian": Kind(command=_script("granian"), needs="granian", tells_broken_chunks=False, hides_length=True),
    "gevent": Kind(command=_script("gevent"), needs="gevent", hides_length=True),
    "werkzeug": Kind(command=_script("werkzeug"), needs="werkzeug"),
    "wsgiref": Kind(command=_script("wsgiref"), chunked=False, tells_broken_chunks=False),
    "uwsgi": Kind(command=("uwsgi", *_UWSGI, *_UWSGI_APP), chunked=False, tells_broken_chunks=False),
}

PASTE = "[app:main]\npaste.app_factory = run_server:paste_app\n"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server, and the pool behind it."""

    name: str
    kind: Kind
    port: int
    log: Path
    process: subprocess.Popen[bytes]
    manager: UploadManager = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_identifier(self) -> str:
        return self.manager.create_identifier()

    def target(self, identifier: str, **query: str) -> str:
        """Return the path and query that an upload goes to."""
        return "/upload?" + urlencode({"X-Progress-ID": identifier, **query})

    def status(self, identifier: str) -> dict[str, Any]:
        """Ask for the status, on a connection of its own."""
        answer = requests.get(f"{self.url}/upload/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE)
        data: dict[str, Any] = answer.json()
        return data

    def wait_for_status(self, identifier: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the status until *holds* is true of it."""
        deadline = time.monotonic() + PATIENCE
        while not holds(status := self.status(identifier)):
            assert time.monotonic() < deadline, f"still {status}; the log says:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.01)
        return status

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def open_socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def begin(self, method: str, identifier: str, **headers: str) -> http.client.HTTPConnection:
        """Send the head of an upload; an underscore in a header's name is a hyphen."""
        connection = self.connect()
        connection.putrequest(method, self.target(identifier, filename="a.bin"))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection

    def check_connection(self, connection: http.client.HTTPConnection) -> None:
        """Check that a further request is served on *connection*, or that it was closed after the answer."""
        try:
            connection.request("GET", "/plain")  # connects anew where the server said that it closes
            answer = connection.getresponse()
        except ConnectionError:  # it closed without a word, as uWSGI does
            connection.close()
            connection.request("GET", "/plain")
            answer = connection.getresponse()
        assert (answer.status, json.load(answer)["method"]) == (200, "GET")
        connection.close()

    def wait_until_clean(self, identifier: str) -> None:
        """Wait until the pool holds nothing of an upload but its status, where no answer tells when that is."""
        self.wait_for_status(identifier, lambda _: not self.leftovers(identifier))

    def leftovers(self, identifier: str) -> set[str]:
        """Return the names of what the pool holds of an upload, beside its status and its lock."""
        bucket_id = identifier[:32]
        folder = Path(self.manager.settings.directory, bucket_id[:2], bucket_id)
        names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        return names - {"status.json", "lock"}


@dataclass(frozen=True)
class Form:
    """A multipart/form-data body with one file, made by hand so that it can be cut anywhere."""

    content: bytes
    filename: str = "a.bin"
    boundary: str = "limes-7f3a"

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def body(self) -> bytes:
        disposition = f'Content-Disposition: form-data; name="file"; filename="{self.filename}"'
        head = f"--{self.boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
        return head.encode() + self.content + f"\r\n--{self.boundary}--\r\n".encode()


def _require(kind: Kind) -> None:
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        if os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1":
            pytest.fail(f"not installed: {kind.needs}")
        pytest.skip(f"not installed: {kind.needs}")
    # uWSGI is built for one Python; where it is another, that is no fault, so it is never required.
    if kind.command[0] == "uwsgi" and shutil.which("uwsgi") is None:
        pytest.skip("not installed: uwsgi")


def start_server(name: str, folder: Path) -> Server:
    """Start the server of that name, with its pool and its log in *folder*, in a process group of its own."""
    kind = KINDS[name]
    _require(kind)
    paste, log, pool = folder / "paste.ini", folder / "log", folder / "pool"
    paste.write_text(PASTE)
    environment = {
        **os.environ,
        "FILEUPLOAD_TEST_POOL": str(pool),
        "PYTHONPATH": str(HERE),
        "PYTHONUNBUFFERED": "1",
        "HOME": str(folder),  # gunicorn keeps a socket there
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(paste=paste) for part in kind.command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _wait_for_port(name, process, log)
    except BaseException:
        stop_server(process)
        raise
    manager = make_manager(Settings.parse({"directory": str(pool)}))
    return Server(name=name, kind=kind, port=port, log=log, process=process, manager=manager)


def _wait_for_port(name: str, process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"(?:http://|TCP address )127\.0\.0\.1:([1-9]\d*)", log.read_text())
        if found and _answers(int(found[1])):
            return int(found[1])
        time.sleep(0.02)
    if name == "uwsgi":
        pytest.skip(f"uwsgi does not fit this Python:\n{log.read_text()[-1000:]}")
    pytest.fail(f"{name} did not start:\n{log.read_text()}")


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """End the server with all its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    process.wait(5)


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each server in turn, started once for the tests of a module."""
    started = start_server(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    stop_server(started.process)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Start a server for one test, which may stop it."""
    processes = []

    def run(name: str) -> Server:
        started = start_server(name, tmp_path)
        processes.append(started.process)
        return started

    yield run
    for process in processes:
        stop_server(process)


@pytest.fixture
def make_form() -> Callable[[bytes], Form]:
    """Make the body of a form."""
    return Form
