"""Deadlines by the clock for operations that block on a client: reading a body, sending an answer.

A WSGI server blocks in ``wsgi.input.read`` until as many bytes have come as were asked for, and in sending until the
client has taken them. A client that sends a byte now and then would hold the thread for hours: no time limit that is
looked at between two reads ends that. So each blocking operation is announced as a :class:`Wait`, and one thread in
each process looks at all of them a few times a second. It shuts down the connection of those that are overdue, which
ends the operation at once.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from fileupload.wsgi.connection import counters_of, end_connection, socket_of

WATCH_KEY = "fileupload.watch"  # of the environ: the watch that a server of ours has for the request

_TICK = 0.25  # seconds between two looks
_SECOND_TRY = 5.0  # seconds after which a connection is shut down in both directions, if the operation still blocks
_IDLE_LIFE = 30.0  # seconds without anything to watch, after which the thread ends


class Wait:
    """One blocking operation.

    :ivar since: when it began (monotonic).
    :ivar deadline: when it must be over (monotonic); infinity for no limit.
    :ivar idle: seconds that may pass without a byte; infinity for no limit.
    :ivar size: the bytes that it waits for.
    :ivar rate: bytes a second below which the client is too slow; 0 for any.
    :ivar grace: seconds for which the client may be under that rate, where the kernel counts what it sends.
    :ivar draining_since: when the answer was sent after which it reads the rest of the body; 0 before.
    :ivar sending: whether it sends; else it reads.
    :ivar expired: set once its connection was ended for it.
    :ivar suspected: set once a connection of the same client was ended, which may have been that of this operation.
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
        # Bytes that were moved, and until when the client was fast enough; and when the last of them were seen to move.
        self.mark: tuple[int, float] = (-1, 0.0)
        self.moved: tuple[int, float] = (-1, 0.0)
        self.socket: Any = None

    def begin(self, *, size: int, seconds: float, idle: float) -> None:
        """Note that the operation begins now, on *size* bytes, and may take so many *seconds*."""
        self.since = time.monotonic()
        self.size = size
        self.deadline = self.since + seconds
        self.idle = idle
        self.mark = self.moved = (-1, self.since)


class Watch(Protocol):
    """Watches the operations of one request."""

    def start(self, wait: Wait) -> None:
        """Watch *wait* from now on."""

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*: it is over."""

    def end(self) -> bool:
        """End the connection after an answer that was sent; False where the server does so by itself."""


class Watchdog:
    """Watches the waits of all requests of this process whose sockets are known."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Also in a new child process: the lock may have been held by another thread during the fork, and the waits
        # are those of threads that the child does not have.
        self._waits: dict[int, Wait] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, wait: Wait) -> None:
        """Watch *wait* from now on."""
        self._waits[id(wait)] = wait
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="fileupload-watchdog", daemon=True)
                    self._thread.start()

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*; after this its connection is not touched any more."""
        # Under the lock: as long as this thread has not gone on, the server cannot have closed the socket, whose
        # descriptor would then belong to another connection.
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
    """Tell by the kernel's counters whether the client sends, or takes, less than it must."""
    counters = counters_of(wait.socket) if now - wait.since >= min(wait.grace / 4, wait.idle / 4, 1.0) else None
    if counters is None:
        return False
    # The time of the last acknowledgement does not tell: a client that takes nothing acknowledges probes.
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
    """Watches the operations of a request by its socket."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock

    def start(self, wait: Wait) -> None:
        """Watch *wait* from now on."""
        wait.socket = self._socket
        WATCHDOG.start(wait)

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*: it is over."""
        WATCHDOG.stop(wait)

    def end(self) -> bool:
        """End the connection after an answer that was sent."""
        return end_connection(self._socket, socket.SHUT_RDWR)


def watch_of(environ: dict[str, Any]) -> Watch | None:
    """Return what watches the request of *environ*; None where its connection is not known."""
    watch: Watch | None = environ.get(WATCH_KEY)
    if watch is None and (found := socket_of(environ)) is not None:
        watch = SocketWatch(found)
    return watch
