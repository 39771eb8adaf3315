"""Signs of life of the attempts that run in this process, for as long as they do."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fileupload.pool.object.attempt import ObjectAttempt

_CHECK_INTERVAL = 1.0  # seconds between two looks at what running attempts have to show


class HeartbeatThread:
    """Shows them from a thread of its own, which begins with the first attempt."""

    def __init__(self) -> None:
        self._running: weakref.WeakSet[ObjectAttempt] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, attempt: ObjectAttempt) -> None:
        """Show those of *attempt* from now on."""
        with self._lock:
            self._running.add(attempt)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fileupload-heartbeats", daemon=True)
                self._thread.start()

    def end(self, attempt: ObjectAttempt) -> None:
        """Show no more of *attempt*; one that is being shown now is awaited, lest it come last."""
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
