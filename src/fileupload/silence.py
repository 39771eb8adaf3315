"""Ends connections whose clients have fallen silent in the middle of a body.

granian, unlike other servers, waits for the next bytes of a body for ever: a laptop that was closed during an upload
would keep its thread, its attempt and its socket until the server is restarted. WSGI does not tell which socket a
request came by, but the kernel tells of each socket how long ago it last carried data (``TCP_INFO``), and we know
whether a read has waited that long. On systems without ``TCP_INFO`` nothing is ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from typing import Any

from fileupload.responses import Environ, WSGIApp

log = logging.getLogger("fileupload")

# Where struct tcp_info (linux/tcp.h) has the milliseconds since data was last sent, an ack, and data received.
_TIMES = struct.Struct("=44xIII")


class SilenceGuard:
    """A WSGI app around *app*, and a thread that watches how long its reads wait."""

    def __init__(self, app: WSGIApp, *, port: int, limit: float) -> None:
        """Watch the connections to *port* of this process; *limit* is the longest silence, in seconds."""
        self._app = app
        self._port = port
        self._limit = limit
        # For each thread that serves a request: since when it waits in a read, or (the other) for anything else.
        self.reading: dict[int, float] = {}
        self._working: dict[int, float] = {}
        threading.Thread(target=self._watch, name="fileupload-silence", daemon=True).start()

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        thread = threading.get_ident()
        environ["wsgi.input"] = _TimedInput(environ["wsgi.input"], self.reading, thread)
        self._working[thread] = time.monotonic()
        try:
            return self._app(environ, start_response)
        finally:
            del self._working[thread]

    def _watch(self) -> None:
        while True:
            time.sleep(self._limit / 4)
            try:
                self._end_silent()
            except Exception:
                log.exception("silent connections could not be looked for")

    def _end_silent(self) -> None:
        before = time.monotonic() - self._limit
        waiting = {thread for thread, since in list(self.reading.items()) if since < before}
        if not waiting:
            return
        # A client that waits for a long answer is as silent as one that has gone. While there is such a request,
        # the two cannot be told apart, and nothing is ended; the next look comes soon.
        if any(since < before and thread not in waiting for thread, since in list(self._working.items())):
            return
        ended = sum(1 for name in os.listdir("/proc/self/fd") if self._end_if_silent(int(name)))
        if ended:
            log.warning("%d connections ended whose clients were silent for %g seconds", ended, self._limit)

    def _end_if_silent(self, fd: int) -> bool:
        with contextlib.suppress(OSError):
            copy = os.dup(fd)
            try:
                connection = socket.socket(fileno=copy)
            except OSError:  # no socket
                os.close(copy)
                return False
            with connection:
                internet = connection.family in {socket.AF_INET, socket.AF_INET6}
                if not internet or connection.getsockname()[1] != self._port:
                    return False
                connection.getpeername()  # fails for one that only listens
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TIMES.size)
                sent, _, received = _TIMES.unpack(info)
                if min(sent, received) >= self._limit * 1000:
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
        return False


class _TimedInput:
    """``wsgi.input`` that notes since when a read waits."""

    def __init__(self, stream: Any, reading: dict[int, float], thread: int) -> None:
        self._read = stream.read
        self._stream = stream
        self._reading = reading
        self._thread = thread

    def read(self, *size: int) -> bytes:
        self._reading[self._thread] = time.monotonic()
        try:
            data: bytes = self._read(*size)
            return data
        finally:
            del self._reading[self._thread]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)
