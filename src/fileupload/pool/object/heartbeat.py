"""Heartbeats of the attempts that run in this process.

An attempt that waits for a stalled client publishes nothing, and other nodes would count it as crashed after
``dead_after`` seconds. So one thread in each process calls ``beat`` of every running attempt once a second.

*Order at the end.* A heartbeat that reaches the store after the final status would make the attempt look alive again.
So ``beat`` runs under the attempt's ``heartbeat_lock``, and :meth:`HeartbeatThread.end` waits for that lock: a beat
that is on its way ends before the attempt writes its final status, and none begins afterwards.

*Forks.* A child process has neither the thread nor the attempts of its parent. If it kept them, the attempts that begin
in the child would send no heartbeat, and the child would send heartbeats for attempts that the parent has ended. So the
child begins with an empty set and starts a thread of its own with its first attempt.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

from fileupload.pool import fork_safety

_CHECK_INTERVAL = 1.0  # seconds between two rounds


class Beating(Protocol):
    """A running attempt.

    :ivar heartbeat_lock: held while :meth:`beat` is called.
    """

    heartbeat_lock: threading.Lock

    def beat(self) -> bool:
        """Send a heartbeat if one is due; return False if no further one is needed."""


class HeartbeatThread:
    """Sends the heartbeats of running attempts, from a thread that starts with the first of them."""

    def __init__(self) -> None:
        self.reset_after_fork()
        fork_safety.register(self)

    def reset_after_fork(self) -> None:
        """Forget all attempts; the next one starts a thread."""
        # References are weak: an attempt that was dropped without an end must not look alive for ever.
        self._running: weakref.WeakSet[Beating] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, attempt: Beating) -> None:
        """Send heartbeats of *attempt* from now on."""
        with self._lock:
            self._running.add(attempt)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fileupload-heartbeats", daemon=True)
                self._thread.start()

    def end(self, attempt: Beating) -> None:
        """Send no further heartbeat of *attempt*; returns once a heartbeat that is on its way has arrived."""
        with attempt.heartbeat_lock, self._lock:
            self._running.discard(attempt)

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_INTERVAL)
            with self._lock:
                running = list(self._running)
            for attempt in running:
                with suppress(Exception), attempt.heartbeat_lock:
                    if attempt in self._running and not attempt.beat():
                        self._running.discard(attempt)
