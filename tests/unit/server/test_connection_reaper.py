"""The connection reaper ends connections by kernel counters: tests with real sockets and a controlled clock."""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from fileupload.server import connection_reaper
from fileupload.server.connection_reaper import ConnectionReaper, ReaperOptions
from fileupload.wsgi.connection import HAS_COUNTERS, read_counters
from fileupload.wsgi.watchdog import WATCH_KEY, Wait
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not HAS_COUNTERS, reason="the kernel tells no counters")

GRACE = 30.0


class ReaperSite:
    """A listening socket, its connections, and a reaper that the test calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capacity: int = 100) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        monkeypatch.setattr(ConnectionReaper, "_run", lambda _: None)
        # The kernel's clock runs independently: its times are shifted to the time of the scan.
        self.shift = 0.0
        monkeypatch.setattr(connection_reaper, "read_counters", self.counters)
        options = ReaperOptions(port=self.listener.getsockname()[1], capacity=capacity, grace=GRACE)
        self.reaper = ConnectionReaper(lambda environ, start_response: environ["answer"], options)
        self.start = time.monotonic()

    def connect(self, sent: bytes = b"") -> tuple[socket.socket, socket.socket]:
        """Return both ends of a new connection on which the client has *sent* some bytes."""
        client = socket.create_connection(self.listener.getsockname(), timeout=PATIENCE)
        server, _ = self.listener.accept()
        server.settimeout(PATIENCE)
        self.pairs.append((client, server))
        if sent:
            client.sendall(sent)
            assert server.recv(1 << 16)
        return client, server

    def request(self, *, length: int = 1000, reading: bool, ago: float = 0.0, drained: bool = False) -> Any:
        """Start a request that has been reading, or processed, for so many seconds."""
        environ: dict[str, Any] = {
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(length),
            "wsgi.input": io.BytesIO(),
            "answer": iter([b"x"]),
        }
        self.reaper(environ, None)
        watch = environ[WATCH_KEY]
        now = time.monotonic()
        watch.working_since = now - ago
        if reading:
            watch.reading_since = now - ago
            wait = Wait(rate=1024, grace=GRACE)
            wait.begin(size=4096, seconds=GRACE, idle=math.inf)
            wait.deadline = wait.since - ago + (1.0 if drained else GRACE)
            wait.draining_since = now - ago if drained else 0.0
            watch.start(wait)
        return watch

    def counters(self, sock: Any) -> Any:
        found = read_counters(sock)
        assert found is not None
        return found._replace(
            since_received=found.since_received + self.shift, since_sent=found.since_sent + self.shift
        )

    def look(self, after: float) -> None:
        """Scan the connections as if so many seconds had passed since the test began."""
        now = self.start + after
        self.shift = max(0.0, now - time.monotonic())
        self.reaper._check(now)

    def close(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.listener.close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReaperSite]:
    site = ReaperSite(monkeypatch)
    yield site
    site.close()


def is_ended(server: socket.socket) -> bool:
    """Return whether the server's end of a connection was shut down for reading."""
    server.setblocking(False)
    with suppress(BlockingIOError):
        return server.recv(1) == b""
    return False


def test_an_overdue_read_ends_the_connection_that_sends_nothing(site: ReaperSite) -> None:
    """A connection silent for the grace time during a request is ended, and its read gets the reason."""
    _, silent = site.connect(b"PUT / HTTP/1.1\r\n")
    watch = site.request(reading=True, ago=GRACE + 1)
    site.look(0)
    assert not is_ended(silent)
    site.look(GRACE + 1)
    assert is_ended(silent)
    assert watch.wait.expired


def test_a_read_that_is_not_overdue_ends_nothing(site: ReaperSite) -> None:
    """A silent connection whose read is not overdue is left open."""
    _, silent = site.connect(b"PUT / HTTP/1.1\r\n")
    site.request(reading=True)
    site.look(0)
    site.look(GRACE - 1)
    assert not is_ended(silent)


