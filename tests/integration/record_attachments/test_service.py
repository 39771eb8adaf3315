"""The capability and the heartbeat that the server reports for its attachments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.records.kinto_harness import RECORD, Kinto, running


def test_the_root_lists_the_capability(kinto: Kinto) -> None:
    """The root lists the version and the prefix of locations, beside Kinto's own values."""
    root = kinto.get("/v1/")
    assert root["capabilities"]["attachments"] == {
        "version": version("fileupload"),
        "description": "Add file attachments to records",
        "url": "",
        "base_url": f"{kinto.url}/files/",
    }
    assert "default_bucket" in root["capabilities"]
    assert root["project_name"] == "kinto"


def test_the_heartbeat_writes_and_deletes_a_test_file(kinto: Kinto) -> None:
    """The heartbeat of a healthy server writes and deletes a test file, and leaves nothing."""
    assert kinto.get("/v1/__heartbeat__") == {"storage": True, "permission": True, "cache": True, "attachments": True}
    assert kinto.left() == set()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Kinto, Kinto]]:
    """Return two servers whose disk a test may damage."""
    with running(tmp_path) as both:
        yield both


def damage(server: Kinto) -> None:
    """Replace the folder that the server writes to by a file."""
    folder = server.public or server.pool
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def test_a_failing_disk_is_reported_by_the_heartbeat(own: tuple[Kinto, Kinto]) -> None:
    """If no file can be written, the heartbeat answers 503, an upload is answered 500, and other requests succeed."""
    for server in own:
        server.make_collection()
        damage(server)
        answer = server.request("GET", "/v1/__heartbeat__")
        assert (answer.status_code, answer.json()["attachments"], answer.json()["storage"]) == (503, False, True)
        refused = server.attach()
        assert (refused.status_code, refused.json()["errno"]) == (500, 999)
        assert str(server.pool.parent) not in refused.text
        assert server.request("PUT", RECORD, json={"data": {"family": "x"}}).status_code == 201
        assert server.get("/v1/")["capabilities"]["attachments"]


def test_a_server_that_is_read_only_writes_nothing(tmp_path: Path) -> None:
    """With readonly, the heartbeat writes nothing."""
    with running(tmp_path, readonly=True) as both:
        for server in both:
            damage(server)
            assert server.get("/v1/__heartbeat__")["attachments"] is True


def test_relative_locations_are_advertised(tmp_path: Path) -> None:
    """With an empty base_url, locations are relative, and the server reports their prefix."""
    settings = {"base_url": "", "extra_base_url": "https://files.server.com/root", "folder": ""}
    with running(tmp_path, **settings) as both:
        for server in both:
            server.make_collection()
            location = server.attached()["location"]
            assert "/" not in location
            advertised = server.get("/v1/")["capabilities"]["attachments"]["base_url"]
            assert advertised == "https://files.server.com/root/"
            # The filter serves them at the path of that address.
            assert server.fetch(f"{server.url}/root/{location}").content == b"--fake--"
            # The location is recognized when the file is replaced.
            server.attached()
            assert len(server.contents()) == 1
