"""A progress bar on the terminal, drawn by tqdm; without tqdm, or without a terminal, there is none."""

from __future__ import annotations

import sys
from typing import Any, Self, TextIO


class ProgressBar:
    """Progress bar of a transfer, with bytes, transfer rate and remaining time; removed at the end of its block.

    ::

        with ProgressBar() as bar:
            bar.expect(100)
            bar.advance(50)
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Draw on *stream* (standard error, if None), if it is a terminal."""
        stream = stream or sys.stderr
        self._bar: Any = None
        if stream.isatty():
            try:
                from tqdm import tqdm
            except ImportError:  # the extra [client] is not installed
                return
            self._bar = tqdm(total=0, unit="B", unit_scale=True, unit_divisor=1024, file=stream, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def expect(self, size: int) -> None:
        """Add *size* bytes to the total; a negative *size* reduces it."""
        if self._bar is not None:
            self._bar.total += size
            self._bar.refresh()

    def advance(self, size: int) -> None:
        """Count *size* more bytes as transferred."""
        if self._bar is not None:
            self._bar.update(size)