def test_a_connection_above_the_minimum_rate_stays_open(site: ReaperSite) -> None:
    """Of two connections of one client, the one that receives bytes above the minimum rate stays open."""
    client, steady = site.connect(b"PUT / HTTP/1.1\r\n")
    _, silent = site.connect(b"PUT / HTTP/1.1\r\n")
    for _ in range(2):
        site.request(reading=True, ago=GRACE + 1)
    site.look(0)
    client.sendall(bytes(40 << 10))
    while site.reaper._connections and steady.recv(1 << 16):
        if not _readable(steady):
            break
    site.look(GRACE + 1)
    assert is_ended(silent)
    assert not is_ended(steady)


def _readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(PATIENCE)


def test_a_connection_stays_open_while_its_request_is_processed(site: ReaperSite) -> None:
    """A silent connection stays open while its complete request is processed."""
    _, working = site.connect(b"P" * 2000)
    site.request(reading=False, length=1000)
    overdue = site.request(reading=True, ago=GRACE + 1)
    site.look(0)
    site.look(GRACE + 1)
    assert overdue.reading_since
    assert not is_ended(working)


def test_an_overdue_read_does_not_end_an_idle_connection(site: ReaperSite) -> None:
    """A connection whose request was answered is not ended by an overdue read."""
    _, idle = site.connect(b"GET / HTTP/1.1\r\n\r\n")
    idle.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    _, silent = site.connect(b"PUT / HTTP/1.1\r\n")
    site.request(reading=True, ago=GRACE + 1)
    site.look(0)
    site.look(GRACE + 1)
    assert is_ended(silent)
    assert not is_ended(idle)


def test_an_answer_that_is_not_taken_ends_its_connection(site: ReaperSite) -> None:
    """A connection that sends none of its pending bytes for the grace time is ended; others stay open."""
    _, unread = site.connect(b"GET / HTTP/1.1\r\n\r\n")
    _, other = site.connect(b"GET / HTTP/1.1\r\n\r\n")
    unread.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            unread.send(bytes(1 << 20))
    site.look(0)
    site.look(GRACE - 1)
    assert not is_ended(unread)
    site.look(GRACE + 1)
    assert is_ended(unread)
    assert not is_ended(other)


def test_idle_connections_end_if_most_slots_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without a byte end after a second if three quarters of the slots are used, and not before."""
    site = ReaperSite(monkeypatch, capacity=8)
    try:
        few = [site.connect()[1] for _ in range(5)]
        site.look(0)
        site.look(5)
        assert not any(map(is_ended, few))
        new = [site.connect()[1] for _ in range(2)]
        site.look(6)
        assert all(map(is_ended, few))
        assert not any(map(is_ended, new))
    finally:
        site.close()


def test_connections_with_incomplete_heads_end_if_most_slots_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections with incomplete heads are ended if their client has no request, and otherwise stay open."""
    site = ReaperSite(monkeypatch, capacity=8)
    try:
        begun = [site.connect(b"GET / HT")[1] for _ in range(7)]
        watch = site.request(reading=False)
        site.look(0)
        site.look(5)
        assert not any(map(is_ended, begun))
        site.reaper._requests.clear()
        site.look(6)
        assert all(map(is_ended, begun))
        assert watch
    finally:
        site.close()


def test_a_finished_drain_ends_the_connection_answered_at_its_start(site: ReaperSite) -> None:
    """Draining after a refusal ends the connection, answered when draining began, after a second."""
    _, answered = site.connect(b"PUT / HTTP/1.1\r\n")
    _, other = site.connect(b"PUT / HTTP/1.1\r\n")
    answered.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    watch = site.request(reading=True, drained=True)
    site.look(0)
    time.sleep(0.05)
    watch.wait.deadline = 0
    site.look(0.5)
    assert is_ended(answered)
    assert not is_ended(other)


def test_connections_to_another_port_are_ignored(site: ReaperSite) -> None:
    """The reaper ignores connections to another port of the same process."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"PUT")
            site.request(reading=True, ago=GRACE + 1)
            site.look(0)
            site.look(GRACE + 1)
            assert server.recv(3) == b"PUT"
            assert not is_ended(server)
