"""The server is killed at random moments of uploads: no bucket reports wrong bytes, and a retry succeeds."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fileupload.manager import UploadManager
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.system.conftest import RunningServer, Serve

KILLS = 50
SLICE = 64 << 10
# Sizes at which a kill occurs before, during and after the writes, and around the finish.
SIZES = (0, 1, 20_000, 300_000, 3_000_000)


@dataclass
class Upload:
    """An upload that may be interrupted by kills and is sent again until it succeeds."""

    identifier: str
    content: bytes
    succeeded: bool = False
    kills: int = 0

    def send(self, server: RunningServer, progress: threading.Semaphore) -> None:
        """Send the upload in slices, and report each of them to *progress*."""
        try:
            with closing(server.begin(self.identifier, len(self.content))) as connection:
                for at in range(0, len(self.content), SLICE):
                    connection.send(self.content[at : at + SLICE])
                    progress.release()
                progress.release()
                with connection.getresponse() as answer:
                    self.succeeded = answer.status == 200
        except (OSError, http.client.HTTPException):
            self.kills += 1
        finally:
            progress.release()


def slices_of(upload: Upload) -> int:
    """Return how often *upload* reports progress."""
    return -(-len(upload.content) // SLICE) + 2


def kill_during(uploads: list[Upload], server: RunningServer, chance: random.Random) -> None:
    """Send *uploads* at the same time, and kill the server at some moment."""
    progress = threading.Semaphore(0)
    threads = [threading.Thread(target=upload.send, args=(server, progress)) for upload in uploads]
    for thread in threads:
        thread.start()
    for _ in range(chance.randrange(sum(map(slices_of, uploads)))):
        assert progress.acquire(timeout=PATIENCE)
    time.sleep(chance.random() * 0.02)  # a random delay, so that the kill falls between two steps of the server
    server.kill()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def check_bytes(upload: Upload, manager: UploadManager) -> str:
    """Check that the pool's status of *upload* is correct; return its state."""
    bucket = manager.access_upload_bucket(upload.identifier)
    if bucket is None:
        assert not upload.succeeded
        return "unknown"
    status = bucket.get_status()
    assert status.state == "done" or not upload.succeeded
    if status.state == "done":
        with bucket.open() as file:
            assert file.read() == upload.content
    return str(status.state)


def run_fileupload(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "fileupload", *arguments], check=True, timeout=PATIENCE, capture_output=True)


@pytest.mark.full
def test_no_bucket_is_done_with_wrong_bytes_after_a_kill(
    serve: Serve, manager: UploadManager, pool: Path, in_pool: Callable[[], list[str]]
) -> None:
    """After each of 50 kills no bucket is done with wrong bytes, and in the end every retry succeeds."""
    chance = random.Random(20261120)
    waiting: list[Upload] = []  # uploads that were killed, to be sent again
    finished: list[Upload] = []
    kills = 0
    while kills < KILLS:
        sizes = chance.sample(SIZES, 2)
        new = [Upload(manager.create_identifier(), chance.randbytes(size)) for size in sizes]
        again = [waiting.pop(0) for _ in range(min(len(waiting), 2))]
        kill_during(new + again, serve(), chance)
        kills += 1
        for upload in new + again:
            done = check_bytes(upload, manager) == "done"
            (finished if done else waiting).append(upload)
    assert sum(upload.kills for upload in finished + waiting) >= KILLS
    states = {"error", "unknown"}
    for upload in waiting:
        wait_until(lambda upload=upload: check_bytes(upload, manager) in states)  # type: ignore[misc]
        bucket = manager.access_upload_bucket(upload.identifier)
        assert bucket is None or bucket.get_status().code == "interrupted"
    server = serve()
    for upload in waiting:
        answer = server.put(upload.identifier, upload.content)
        assert answer.status_code == 200, answer.text
        assert check_bytes(upload, manager) == "done"
    server.kill()
    for upload in finished:
        assert check_bytes(upload, manager) == "done"
    run_fileupload("purge", "--older-than", "0", "--directory", str(pool))
    assert in_pool() == []


def children_of(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in path.read_text().split()]


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_workers_end_with_their_parent(serve: Serve, manager: UploadManager) -> None:
    """When only the parent is killed, its workers also end, and the port is free again."""
    server = serve("--workers", "2")
    assert server.put(manager.create_identifier(), b"before").status_code == 200
    wait_until(lambda: len(children_of(server.process.pid)) >= 2)
    workers = children_of(server.process.pid)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(PATIENCE)
    wait_until(lambda: not any(map(is_running, workers)))
    wait_until(lambda: is_free(server.port))


def test_workers_end_with_their_parent_during_an_upload(serve: Serve, manager: UploadManager) -> None:
    """An upload that runs while the parent is killed completes or fails, and its worker ends in either case."""
    server = serve()
    identifier, content = manager.create_identifier(), random.Random(5).randbytes(1 << 20)
    connection = server.begin(identifier, len(content))
    connection.send(content[: len(content) // 2])
    wait_until(lambda: server.status(identifier)["state"] in {"starting", "uploading"})
    workers = children_of(server.process.pid)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(PATIENCE)
    upload = Upload(identifier, content)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.send(content[len(content) // 2 :])
        with connection.getresponse() as answer:
            upload.succeeded = answer.status == 200
    wait_until(lambda: not any(map(is_running, workers)))
    wait_until(lambda: check_bytes(upload, manager) in {"done", "error"})
