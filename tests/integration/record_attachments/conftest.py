"""Kinto and a REST app behind record attachments, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.records.kinto_harness import Kinto, Rest, running, running_rest


@pytest.fixture(scope="package")
def kintos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kinto]]:
    """Return the servers for all tests beside this file."""
    with running(tmp_path_factory.mktemp("kinto")) as (in_pool, in_folder):
        yield {"pool": in_pool, "folder": in_folder}


@pytest.fixture(params=["pool", "folder"])
def kinto(request: pytest.FixtureRequest, kintos: dict[str, Kinto]) -> Iterator[Kinto]:
    """Return Kinto with an empty collection, and files in the pool or in a public folder; empty it afterwards."""
    server = kintos[request.param]
    server.make_collection()
    seen = server.log.stat().st_size
    yield server
    server.flush()
    server.wipe()
    assert "the pool failed" not in server.log.read_text()[seen:]


@pytest.fixture(scope="package")
def rest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """Return a server of two processes for all tests beside this file."""
    with running_rest(tmp_path_factory.mktemp("rest")) as server:
        yield server


@pytest.fixture
def rest(rest_server: Rest) -> Iterator[Rest]:
    """Return a REST app without records; empty it afterwards."""
    seen = rest_server.log.stat().st_size
    yield rest_server
    rest_server.forget()
    assert "the pool failed" not in rest_server.log.read_text()[seen:]
