"""Many clients, threads and processes use one bundle, some of them are killed, and the pool is then inspected."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fileupload.apps.session_attachments.bundle_index import SESSIONS
from fileupload.apps.session_attachments.bundles import remove_outdated
from tests.support.session_client import SessionClient, SessionSite
from tests.support.waiting import PATIENCE, wait_until

HERE = Path(__file__).parent
Start = Callable[[SessionClient, int, int], "subprocess.Popen[str]"]


@pytest.fixture
def start(site: SessionSite) -> Iterator[Start]:
    """Start a process that performs a number of random operations on the bundle of a client."""
    running: list[subprocess.Popen[str]] = []

    def run(client: SessionClient, seed: int, actions: int) -> subprocess.Popen[str]:
        arguments = [str(site.directory), client.cookies["fileupload_session"], str(seed), str(actions)]
        command = [sys.executable, str(HERE / "race.py"), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("names", ["one", "each its own"])
def test_concurrent_uploads_of_one_name_leave_one_complete(site: SessionSite, names: str) -> None:
    """Uploads that race for one name leave one of them complete; uploads with different names are all kept."""
    client = site.client()
    client.get("b")

    def send(number: int) -> int:
        other = site.client()
        other.cookies = dict(client.cookies)
        name = "same" if names == "one" else f"{number}"
        return other.put("b", name, bytes([number]) * 20_000).status

    for _ in range(4):
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(send, range(8))) == [200] * 8
        found = client.contents("b")
        assert set(found) == ({"same"} if names == "one" else {f"{number}" for number in range(8)})
        assert all(len(set(content)) == 1 and len(content) == 20_000 for content in found.values())
        site.check_tidy()


def test_a_file_is_always_readable_while_it_is_replaced(site: SessionSite) -> None:
    """A reader of a file that is replaced continuously always gets one complete version."""
    client = site.client()
    client.put("b", "a", b"0" * 1000)
    ended = False

    def replace(number: int) -> None:
        for turn in range(25):
            assert client.put("b", "a", f"{(number + turn) % 10}".encode() * 1000).status == 200

    def watch(_: int) -> int:
        reads = 0
        while not ended:
            assert client.get("b").names == ["a"]
            answer = client.get("b", "a")
            assert answer.status == 200
            assert len(set(answer.body)) == 1
            reads += 1
        return reads

    with ThreadPoolExecutor(4) as threads:
        watching = [threads.submit(watch, number) for number in range(2)]
        try:
            for future in [threads.submit(replace, number) for number in range(2)]:
                future.result(PATIENCE)
        finally:
            ended = True
        assert all(future.result(PATIENCE) for future in watching)
    site.check_tidy()


@pytest.mark.full
def test_concurrent_processes_see_consistent_content(site: SessionSite, start: Start) -> None:
    """Processes that send, replace, read and delete at random see consistent content and leave only listed files."""
    client = site.client()
    client.get("b")
    racing = [start(client, seed, 120) for seed in range(3)]
    for process in racing:
        output, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output) == (0, "")
    site.check_tidy()
    assert all(client.delete("b").json)
    assert list(site.pool.buckets()) == []
    assert list(site.pool.index.keys((SESSIONS,))) == []


@pytest.mark.full
def test_expiry_removes_the_remains_of_killed_processes(site: SessionSite, start: Start) -> None:
    """After kill -9 at any moment the bundle remains usable, and expiry removes everything that is left."""
    client = site.client()
    client.put("other", "x", b"1")
    for seed in range(4):
        racing = [start(client, 10 * seed + number, 100_000) for number in range(2)]
        entered = len(list(site.pool.buckets()))
        wait_until(lambda entered=entered: len(list(site.pool.buckets())) != entered)  # type: ignore[misc]
        time.sleep(0.05 * seed)
        for process in racing:
            process.kill()
            process.communicate(timeout=PATIENCE)
        assert client.put("b", f"after {seed}", b"1").status == 200
        assert f"after {seed}" in client.get("b").names
        assert client.get("other").names == ["x"]

    def is_empty() -> bool:
        list(remove_outdated(site.pool, 0))
        return not list(site.pool.index.keys((SESSIONS,)))

    wait_until(is_empty)  # until the heartbeat expires, the status of an upload does not show that its process crashed
    assert list(site.pool.buckets()) == []
