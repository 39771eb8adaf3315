"""Timeouts for operations that block on a client: reading a body, sending an answer.

``wsgi.input.read(n)`` blocks until *n* bytes have arrived, and sending blocks until the client has received enough. A
client that sends one byte now and then would hold the thread for hours, and a time limit that is checked between two
reads could not end that. So each blocking operation is registered as a :class:`Wait`, and one thread in each process
checks all of them a few times a second. It shuts down the connection of an overdue one, which unblocks the operation.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Protocol
from wsgiref.types import WSGIEnvironment

from fileupload.wsgi.connection import counters_of, end_connection, socket_of

WATCH_KEY = "fileupload.watch"  # key of the environ: the Watch of the request, set by ``fileupload serve``

_TICK = 0.25  # seconds between two checks
_SECOND_TRY = 5.0  # seconds after which a connection is shut down in both directions, if the operation still blocks
_IDLE_LIFE = 30.0  # seconds without a registered operation after which the thread ends


class Wait:
    """One blocking operation.

    :ivar since: when it began (monotonic).
    :ivar deadline: when it must have ended (monotonic); infinity for no limit.
    :ivar idle: the idle timeout: seconds that may pass without a byte; infinity for no limit.
    :ivar size: the bytes that it waits for.
    :ivar rate: the minimum rate of the client, in bytes a second; 0 for none.
    :ivar grace: seconds for which the client may stay under that rate, if the kernel's counters are known.
    :ivar draining_since: when the draining of a body began, after its answer; 0 before.
    :ivar sending: whether it sends; else it reads.
    :ivar expired: whether the watchdog has ended its connection.
    :ivar suspected: whether a connection of the same client was ended that may have been that of this operation.
    """

    __slots__ = (
        *("deadline", "draining_since", "ended_at", "expired", "grace", "idle", "mark", "moved", "rate", "sending"),
        *("since", "size", "socket", "suspected"),
    )

    def __init__(self, *, sending: bool = False, rate: int = 0, grace: float = math.inf) -> None:
        self.sending = sending
        self.rate = rate
        self.grace = grace
        self.expired = self.suspected = False
        self.since = self.ended_at = self.draining_since = 0.0
        self.deadline = self.idle = math.inf
        self.size = 0
        # The byte count and the time at which the client was last fast enough; the count and time of its last byte.
        self.mark: tuple[int, float] = (-1, 0.0)
        self.moved: tuple[int, float] = (-1, 0.0)
        self.socket: Any = None

    def begin(self, *, size: int, seconds: float, idle: float) -> None:
        """Begin the operation now, on *size* bytes.

        :param seconds: the time that it may take; infinity for no limit.
        :param idle: the idle timeout in seconds; infinity for none.
        """
        self.since = time.monotonic()
        self.size = size
        self.deadline = self.since + seconds
        self.idle = idle
        self.mark = self.moved = (-1, self.since)


class Watch(Protocol):
    """The interface by which the blocking operations of one request are watched."""

    def start(self, wait: Wait) -> None:
        """Begin to watch *wait*."""

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*, which has ended."""

    def end(self) -> bool:
        """End the connection after the answer was sent; return False if the server does so by itself."""


class Watchdog:
    """Watches the operations of all requests of this process whose sockets are known."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Also called in a forked child: another thread of the parent may have held the lock during the fork, and the
        # registered operations belong to threads that do not exist in the child.
        self._waits: dict[int, Wait] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, wait: Wait) -> None:
        """Begin to watch *wait*."""
        self._waits[id(wait)] = wait
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="fileupload-watchdog", daemon=True)
                    self._thread.start()

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*; after the return, the watchdog does not touch its connection."""
        # The lock prevents a race: while the watchdog uses the socket, this thread waits here, and the server cannot
        # close it. A closed descriptor could already belong to another connection.
        with self._lock:
            self._waits.pop(id(wait), None)

    def _run(self) -> None:
        last_used = time.monotonic()
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            with self._lock:
                if self._waits:
                    last_used = now
                    for wait in list(self._waits.values()):
                        _end_if_due(wait, now)
                elif now - last_used > _IDLE_LIFE:
                    self._thread = None
                    return


def _end_if_due(wait: Wait, now: float) -> None:
    if wait.expired:
        if now - wait.ended_at >= _SECOND_TRY:
            end_connection(wait.socket, socket.SHUT_RDWR, discard=True)
            wait.ended_at = now
        return
    if now < wait.deadline and not _is_too_slow(wait, now):
        return
    wait.expired = True
    wait.ended_at = now
    end_connection(wait.socket, socket.SHUT_RDWR if wait.sending else socket.SHUT_RD, discard=wait.sending)


def _is_too_slow(wait: Wait, now: float) -> bool:
    """Return whether the client is idle, or under its minimum rate, by the kernel's counters."""
    counters = counters_of(wait.socket) if now - wait.since >= min(wait.grace / 4, wait.idle / 4, 1.0) else None
    if counters is None:
        return False
    # The time of the last acknowledgement proves nothing: a client that reads nothing still acknowledges probes.
    count = counters.acknowledged if wait.sending else counters.received
    if count != wait.moved[0]:
        wait.moved = (count, now if wait.moved[0] >= 0 else wait.since)
    if wait.mark[0] < 0 or count - wait.mark[0] >= max(1, wait.rate * (now - wait.mark[1])):
        wait.mark = (count, now)
    return now - wait.moved[1] >= wait.idle or (wait.rate > 0 and now - wait.mark[1] >= wait.grace)


WATCHDOG = Watchdog()
with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=WATCHDOG._reset)


class SocketWatch:
    """Watches the operations of a request whose socket is known."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock

    def start(self, wait: Wait) -> None:
        """Begin to watch *wait*."""
        wait.socket = self._socket
        WATCHDOG.start(wait)

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*, which has ended."""
        WATCHDOG.stop(wait)

    def end(self) -> bool:
        """End the connection after the answer was sent; return False if it is closed already."""
        return end_connection(self._socket, socket.SHUT_RDWR)


def watch_of(environ: WSGIEnvironment) -> Watch | None:
    """Return the watch of a request, or None if its connection is not known."""
    watch: Watch | None = environ.get(WATCH_KEY)
    if watch is None and (found := socket_of(environ)) is not None:
        watch = SocketWatch(found)
    return watch
