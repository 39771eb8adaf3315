"""The time of day in this process, which a test can advance instead of waiting."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from fileupload.pool.s3 import store as s3_store


class Clock:
    """A clock ahead of the real one by the time that a test has added; it also shifts the ages of stored objects.

    Other processes, ``time.monotonic`` and boto3's signatures keep the real time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace the clock until *monkeypatch* ends."""
        self._ahead = 0.0  # seconds
        real_time, real_time_ns, time_of_store = time.time, time.time_ns, s3_store._time_of

        def time_of(answer: dict[str, Any]) -> datetime:
            return time_of_store(answer) + timedelta(seconds=self._ahead)

        monkeypatch.setattr(time, "time", lambda: real_time() + self._ahead)
        monkeypatch.setattr(time, "time_ns", lambda: real_time_ns() + int(self._ahead * 1e9))
        monkeypatch.setattr(s3_store, "_time_of", time_of)

    def advance(self, seconds: float) -> None:
        """Advance the clock by this number of seconds."""
        self._ahead += seconds
