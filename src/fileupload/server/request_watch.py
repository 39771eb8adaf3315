"""What the connection reaper knows of a request: whether it waits for its client, since when, and how long it may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import WSGIEnvironment

from fileupload.wsgi.watchdog import Wait


class RequestWatch:
    """What the reaper knows of one request; the :class:`~fileupload.wsgi.watchdog.Watch` in its environ.

    :ivar address: of the client.
    :ivar length: the bytes of the body that the client declared; None if it did not.
    :ivar wait: what it waits for, as far as the reader of the body tells; None where another reads it.
    :ivar rate: bytes a second below which the client is too slow, as the reader of the body tells; None before.
    :ivar reading_since: when its read began (monotonic); 0 outside of reads.
    :ivar working_since: when its last read was over, or it began.
    :ivar answering: whether its answer is being sent.
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
        """Watch *wait* from now on."""
        self.wait = wait
        if not wait.sending:
            self.rate = wait.rate

    def stop(self, wait: Wait) -> None:
        """Stop watching *wait*: it is over."""
        self.wait = None

    def end(self) -> bool:
        """Leave it to the server to end the connection after the answer."""
        return False


class TimedInput:
    """``wsgi.input`` that tells the request's watch since when a read waits."""

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
    """An answer that is sent piece by piece; the request is over when the server closes it."""

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
