"""Many clients and processes share one pool: each upload has one writer, correct bytes, and enforced limits."""

from __future__ import annotations

import hashlib
import json
import os
import random
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.settings import Settings
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.system.conftest import RunningServer, Serve

SLICE = 16 << 10
CHUNK = 64 << 10
MEGABYTE = 1 << 20

InPool = Callable[[], list[str]]


def some_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def stored(manager: UploadManager, identifier: str) -> bytes:
    bucket = manager.access_upload_bucket(identifier)
    assert bucket is not None
    with bucket.open() as file:
        return file.read()


def run_fileupload(*arguments: str) -> str:
    command = [sys.executable, "-m", "fileupload", *arguments]
    return subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True).stdout


def begin_half(server: RunningServer, identifier: str, content: bytes, seen_at: RunningServer) -> Any:
    """Begin an upload, send half of it, and wait until another server reports it; return the connection."""
    connection = server.begin(identifier, len(content))
    connection.send(content[: len(content) // 2])
    wait_until(lambda: seen_at.status(identifier)["state"] == "uploading")
    return connection


def test_a_newer_attempt_supersedes_a_stalled_one(serve: Serve, manager: UploadManager, in_pool: InPool) -> None:
    """A stalled upload is superseded by a newer one at another server, and has no effect when it resumes."""
    first, second = serve(), serve()
    identifier = manager.create_identifier()
    older, newer = some_bytes(1, MEGABYTE), some_bytes(2, MEGABYTE)
    with closing(begin_half(first, identifier, older, second)) as stalled:
        assert second.put(identifier, newer).status_code == 200
        before = in_pool()
        stalled.send(older[len(older) // 2 :])
        with stalled.getresponse() as answer:
            assert (answer.status, json.load(answer)["code"]) == (409, "superseded")
    assert first.status(identifier)["sha256"] == hashlib.sha256(newer).hexdigest()
    assert stored(manager, identifier) == newer
    assert in_pool() == before


def test_a_running_upload_that_is_reset_stops_with_409(serve: Serve, manager: UploadManager, in_pool: InPool) -> None:
    """A running upload that is reset at another server stops with 409, leaves nothing, and can be restarted."""
    first, second = serve(), serve()
    identifier, content = manager.create_identifier(), some_bytes(3, MEGABYTE)
    with closing(begin_half(first, identifier, content, second)) as running:
        assert manager.clear_upload_bucket(identifier)
        assert second.status(identifier)["state"] == "unknown"
        running.send(content[len(content) // 2 :])
        with running.getresponse() as answer:
            assert (answer.status, json.load(answer)["code"]) == (409, "superseded")
    assert second.status(identifier)["state"] == "unknown"
    assert in_pool() == []
    assert second.put(identifier, content).status_code == 200
    assert stored(manager, identifier) == content


@pytest.mark.full
def test_one_of_ten_concurrent_uploads_succeeds(serve: Serve, manager: UploadManager, in_pool: InPool) -> None:
    """Of ten uploads that race for one identifier, one is done, with its sender's bytes; all others are refused."""
    servers = [serve(), serve()]
    for turn in range(3):
        identifier = manager.create_identifier()
        contents = [some_bytes(100 * turn + number, 300_000 + number) for number in range(10)]
        together = threading.Barrier(len(contents))

        def send(
            number: int,
            identifier: str = identifier,
            contents: list[bytes] = contents,
            together: threading.Barrier = together,
        ) -> tuple[int, str]:
            together.wait(PATIENCE)
            answer = servers[number % 2].put(identifier, contents[number])
            return answer.status_code, answer.json().get("code", "")

        with ThreadPoolExecutor(len(contents)) as threads:
            answers = list(threads.map(send, range(len(contents))))
        winners = [number for number, (code, _) in enumerate(answers) if code == 200]
        assert len(winners) == 1, answers
        assert stored(manager, identifier) == contents[winners[0]]
        assert {code for _, code in answers} <= {"", "superseded", "already-done"}
        own = [name for name in in_pool() if identifier[:32] in name]
        assert sorted(name.rpartition("/")[2] for name in own) == ["0", "lock", "status.json"]


@pytest.mark.full
def test_random_concurrent_uploads_and_resets_are_all_answered(
    serve: Serve, manager: UploadManager, in_pool: InPool
) -> None:
    """Concurrent uploads and resets of one identifier are all answered, and the final bytes are complete."""
    servers = [serve(), serve()]
    identifier = manager.create_identifier()
    contents = [some_bytes(number, 70_000) for number in range(24)]

    def act(number: int) -> int:
        if number % 3 == 0:
            manager.clear_upload_bucket(identifier)
            return 200
        return servers[number % 2].put(identifier, contents[number]).status_code

    with ThreadPoolExecutor(8) as threads:
        codes = set(threads.map(act, range(len(contents))))
    assert codes <= {200, 409}
    bucket = manager.access_upload_bucket(identifier)
    if bucket is not None:
        assert bucket.is_complete()
        assert stored(manager, identifier) in contents
        manager.clear_upload_bucket(identifier)
    assert in_pool() == []


@pytest.mark.full
def test_concurrent_operations_report_consistent_states(pool: Path, in_pool: InPool) -> None:
    """Concurrent operations on a bucket do not fail or report wrong states, and a reset leaves nothing."""
    pool.mkdir()
    script = str(Path(__file__).with_name("race.py"))

    def race(seed: int) -> str:
        command = [sys.executable, script, str(pool), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return done.stdout + done.stderr

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(race, range(4))) == {""}
    left = DirectoryPool(str(pool))
    for bucket in list(left.buckets()):
        left.clear(bucket.id)
    assert in_pool() == []


def test_processes_agree_on_the_key(pool: Path, manager_of: Callable[[Path], UploadManager]) -> None:
    """Processes that create the pool's key at the same time all use the same key."""
    pool.mkdir()
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: run_fileupload("identifier", "--directory", str(pool)), range(6)))
    manager = manager_of(pool)
    assert all(manager.verify_identifier(identifier.strip()) for identifier in made)
    assert [path.name for path in pool.iterdir()] == [".upload_key"]


@pytest.fixture
def manager_of() -> Callable[[Path], UploadManager]:
    """Return the manager of a pool, made when it is asked for."""
    return lambda directory: make_manager(Settings.parse({"directory": str(directory)}))


def test_outdated_uploads_are_removed_once(serve: Serve, manager: UploadManager, in_pool: InPool) -> None:
    """Of all servers on a pool, exactly one in each interval removes expired uploads while it serves a request."""
    servers = [serve("--set", "expire_after=1s") for _ in range(3)]
    identifiers = [manager.create_identifier() for _ in range(5)]
    for identifier in identifiers:
        assert servers[0].put(identifier, b"soon gone").json()["expires"]
    other = manager.create_identifier()

    def all_gone() -> bool:
        for server in servers:
            server.status(other)  # a request that triggers the removal
        return all(manager.access_upload_bucket(identifier) is None for identifier in identifiers)

    wait_until(all_gone)
    wait_until(lambda: removed(servers) >= len(identifiers))
    assert removed(servers) == len(identifiers)
    assert not [name for name in in_pool() if "/" in name]


def removed(servers: list[RunningServer]) -> int:
    """Return the number of uploads that the servers report as removed."""
    lines = [line for server in servers for line in server.log.read_text().splitlines()]
    return sum(int(line.split()[-4]) for line in lines if line.endswith("outdated uploads removed"))


def test_one_of_many_processes_gets_the_interval_lease(pool: Path) -> None:
    """Of processes that ask for a lease at the same time, exactly one gets it."""
    pool.mkdir()
    script = (
        "import sys; from fileupload.pool.directory.pool import DirectoryPool;"
        "pool = DirectoryPool(sys.argv[1]); print(pool.signing_keys() and '', flush=True);"
        "sys.stdin.readline(); print(sum(pool.acquire_interval_lease(3600) for _ in range(20)))"
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, str(pool)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # the process is ready
        turns = [int(process.communicate("go\n", timeout=PATIENCE)[0]) for process in processes]
    assert sum(turns) == 1


def free_space(folder: Path) -> int:
    numbers = os.statvfs(folder)
    return numbers.f_bavail * numbers.f_frsize


def test_parallel_uploads_leave_the_reserve_free(
    serve: Serve, small_disk: Path, manager_of: Callable[[Path], UploadManager]
) -> None:
    """Parallel uploads, each of which would fit alone, leave the reserve free; those without space get 507."""
    reserve, size, count = 16 * MEGABYTE, 10 * MEGABYTE, 8
    pool = small_disk / "pool"
    server = serve("--workers", "2", "--set", "min_free_space=16", directory=pool)
    manager = manager_of(pool)
    content = some_bytes(4, size)
    lowest = free_space(small_disk)
    together = threading.Barrier(count)

    def send(identifier: str) -> int:
        connection = server.begin(identifier, size)
        with closing(connection):
            together.wait(PATIENCE)
            for at in range(0, size, SLICE):
                try:
                    connection.send(content[at : at + SLICE])
                except OSError:
                    break
            with connection.getresponse() as answer:
                return answer.status

    identifiers = [manager.create_identifier() for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        answers = [threads.submit(send, identifier) for identifier in identifiers]
        while not all(answer.done() for answer in answers):
            lowest = min(lowest, free_space(small_disk))
            time.sleep(0.001)
    codes = [answer.result() for answer in answers]
    assert set(codes) <= {200, 507}
    assert codes.count(507) > 0
    # Each upload may have held one chunk when it checked the free space for the last time.
    assert lowest >= reserve - count * CHUNK
    for identifier, code in zip(identifiers, codes, strict=True):
        if code == 200:
            assert stored(manager, identifier) == content


@pytest.mark.full
def test_two_hundred_slow_clients_all_finish(serve: Serve, manager: UploadManager) -> None:
    """Two hundred clients that send small pieces with pauses all finish, each with its own bytes."""
    server = serve()
    count, size = 200, 60_000
    contents = {manager.create_identifier(): some_bytes(number, size) for number in range(count)}
    answers: dict[str, bytes] = {}
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        sockets = {}
        for identifier in contents:
            sockets[identifier] = connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            )
            head = f"PUT /upload?X-Progress-ID={identifier} HTTP/1.1\r\nHost: localhost\r\n"
            connection.sendall(f"{head}Connection: close\r\nContent-Length: {size}\r\n\r\n".encode())
            selector.register(connection, selectors.EVENT_READ, identifier)
        for at in range(0, size, 6000):  # all uploads are running until the last round
            for identifier, connection in sockets.items():
                connection.sendall(contents[identifier][at : at + 6000])
        while len(answers) < count:
            ready = selector.select(PATIENCE)
            assert ready, f"only {len(answers)} of {count} clients were answered"
            for key, _ in ready:
                answers[key.data] = sockets[key.data].recv(100)
                selector.unregister(key.fileobj)
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers.values())
    for identifier, content in contents.items():
        assert stored(manager, identifier) == content


def test_the_status_command_reports_a_running_upload(serve: Serve, manager: UploadManager, pool: Path) -> None:
    """``fileupload status``, run in a separate process, reports the state of a running upload and its result."""
    server = serve()
    identifier, content = manager.create_identifier(), some_bytes(6, MEGABYTE)

    def ask() -> dict[str, Any]:
        output = run_fileupload("status", identifier, "--directory", str(pool), "--json")
        data: dict[str, Any] = json.loads(output)
        return data

    with closing(begin_half(server, identifier, content, server)) as running:
        while_running = ask()
        assert (while_running["state"], while_running["size"]) == ("uploading", len(content))
        assert 0 < while_running["received"] <= len(content) // 2
        running.send(content[len(content) // 2 :])
        with running.getresponse() as answer:
            assert answer.status == 200
    assert (ask()["state"], ask()["sha256"]) == ("done", hashlib.sha256(content).hexdigest())
