"""The time of day as this process sees it, which a test can move on instead of waiting."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from fileupload.pool.s3 import store as s3_store


class Clock:
    """Runs ahead of the real clock, by what a test has added; also for the ages that object stores tell.

    Other processes, ``time.monotonic`` and what boto3 signs keep the real time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the clock until *monkeypatch* ends."""
        self._ahead = 0.0  # seconds
        real_time, real_time_ns, time_of_store = time.time, time.time_ns, s3_store._time_of

        def time_of(answer: dict[str, Any]) -> datetime:
            return time_of_store(answer) + timedelta(seconds=self._ahead)

        monkeypatch.setattr(time, "time", lambda: real_time() + self._ahead)
        monkeypatch.setattr(time, "time_ns", lambda: real_time_ns() + int(self._ahead * 1e9))
        monkeypatch.setattr(s3_store, "_time_of", time_of)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._ahead += seconds
