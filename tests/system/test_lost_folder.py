"""Servers keep working and share one key when the pool's folder is removed or its key replaced."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from fileupload.deploy import make_manager
from fileupload.identifiers import Identifiers, new_key
from fileupload.settings import Settings
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from fileupload.manager import UploadManager
    from tests.system.conftest import RunningServer, Serve

ANONYMOUS = ("--set", "anonymous=true")
CONTENT = b"some bytes"


def new_identifier(server: RunningServer) -> str:
    """Ask a server for an identifier."""
    answer = requests.post(f"{server.url}/identifier", timeout=PATIENCE)
    assert answer.status_code == 201, (answer.text, server.log.read_text())
    identifier: str = answer.json()["identifier"]
    return identifier


def check_shared(*servers: RunningServer) -> None:
    """Check that each server accepts an upload under an identifier of every other, and that all report it."""
    for maker in servers:
        for taker in servers:
            identifier = new_identifier(maker)
            answer = taker.put(identifier, CONTENT)
            assert answer.status_code == 200, (answer.text, taker.log.read_text())
            assert {each.status(identifier)["state"] for each in servers} == {"done"}


@pytest.mark.parametrize("lost", ["the folder", "all in it", "the key"])
def test_a_lost_key_is_restored_by_running_servers(serve: Serve, pool: Path, lost: str) -> None:
    """Servers restore a lost key, a server that starts later uses it, and old identifiers stay valid."""
    servers = [serve(*ANONYMOUS) for _ in range(2)]
    check_shared(*servers)
    before = [new_identifier(server) for server in servers]
    key = (pool / ".upload_key").read_text()
    if lost == "the key":
        (pool / ".upload_key").unlink()
    else:
        shutil.rmtree(pool)
        if lost == "all in it":
            pool.mkdir(0o700)
    # Only one server gets a request before the third starts: it must have restored the key.
    assert servers[0].put(before[1], CONTENT).status_code == 200
    third = serve(*ANONYMOUS)
    assert (pool / ".upload_key").read_text() == key
    assert pool.stat().st_mode & 0o777 == 0o700
    assert third.put(before[0], CONTENT).status_code == 200
    check_shared(*servers, third)


def test_a_key_created_by_another_process_is_adopted(serve: Serve, pool: Path) -> None:
    """If another process has created a new pool in the meantime, running servers adopt its key."""
    servers = [serve(*ANONYMOUS) for _ in range(2)]
    check_shared(*servers)
    key = (pool / ".upload_key").read_text()
    shutil.rmtree(pool)
    third = serve(*ANONYMOUS)
    assert (pool / ".upload_key").read_text() != key
    check_shared(third, *servers)


def test_a_key_can_be_replaced_without_a_restart(serve: Serve, pool: Path) -> None:
    """If an operator writes a new key before the old one, both are valid and the new one signs, without a restart."""
    servers = [serve(*ANONYMOUS) for _ in range(2)]
    check_shared(*servers)
    old, new = (pool / ".upload_key").read_text(), new_key()
    before = new_identifier(servers[0])
    (pool / "replacement").write_text(f"{new}\n{old}\n")
    os.rename(pool / "replacement", pool / ".upload_key")
    check_shared(*servers)
    assert Identifiers([new]).verify(new_identifier(servers[1]))
    assert servers[1].put(before, CONTENT).status_code == 200


def test_a_lost_folder_is_recreated_by_the_next_upload(serve: Serve, pool: Path) -> None:
    """A server with a fixed key in its settings recreates a lost folder with its next upload."""
    server = serve(*ANONYMOUS, "--set", f"upload_key={new_key()}", "--set", "expire_after=1d")
    check_shared(server)
    shutil.rmtree(pool)
    check_shared(server)
    assert not (pool / ".upload_key").exists()
    assert pool.stat().st_mode & 0o777 == 0o700


def test_operations_succeed_while_the_folder_is_removed_repeatedly(pool: Path) -> None:
    """Operations on the pool succeed however often its folder is removed, and in the end the managers share one key."""
    managers = [make_manager(Settings.parse({"directory": str(pool), "durable": False})) for _ in range(2)]
    known, ended = managers[0].create_identifier(), threading.Event()

    def remove() -> None:
        while not ended.is_set():
            shutil.rmtree(pool, ignore_errors=True)

    def use(manager: UploadManager) -> None:
        for _ in range(100):
            assert manager.verify_identifier(known)
            manager.pool.index.put(("a", "b"), "c", "text")
            manager.pool.acquire_interval_lease(0.001, "again")
            assert list(manager.pool.buckets()) == []

    with ThreadPoolExecutor(3) as threads:
        removing = threads.submit(remove)
        try:
            for each in [threads.submit(use, manager) for manager in managers]:
                each.result(PATIENCE)
        finally:
            ended.set()
        removing.result(PATIENCE)
    assert managers[0].key_ring.keys == managers[1].key_ring.keys
    assert managers[1].verify_identifier(known)
