"""Start real ``fileupload serve`` processes on a pool that the servers share."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import pytest
import requests

from fileupload import UploadMiddleware
from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.settings import Settings
from tests.support.fault_injection import Disk, put_below_pool
from tests.support.folders import files_in
from tests.support.processes import kill_group, start_group, wait_for_line
from tests.support.waiting import PATIENCE


@dataclass(frozen=True)
class RunningServer:
    """A running ``fileupload serve``, in its own process group."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/upload"

    def put(self, identifier: str, content: bytes) -> requests.Response:
        query = {"X-Progress-ID": identifier, "filename": "a.bin"}
        return requests.put(self.url, params=query, data=content, timeout=PATIENCE)

    def status(self, identifier: str) -> dict[str, Any]:
        answer = requests.get(self.url + "/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE)
        data: dict[str, Any] = answer.json()
        return data

    def begin(self, identifier: str, length: int) -> http.client.HTTPConnection:
        """Send the head of a PUT."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        query = urlencode({"X-Progress-ID": identifier, "filename": "a.bin"})
        try:
            connection.putrequest("PUT", f"/upload?{query}")
            connection.putheader("Content-Length", str(length))
            connection.endheaders()
        except OSError:
            connection.close()
            raise
        return connection

    def kill(self) -> None:
        """Kill all its processes at once, as a crash does."""
        kill_group(self.process)


class Serve(Protocol):
    """A callable that starts a server."""

    def __call__(self, *options: str, directory: Path | None = None) -> RunningServer: ...


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Return the folder of the pool."""
    return tmp_path / "pool"


@pytest.fixture
def manager(pool: Path) -> UploadManager:
    """Return the manager of the pool, as an app in another process has it."""
    return make_manager(Settings.parse({"directory": str(pool)}))


@pytest.fixture
def serve(pool: Path, tmp_path: Path) -> Iterator[Serve]:
    """Provide a function that starts servers; those still running at the end of the test are killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*options: str, directory: Path | None = None) -> RunningServer:
        log = tmp_path / f"server-{len(processes)}.log"
        command = [sys.executable, "-m", "fileupload", "serve", "--port", "0", "--set", "min_free_space=0"]
        if not any(option.startswith("pool=") for option in options):
            command += ["--directory", str(directory or pool)]
        process = start_group([*command, *options], log)
        processes.append(process)
        (port,) = wait_for_line(process, log, r"^http://127\.0\.0\.1:(\d+)/$")
        return RunningServer(int(port), log, process)

    yield start
    for process in processes:
        kill_group(process)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on its own file system of 48 megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mounting, capture_output=True, check=False, timeout=PATIENCE)
        mounted = done.returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=PATIENCE)


@pytest.fixture
def in_pool(pool: Path) -> Callable[[], list[str]]:
    """List the files in the pool, except its key."""

    def names() -> list[str]:
        return sorted(str(path.relative_to(pool)) for path in files_in(pool) if path.name != ".upload_key")

    return names


def answer_descriptor(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [environ["wsgi.input"].read()]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Put a disk that can fail below the directory pool."""
    disk = Disk()
    put_below_pool(monkeypatch, disk)
    return disk


class MiddlewareClient:
    """A client that sends uploads directly to the middleware, without a server in between."""

    def __init__(self, pool: Path) -> None:
        self.app = UploadMiddleware(answer_descriptor, directory=str(pool), progress_interval=0, read_size="64K")
        self.manager: UploadManager = self.app.manager
        self.pool = pool

    def send(self, identifier: str, body: bytes, *, form: bool) -> tuple[int, dict[str, Any]]:
        """Send an upload; return the status and the JSON of the answer."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST" if form else "PUT",
            "PATH_INFO": "/upload",
            "QUERY_STRING": f"X-Progress-ID={identifier}&filename=a.bin",
            "CONTENT_TYPE": "multipart/form-data; boundary=limes" if form else "application/octet-stream",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        started: list[str] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            expected = "application/json" if status.startswith("200") else "application/problem+json"
            assert dict(headers)["Content-Type"] == expected
            started.append(status)

        answer = json.loads(b"".join(self.app(environ, start_response)))
        return int(started[0][:3]), answer

    def stored(self, identifier: str) -> list[bytes] | None:
        """Return the files of the upload if its status is done, else None."""
        bucket = self.manager.access_upload_bucket(identifier)
        if bucket is None or not bucket.is_complete():
            return None
        contents = []
        for index in range(len(bucket.files)):
            with bucket.open(index) as file:
                contents.append(file.read())
        return contents

    def names(self, identifier: str) -> list[str]:
        """Return the names of the files in the bucket, except those that a running attempt may leave."""
        folder = self.pool / identifier[:2] / identifier[:32]
        names = {path.name for path in files_in(folder)}
        return sorted(names - {"alive", "progress.json"})

    @staticmethod
    def make_form(*contents: bytes) -> bytes:
        """Return the body of a form with a file for each of *contents*."""
        head = '--limes\r\nContent-Disposition: form-data; name="{0}"; filename="{0}"\r\n\r\n'
        parts = [head.format(number).encode() + content + b"\r\n" for number, content in enumerate(contents)]
        return b"".join(parts) + b"--limes--\r\n"


@pytest.fixture
def client() -> Iterator[MiddlewareClient]:
    """Return a client of a pool in memory, for tests with many uploads."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield MiddlewareClient(Path(folder, "pool"))
