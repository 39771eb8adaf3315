"""Starts each WSGI server for real, with the app of ``run_server.py`` behind the middleware."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
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
from tests.support.folders import files_in
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE, wait_until

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server: its command, and its capabilities.

    :ivar command: arguments of Python, or a program.
    :ivar streams: the app is called while the body is still being received.
    :ivar chunked: a form may be chunked, without a length.
    :ivar hides_length: the app does not see the Content-Length of a body that is chunked as well.
    :ivar tells_broken_chunks: a plain body may be chunked as well.
    :ivar ends_reads: a read from a slow client can be ended.
    """

    command: tuple[str, ...]
    needs: str = ""
    streams: bool = True
    chunked: bool = True
    hides_length: bool = False
    tells_broken_chunks: bool = True
    ends_reads: bool = True


def _script(name: str) -> tuple[str, ...]:
    return (sys.executable, str(HERE / "run_server.py"), name)


_GUNICORN = ("-m", "gunicorn", "--worker-class", "gthread", "--threads", "8", "--bind", "127.0.0.1:0")
_UWSGI = ("--http-socket", "127.0.0.1:0", "--plugin", "python3", "--virtualenv", sys.prefix, "--need-app")
_UWSGI_APP = ("--enable-threads", "--threads", "8", "--die-on-term", "--module", "run_server")

KINDS = {
    "gunicorn": Kind(command=(sys.executable, *_GUNICORN, "run_server:application"), needs="gunicorn"),
    "waitress": Kind(command=_script("waitress"), needs="waitress", streams=False, hides_length=True, ends_reads=False),
    "cheroot": Kind(command=_script("cheroot"), needs="cheroot"),
    "fileupload-serve": Kind(
        command=(sys.executable, "-m", "fileupload", "serve", "--port", "0", "{paste}"),
        needs="granian",
        tells_broken_chunks=False,
        hides_length=True,
    ),
    "granian": Kind(
        command=_script("granian"), needs="granian", tells_broken_chunks=False, hides_length=True, ends_reads=False
    ),
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
        """Return the path and query of an upload."""
        return "/upload?" + urlencode({"X-Progress-ID": identifier, **query})

    def status(self, identifier: str) -> dict[str, Any]:
        """Request the status, on a connection of its own."""
        answer = requests.get(f"{self.url}/upload/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE)
        data: dict[str, Any] = answer.json()
        return data

    def wait_for_status(self, identifier: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Request the status until *holds* is true of it."""
        found: list[dict[str, Any]] = []

        def is_reached() -> bool:
            found[:] = [self.status(identifier)]
            return holds(found[0])

        wait_until(is_reached, lambda: f"still {found[0]}; the log says:\n{self.log.read_text()[-3000:]}")
        return found[0]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def open_socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def begin(self, method: str, identifier: str, **headers: str) -> http.client.HTTPConnection:
        """Send the head of an upload; an underscore in a header's name becomes a hyphen."""
        connection = self.connect()
        connection.putrequest(method, self.target(identifier, filename="a.bin"))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection

    def check_connection(self, connection: http.client.HTTPConnection) -> None:
        """Check that a further request is served on *connection*, or that it was closed after the answer."""
        try:
            connection.request("GET", "/plain")  # reconnects if the server announced the close
            answer = connection.getresponse()
        except ConnectionError:  # closed without notice, as by uWSGI
            connection.close()
            connection.request("GET", "/plain")
            answer = connection.getresponse()
        assert (answer.status, json.load(answer)["method"]) == (200, "GET")
        connection.close()

    def wait_until_clean(self, identifier: str) -> None:
        """Wait until the pool holds nothing of an upload but its status, if no answer shows the end of the upload."""
        self.wait_for_status(identifier, lambda _: not self.leftovers(identifier))

    def leftovers(self, identifier: str) -> set[str]:
        """Return the names of all files of an upload in the pool, except its status and its lock."""
        bucket_id = identifier[:32]
        folder = Path(self.manager.settings.directory, bucket_id[:2], bucket_id)
        names = {str(path.relative_to(folder)) for path in files_in(folder, folders=True)}
        return names - {"status.json", "lock"}


@dataclass(frozen=True)
class Form:
    """A multipart/form-data body with one file, made by hand so that it can be cut at any byte."""

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


def start_server(name: str, folder: Path, **settings: object) -> Server:
    """Start the server of that name, with its pool and its log in *folder*, in a process group of its own."""
    kind = KINDS[name]
    _require(kind)
    paste, log, pool = folder / "paste.ini", folder / "log", folder / "pool"
    paste.write_text(PASTE)
    environment = {
        **os.environ,
        "FILEUPLOAD_TEST_POOL": str(pool),
        "FILEUPLOAD_TEST_SETTINGS": json.dumps(settings),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        "HOME": str(folder),  # gunicorn keeps a socket there
    }
    process = start_group([part.format(paste=paste) for part in kind.command], log, cwd=folder, env=environment)
    try:
        port = _wait_for_port(process, log)
    except BaseException:
        ended = process.poll() is not None
        stop_group(process)
        if name == "uwsgi" and ended:
            pytest.skip(f"uwsgi does not fit this Python:\n{log.read_text()[-1000:]}")
        raise
    manager = make_manager(Settings.parse({"directory": str(pool)}))
    return Server(name=name, kind=kind, port=port, log=log, process=process, manager=manager)


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    (port,) = wait_for_line(process, log, r"(?:http://|TCP address )127\.0\.0\.1:([1-9]\d*)")
    wait_until(lambda: process.poll() is not None or _answers(int(port)))
    assert process.poll() is None, f"the server did not start:\n{log.read_text()}"
    return int(port)


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).ok
    except requests.RequestException:
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every server, or, marked ``servers_that("can this")``, with those that can."""
    fixture = next((name for name in ("own_server", "server") if name in metafunc.fixturenames), None)
    if fixture is None:
        return
    marker = metafunc.definition.get_closest_marker("servers_that")
    names = [name for name, kind in KINDS.items() if marker is None or getattr(kind, marker.args[0])]
    # uWSGI is built for one Python; with another it is not available, so it is never required.
    if shutil.which("uwsgi") is None:
        names = [name for name in names if name != "uwsgi"]
    metafunc.parametrize(fixture, names, indirect=True, scope="module" if fixture == "own_server" else "session")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return each server in turn, started once for all tests in this folder."""
    started = start_server(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    stop_group(started.process)


@pytest.fixture(scope="module")
def own_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return each server in turn, for tests of one file that inspect its log and all of its pool."""
    started = start_server(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    stop_group(started.process)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server for one test, which may stop it, with its own settings."""
    processes = []

    def run(name: str, **settings: object) -> Server:
        started = start_server(name, tmp_path, **settings)
        processes.append(started.process)
        return started

    yield run
    for process in processes:
        stop_group(process)


@pytest.fixture
def make_form() -> Callable[[bytes], Form]:
    """Make the body of a form."""
    return Form
