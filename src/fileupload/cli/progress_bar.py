"""A line on the terminal that tells how far a transfer is; where there is no terminal, nothing."""

from __future__ import annotations

import math
import shutil
import sys
import time
from typing import Self, TextIO

from fileupload.formatting import format_duration, format_size

_INTERVAL = 0.1  # seconds between two drawings
_WIDTH = 20  # characters of the bar


class ProgressBar:
    """Counts bytes, and draws a bar, the speed and the time that is left; gone with the end of its ``with`` block."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Draw on *stream* (standard error, if None)."""
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._begun = time.monotonic()
        self._drawn = -math.inf
        self._done = self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._write("")

    def expect(self, size: int) -> None:
        """Let *size* more bytes, or fewer if it is negative, be part of the whole."""
        self._total += size

    def advance(self, size: int) -> None:
        """Count *size* bytes as done."""
        self._done += size
        now = time.monotonic()
        if self._shown and now - self._drawn >= _INTERVAL:
            self._drawn = now
            self._write(describe_progress(self._done, self._total, now - self._begun))

    def _write(self, line: str) -> None:
        columns = shutil.get_terminal_size().columns
        self._stream.write("\r" + line[: columns - 1] + "\x1b[K")
        self._stream.flush()


def describe_progress(done: int, total: int, seconds: float) -> str:
    """Return in a line how far *done* of *total* bytes is after *seconds*."""
    share = min(1.0, done / total) if total > 0 else 0.0
    speed = done / seconds if seconds > 0 else 0.0
    left = format_duration((total - done) / speed) + " left" if speed and total > done else ""
    bar = ("#" * int(share * _WIDTH)).ljust(_WIDTH, ".")
    amount = f"{format_size(done)} of {format_size(total)}"
    return f"{share:4.0%} [{bar}] {amount}, {format_size(int(speed))}/s {left}".rstrip()
