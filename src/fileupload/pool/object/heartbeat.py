"""Signs of life of the attempts that run in this process, for as long as they do."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fileupload.pool.object.attempt import ObjectAttempt

_RENEW_INTERVAL = 1.0  # seconds between two looks at what running attempts have to show


class SignsOfLife:
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
                self._thread = threading.Thread(target=self._renew, name="fileupload-signs", daemon=True)
                self._thread.start()

    def end(self, attempt: ObjectAttempt) -> None:
        """Show no more of *attempt*; one that is being shown now is awaited, lest it come last."""
        with attempt.showing, self._lock:
            self._running.discard(attempt)

    def _renew(self) -> None:
        while True:
            time.sleep(_RENEW_INTERVAL)
            with self._lock:
                running = list(self._running)
            for attempt in running:
                with suppress(Exception), attempt.showing:
                    if attempt in self._running and not attempt.renew():
                        self._running.discard(attempt)
