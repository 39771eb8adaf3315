"""The idle timeout ends silent clients and does not affect slow ones."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Any

from fileupload.manager import UploadManager
from tests.support.waiting import wait_until


def trickle(connection: http.client.HTTPConnection, pieces: int) -> None:
    """Send bytes slowly, with pauses much shorter than the idle timeout."""
    for _ in range(pieces):
        connection.send(b"y" * 1000)
        time.sleep(0.25)


def test_a_silent_client_is_ended_and_a_slow_one_is_not(serve: Any, manager: UploadManager) -> None:
    """After the idle timeout a silent upload fails as too slow; a client that sends slowly finishes."""
    server = serve("--idle-timeout", "6s")
    silent, slow = manager.create_identifier(), manager.create_identifier()
    first, second = server.begin(silent, 100_000), server.begin(slow, 40_000)
    first.send(b"x" * 50_000)
    sender = threading.Thread(target=trickle, args=(second, 40))
    sender.start()
    assert b" 408 " in first.sock.recv(1000)
    sender.join()
    assert second.getresponse().status == 200
    wait_until(lambda: server.status(silent)["state"] == "error")
    found = server.status(silent)
    assert (found["code"], found["received"]) == ("too-slow", 50_000)
    first.close()
    second.close()
