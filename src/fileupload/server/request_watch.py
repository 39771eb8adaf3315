"""Timing of a request for the connection reaper: whether it waits for its client, since when, and its deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import WSGIEnvironment

from fileupload.wsgi.watchdog import Wait


class RequestWatch:
    """Timing of one request; the :class:`~fileupload.wsgi.watchdog.Watch` in its environ.

    :ivar address: IP address of the client.
    :ivar length: declared length of the body in bytes; None if the body is chunked.
    :ivar wait: the current wait of the body reader, with its limits; None if other code reads the body.
    :ivar rate: minimum transfer rate in bytes per second, from the last wait of the body reader; None before the first.
    :ivar reading_since: monotonic time at which the current read began; 0 outside of reads.
    :ivar working_since: monotonic time at which the last read ended, or the request began.
    :ivar answering: True while the answer is sent.
    """

    __slots__ = ("address", "answering", "length", "rate", "reading_since", "wait", "working_since")

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.address = str(environ.get("REMOTE_ADDR", ""))
        length = environ.get("CONTENT_LENGTH", "")
        self.length = int(length) if length.isdigit() and len(length) < 20 else None
        if self.length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            self.length = 0
        self.wait: Wait | None = None
        self.rate: int | None = None
        self.reading_since = 0.0
        self.working_since = time.monotonic()
        self.answering = False

    def start(self, wait: Wait) -> None:
        """Record that the body reader waits for the client, with the limits of *wait*."""
        self.wait = wait
        if not wait.sending:
            self.rate = wait.rate

    def stop(self, wait: Wait) -> None:
        """Record that *wait* is over."""
        self.wait = None

    def end(self) -> bool:
        """Return False: the connection of the request is unknown here, and the server closes it after the answer."""
        return False


class TimedInput:
    """Wrapper of ``wsgi.input`` that records the time of each read in the watch of the request."""

    def __init__(self, stream: Any, watch: RequestWatch) -> None:
        self._read = stream.read
        self._stream = stream
        self._watch = watch

    def read(self, *size: int) -> bytes:
        data: bytes = self._timed(self._read, *size)
        return data

    def readline(self, *size: int) -> bytes:
        line: bytes = self._timed(self._stream.readline, *size)
        return line

    def readlines(self, *hint: int) -> list[bytes]:
        lines: list[bytes] = self._timed(self._stream.readlines, *hint)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _timed(self, read: Callable[..., Any], *size: int) -> Any:
        watch = self._watch
        watch.reading_since = time.monotonic()
        try:
            return read(*size)
        finally:
            watch.reading_since = 0.0
            watch.working_since = time.monotonic()


class TimedAnswer:
    """Wrapper of a streamed answer that calls *end* when the server closes it."""

    def __init__(self, pieces: Iterable[bytes], end: Callable[[], object]) -> None:
        self._pieces = pieces
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        try:
            if (close := getattr(self._pieces, "close", None)) is not None:
                close()
        finally:
            self._end()
