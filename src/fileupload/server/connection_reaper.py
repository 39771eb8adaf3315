"""Closes connections of ``fileupload serve`` whose clients are idle, too slow, or do not read their answer.

granian has a timeout for the head of a request, and none for what follows: the thread of a request waits without limit
for the next bytes of a body, or for the client to read an answer. Neither WSGI nor granian exposes the connection of a
request. But the kernel counts the bytes of each connection (``struct tcp_info``), and the WSGI wrapper here knows of
each request whether it is blocked in a read, since when, and its limits. Every half second the reaper compares both:

- It closes a connection with unacknowledged bytes of which the client acknowledges fewer than the minimum rate.
- For each overdue read, it closes one connection from the same address that is in the middle of a request and has
  received less than the minimum rate. It spares connections whose request may be in the app: such a connection has
  received its whole body, and nothing since the app began to work.
- While three quarters of the connections that a process may have are in use, it closes idle ones after 1 to 2 s.

Each connection has a thread (see ``granian``), so no request waits for a thread: a connection that has received bytes
and sent none is in the middle of a request. On systems without these counters the reaper is not used.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from fileupload.server.request_watch import RequestWatch, TimedAnswer, TimedInput
from fileupload.wsgi.connection import Counters, KernelSocket, duplicate, read_counters, shut_down
from fileupload.wsgi.watchdog import WATCH_KEY

log = logging.getLogger("fileupload")

_TICK = 0.5  # seconds between two checks
_SLACK = 0.5  # seconds by which timestamps of the kernel and of this process may differ
_MAX_LAG = 60.0  # seconds by which the read of the last bytes of a body may be delayed
_MAX_HEAD_LAG = 5.0  # the same for the head of a request without a body
_MAX_DOUBT = 5.0  # seconds after which an undrained connection is closed even if its identity is uncertain
_FULL_CLOSE_DELAY = 3.0  # seconds after which a half-closed connection is shut down in both directions
_CROWDED = 0.75  # share of the capacity from which idle connections are closed
_CROWDED_NEW = 1.0  # seconds for the first byte of a new connection, when crowded
_CROWDED_IDLE = 2.0  # seconds of idle time after an answer, when crowded


@dataclass(frozen=True, kw_only=True)
class ReaperOptions:
    """Limits of the reaper.

    :ivar port: server port of the checked connections.
    :ivar capacity: maximum number of connections of this process.
    :ivar idle_timeout: seconds without a byte within a body or an answer; infinity: no timeout.
    :ivar min_rate: bytes per second that a client must acknowledge of an answer; 0: no minimum.
    :ivar grace: seconds over which the rate is measured.
    """

    port: int
    capacity: int
    idle_timeout: float = 60.0
    min_rate: int = 1024
    grace: float = 30.0


@dataclass
class _Connection:
    """Connection of this process, with the counters of the last checks. Times are monotonic.

    :ivar seen: time of the first check.
    :ivar mark: last time at which it received at the minimum rate, and the bytes received until then.
    :ivar base: bytes received before the current request, as far as the checks have seen.
    :ivar sending: time since which it always had bytes to send, and the bytes acknowledged until then; None: it has
        none.
    :ivar ended_at: time at which it was closed; 0: not closed.
    """

    address: str
    seen: float
    counters: Counters
    mark: tuple[float, int]
    base: int = 0
    sending: tuple[float, int] | None = None
    ended_at: float = 0.0
    fd: int = -1

    def update(self, counters: Counters, now: float, rate: int) -> None:
        self.counters = counters
        since, received = self.mark
        if counters.received - received >= max(1, rate * (now - since)):
            self.mark = (now, counters.received)
        if not self.in_request:
            self.base = counters.received
        if not counters.pending:
            self.sending = None
        elif self.sending is None:
            self.sending = (now, counters.acknowledged)

    @property
    def in_request(self) -> bool:
        """True if bytes were received since the last answer."""
        counters = self.counters
        if not counters.received or counters.pending:
            return False
        return not counters.acknowledged or counters.since_received < counters.since_sent

    @property
    def may_be_in_request(self) -> bool:
        """True if bytes may have been received since the last answer: within a millisecond the order is unknown."""
        counters = self.counters
        return self.in_request or (counters.received > 0 and counters.since_received == counters.since_sent)


class ConnectionReaper:
    """WSGI middleware that times requests, with a thread that checks the connections of this process."""

    def __init__(self, app: WSGIApplication, options: ReaperOptions) -> None:
        self._app = app
        self._options = options
        self._requests: dict[int, RequestWatch] = {}
        self._connections: dict[int, _Connection] = {}  # by inode
        self._others: set[int] = set()  # inodes of all other sockets
        threading.Thread(target=self._run, name="fileupload-reaper", daemon=True).start()

    def __call__(self, environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        watch = environ[WATCH_KEY] = RequestWatch(environ)
        environ["wsgi.input"] = TimedInput(environ["wsgi.input"], watch)
        key = id(watch)
        self._requests[key] = watch
        try:
            answer = self._app(environ, start_response)
        except BaseException:
            del self._requests[key]
            raise
        if isinstance(answer, list):  # the server sends a list as a whole
            del self._requests[key]
            return answer
        watch.answering = True
        return TimedAnswer(answer, partial(self._requests.pop, key, None))

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            try:
                self._check(time.monotonic())
            except Exception:
                log.exception("idle and slow connections could not be checked")

    def _check(self, now: float) -> None:
        self._update_counters(now)
        connections = [each for each in self._connections.values() if not each.ended_at]
        ended = [each for each in connections if self._reads_too_slowly(each, now)]
        for connection in ended:
            self._end(connection, socket.SHUT_RDWR, now)
        late = self._end_overdue(connections, now)
        crowd = self._end_idle(connections, now)
        for connection in self._connections.values():
            if connection.ended_at and now - connection.ended_at >= _FULL_CLOSE_DELAY:
                self._end(connection, socket.SHUT_RDWR, now)
        if ended or late or crowd:
            log.warning(
                "connections closed: %d with a slow sender, %d with an unread answer, %d idle",
                late, len(ended), crowd,
            )  # fmt: skip

    def _update_counters(self, now: float) -> None:
        """Update the counters of all connections of this process."""
        found = set()
        # The connection of a request is unknown: the lowest rate of a client applies to all its connections.
        rates: dict[str, int] = {}
        for watch in list(self._requests.values()):
            if watch.rate is not None:
                rates[watch.address] = min(watch.rate, rates.get(watch.address, watch.rate))
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError, ValueError):
                link = os.readlink(f"/proc/self/fd/{name}")
                if link.startswith("socket:["):
                    inode = int(link[8:-1])
                    found.add(inode)
                    if inode not in self._others:
                        self._update_connection(int(name), inode, rates, now)
        self._others &= found
        for inode in self._connections.keys() - found:
            del self._connections[inode]

    def _update_connection(self, fd: int, inode: int, rates: dict[str, int], now: float) -> None:
        with duplicate(fd) as sock:
            known = self._connections.get(inode)
            if known is None:
                address = _client_address(sock, self._options.port)
                if address is None:
                    self._others.add(inode)
                    return
            counters = read_counters(sock)
            if counters is None:
                return
            if known is None:
                known = _Connection(address or "", now, counters, (now, counters.received))
                self._connections[inode] = known
            known.fd = fd
            known.update(counters, now, rates.get(known.address, self._options.min_rate))

    def _reads_too_slowly(self, connection: _Connection, now: float) -> bool:
        """Return whether the client reads its answer too slowly; start a new window otherwise."""
        if connection.sending is None:
            return False
        since, acknowledged = connection.sending
        taken, seconds = connection.counters.acknowledged - acknowledged, now - since
        options = self._options
        if not options.min_rate:
            if taken:
                connection.sending = (now, connection.counters.acknowledged)
            return not taken and seconds >= options.idle_timeout
        if seconds < options.grace:
            return False
        connection.sending = (now, connection.counters.acknowledged)
        return taken < options.min_rate * seconds

    def _end_overdue(self, connections: list[_Connection], now: float) -> int:
        """Close the connections of overdue reads; return their number."""
        reading: dict[str, list[RequestWatch]] = defaultdict(list)
        overdue: dict[str, list[RequestWatch]] = defaultdict(list)
        working: dict[str, list[RequestWatch]] = defaultdict(list)
        for watch in list(self._requests.values()):
            if not watch.reading_since:
                working[watch.address].append(watch)
                continue
            reading[watch.address].append(watch)
            if _is_overdue(watch, now, self._options.idle_timeout):
                overdue[watch.address].append(watch)
        ended = 0
        for address, watches in overdue.items():
            if count := self._end_culprits(watches, working[address], connections, now):
                ended += count
                # The connection of a read is unknown: a read that fails now most likely belonged to a slow client.
                for watch in reading[address]:
                    if watch.wait is not None:
                        watch.wait.suspected = True
        return ended

    def _end_culprits(
        self, overdue: list[RequestWatch], working: list[RequestWatch], connections: list[_Connection], now: float
    ) -> int:
        """Close one connection of a client for each of its overdue reads, the slowest first; return their number."""
        candidates = [
            each
            for each in connections
            if each.address == overdue[0].address
            and not (each.ended_at or each.counters.pending or _may_be_worked_on(each, working, now))
        ]
        drains = [watch for watch in overdue if watch.wait is not None and watch.wait.draining_since]
        reads = [watch for watch in overdue if watch not in drains]
        culprits = self._slow_senders(reads, candidates, now) + _undrained(drains, candidates, now)
        if culprits:
            # Which of these reads belongs to which of these connections is unknown, and makes no difference.
            for watch in overdue:
                if watch.wait is not None:
                    watch.wait.expired = True
        return sum(self._end(connection, socket.SHUT_RD, now) for connection in culprits)

    def _slow_senders(
        self, overdue: list[RequestWatch], candidates: list[_Connection], now: float
    ) -> list[_Connection]:
        """Return at most one connection for each overdue read: in the middle of a request, and idle or too slow."""
        if not overdue:
            return []
        waits = [watch.wait for watch in overdue if watch.wait is not None]
        grace = min((wait.grace for wait in waits if wait.rate), default=math.inf)
        idle = min(self._options.idle_timeout, *(wait.idle for wait in waits), math.inf)
        slow = [
            each
            for each in candidates
            if each.may_be_in_request and (each.counters.since_received >= idle or now - each.mark[0] >= grace - _SLACK)
        ]
        return sorted(slow, key=lambda each: (not each.in_request, each.mark[0]))[: len(overdue)]

    def _end_idle(self, connections: list[_Connection], now: float) -> int:
        """Close idle connections if the process is crowded; return their number."""
        if len(connections) < self._options.capacity * _CROWDED:
            return 0
        # By its counters, a request in the app looks like an incomplete head, and an answer whose next piece is not
        # ready looks finished: of a client with running requests, only connections without a byte are closed.
        busy = {watch.address for watch in list(self._requests.values())}
        idle = [each for each in connections if not each.ended_at and _is_idle(each, each.address in busy, now)]
        return sum(self._end(connection, socket.SHUT_RDWR, now) for connection in idle)

    def _end(self, connection: _Connection, how: int, now: float) -> bool:
        connection.ended_at = now
        with suppress(OSError), duplicate(connection.fd) as sock:
            # The descriptor may belong to another connection by now.
            inode = os.fstat(sock.fileno()).st_ino
            if self._connections.get(inode) is connection:
                shut_down(sock, how, discard=how == socket.SHUT_RDWR)
                return True
        return False


def _may_be_worked_on(connection: _Connection, working: list[RequestWatch], now: float) -> bool:
    """Return whether the request of *connection* may be one of *working*, which are in the app.

    Such a connection has received its whole body, and its last bytes came just before the work began. Only a stalled
    disk can delay the read of these bytes.
    """
    received = connection.counters.received - connection.base
    last = now - connection.counters.since_received
    return any(
        watch.working_since - (_MAX_LAG if watch.length != 0 else _MAX_HEAD_LAG) <= last <= watch.working_since + _SLACK
        and (watch.length is None or received >= watch.length)
        for watch in working
    )


def _undrained(drains: list[RequestWatch], candidates: list[_Connection], now: float) -> list[_Connection]:
    """Return the connections that were answered when the *drains* began, and that have not sent the rest of the body.

    An idle one may be a kept-alive connection, which a server may close at any time (RFC 9112, 9.5). One in the middle
    of a request may have started a new request: it is closed only if there are no more such connections than drains,
    or after ``_MAX_DOUBT`` seconds.
    """
    starts = sorted(watch.wait.draining_since for watch in drains if watch.wait is not None)
    if not starts:
        return []
    matching = [
        each for each in candidates if starts[0] - _SLACK <= now - each.counters.since_sent <= starts[-1] + _SLACK
    ]
    idle = [each for each in matching if not each.in_request]
    others = [each for each in matching if each.in_request]
    left = max(0, len(drains) - len(idle))
    if len(others) > left and now - starts[0] < _MAX_DOUBT:
        others = []
    return idle[: len(drains)] + sorted(others, key=lambda each: each.mark[0])[:left]


def _is_idle(connection: _Connection, has_requests: bool, now: float) -> bool:
    counters = connection.counters
    if not counters.received:
        return now - connection.seen >= _CROWDED_NEW
    quiet = min(counters.since_received, counters.since_sent) >= _CROWDED_IDLE
    head = connection.in_request and now - connection.seen >= _CROWDED_IDLE
    return not has_requests and not counters.pending and (quiet or head)


def _is_overdue(watch: RequestWatch, now: float, idle_timeout: float) -> bool:
    since, wait = watch.reading_since, watch.wait
    if not since:
        return False
    if wait is None:
        return now - since >= idle_timeout
    slow = wait.rate > 0 and now - since >= wait.grace
    return slow or now >= wait.deadline or now - since >= min(wait.idle, idle_timeout)


def _client_address(sock: KernelSocket, port: int) -> str | None:
    """Return the IP address of the client of a connection to *port*; None for any other socket."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    try:
        if sock.getsockname()[1] != port:
            return None
        return str(sock.getpeername()[0])  # fails for a socket that only listens
    except OSError:
        return None
