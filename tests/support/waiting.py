"""Waiting for an event in other processes and threads, with a long time limit, since slowness is not a failure."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120  # seconds after which an expected event counts as missing


def wait_until(holds: Callable[[], object], problem: Callable[[], str] = lambda: "it did not come to pass") -> None:
    """Wait until *holds* returns something true; else fail with the text that *problem* returns."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.01)
