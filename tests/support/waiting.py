"""Waiting for what other processes and threads do: for the event itself, and for long, since to be slow is no fault."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120  # seconds after which what should happen has not happened


def wait_until(holds: Callable[[], object], problem: Callable[[], str] = lambda: "it did not come to pass") -> None:
    """Wait until *holds* returns something true; else fail with what *problem* then returns."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.01)
