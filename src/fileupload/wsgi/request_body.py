"""The body of a request: a bounded, adaptive reader of ``wsgi.input``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fileupload.errors import (
    HttpVersionNotSupported,
    Incomplete,
    InvalidLength,
    LengthRequired,
    TooLarge,
    TooSlow,
    UnsupportedRequest,
    UploadError,
)
from fileupload.formatting import format_size
from fileupload.settings import Settings
from fileupload.wsgi.headers import parse_length
from fileupload.wsgi.watchdog import Wait, watch_of

MIN_READ = 4096
_LARGE_REMAINDER = 64 << 10  # bytes
_TARGET_READ_SECONDS = (
    0.1  # seconds that one read should take: servers block until a read is filled, so it sets the progress
)

# The best largest read, by the start of SERVER_SOFTWARE. gunicorn copies what is left over at each read; the others do
# best while a chunk stays in the processor's cache for the parser, the hash and the write. On granian, 96 KiB are as
# fast as 128, and keep an upload at full speed under 2 MiB of memory.
MAX_READS = {"gunicorn": 1 << 20}
MAX_READ = 96 << 10

# Servers on which a read over HTTP/2 never returns once its stream was reset or its connection was closed.
_HANGS_ON_HTTP_2 = ("Granian",)

# Servers that close a connection with the end of an answer, unless a read of the body is under way then.
_CLOSES_WITHOUT_READER = ("Granian",)

# What a request without a valid identifier may cost after its answer: seconds of a thread, and threads of a process.
UNTRUSTED_DRAIN_TIME = 1.0
_MAX_UNTRUSTED_DRAINS = 64
_untrusted_drains = threading.BoundedSemaphore(_MAX_UNTRUSTED_DRAINS)

BODY_KEY = "fileupload.body"  # of the environ: the BodyReader of the request, in a list that copies of it share

# Servers that ask a client who expects it for the body (100 Continue) only when it is first read.
_ASK_LATE = ("Granian", "gevent")

# Servers that tell a chunked body that broke off from one that ended (by an error, or by never calling us).
# Of a server that is not here it is not known, or known to be otherwise (granian).
_TELLS_BROKEN_CHUNKS = ("gunicorn", "waitress", "Cheroot", "gevent", "Werkzeug")


class BodyReader:
    """Reads one body, never past its end, and knows how much came and when.

    :ivar length: the bytes that the client declared, or None for a chunked body.
    :ivar received: the bytes read so far.
    :ivar now: the time (monotonic) of the last read's end.
    :ivar last_read_seconds: the seconds that the last read took.
    :ivar buffered: True where the server has stored the whole body before it called us.
    :ivar end_is_certain: whether an end without an error is the true end of the body.
    :ivar trusted: whether the request has shown a valid identifier; else its body is not drained for long.
    """

    def __init__(self, environ: dict[str, Any], settings: Settings, *, unwanted: bool = False) -> None:
        """Look at the headers; nothing is read.

        :param unwanted: the body is only to be drained, whatever coding it has.
        :raises InvalidLength, LengthRequired, UnsupportedRequest, HttpVersionNotSupported: the body cannot be read as
            it is declared.
        """
        server = str(environ.get("SERVER_SOFTWARE", ""))
        if str(environ.get("SERVER_PROTOCOL", "")).startswith("HTTP/2") and server.startswith(_HANGS_ON_HTTP_2):
            raise HttpVersionNotSupported
        self.length = _declared_length(environ, unwanted=unwanted)
        self.trusted = False
        self.received = 0
        self.now = time.monotonic()
        self.last_read_seconds = 0.0
        self._waited = 0.0  # seconds spent in reads
        self._first = b""  # the byte that was awaited, and is not yet yielded
        self._stream = environ["wsgi.input"]
        self._settings = settings
        self._ended = self.length == 0
        self._watch = watch_of(environ)
        self._wait = Wait(rate=settings.min_rate, grace=settings.min_rate_grace)
        self._drainer: threading.Thread | None = None
        self._must_read_early = server.startswith(_CLOSES_WITHOUT_READER)
        self._hidden = 0  # bytes that the server must not know of for now
        self._window_start = 0.0  # of the time in reads over which the rate is measured, and the bytes until then
        self._window_received = 0
        self.buffered = "waitress.client_disconnected" in environ or server.startswith("waitress")
        self.end_is_certain = self.length is not None or server.startswith(_TELLS_BROKEN_CHUNKS)
        # To drain such a body would be to ask for it.
        self._not_asked_for = "HTTP_EXPECT" in environ and server.startswith(_ASK_LATE)
        self._largest = settings.read_size or next(
            (size for name, size in MAX_READS.items() if server.startswith(name)), MAX_READ
        )
        if (known := environ.get(BODY_KEY)) is not None:
            known.append(self)

    def wait_for_first_byte(self) -> bool:
        """Read one byte, which :meth:`chunks` yields before the others; False if the body ended without one.

        :raises Incomplete: the connection broke.
        """
        if not self.received:
            self._first = self._read(1)
        return self.received > 0

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield the body as it comes.

        :param limit: the most bytes it may have.
        :raises Incomplete: it broke off, or ended before its declared length.
        :raises TooLarge: it has more bytes than *limit*.
        :raises TooSlow: the client stayed under ``min_rate`` for ``min_rate_grace`` seconds.
        """
        size = min(MIN_READ, self._largest)
        if not self._first:  # else the wait for the first byte counts, too
            self._window_start, self._window_received = self._waited, self.received
        while chunk := self._read_on(size):
            yield chunk
            if limit is not None and self.received > limit:
                raise TooLarge(f"The body has more than the {format_size(limit)} that are possible here.")
            size = self._next_size(size, len(chunk))
            # Only the time spent in reads counts: a disk that stalls is not the client's fault. And all of it does,
            # since the last read may have gone far past the grace time.
            if (window := self._waited - self._window_start) >= self._settings.min_rate_grace:
                if self.received - self._window_received < self._settings.min_rate * window:
                    raise self._too_slow()
                self._window_start, self._window_received = self._waited, self.received

    def _read_on(self, size: int) -> bytes:
        """Return the next bytes, the first time together with the byte that was awaited."""
        if not self._first:
            return self._read(size)
        first, self._first = self._first, b""
        return first + self._read(max(1, size - 1))

    def _too_slow(self) -> TooSlow:
        if not self._settings.min_rate:
            return TooSlow(f"Nothing arrived for {self._settings.idle_timeout:g} seconds.")
        return TooSlow(f"Fewer than {self._settings.min_rate} bytes a second arrived.")

    def _seconds_for(self, size: int) -> float:
        """Return how long a read of *size* bytes may take before the client is too slow, whatever then came of them."""
        rate, grace = self._settings.min_rate, self._settings.min_rate_grace
        if not rate:
            return math.inf
        in_window = max(grace, (self.received - self._window_received + size) / rate)
        # What came fast before does not excuse a read that comes to a halt now.
        return max(0.0, min(max(grace, size / rate), in_window - (self._waited - self._window_start)))

    def _read(self, size: int, seconds: float | None = None) -> bytes:
        """Return the next bytes, at most *size*, and none at the end.

        :param seconds: after which the read ends, where the connection is known; by default, the client's least rate.
        """
        if self._ended:
            return b""
        wanted = size if self.length is None else min(size, self.length - self.received)
        before = time.monotonic()
        try:
            chunk = self._watched_read(wanted, self._seconds_for(wanted) if seconds is None else seconds)
        except Exception as error:  # each server has errors of its own for a client that is gone
            self._ended = True
            if self._wait.expired or self._wait.suspected:
                raise self._too_slow() from error
            raise Incomplete(f"The connection broke after {self.received} bytes.") from error
        self.now = time.monotonic()
        self.last_read_seconds = self.now - before
        self._waited += self.last_read_seconds
        self.received += len(chunk)
        self._ended = not chunk or self.received == self.length
        if self._wait.expired and len(chunk) < wanted:
            self._ended = True
            raise self._too_slow()
        if not chunk and self.length is not None:
            if self._wait.suspected:
                raise self._too_slow()
            raise Incomplete(f"The body ended after {self.received} of {self.length} bytes.")
        # The connection that was ended for this read may have been that of another one, which was as slow.
        self._wait.expired = self._wait.suspected = False
        return chunk

    def _watched_read(self, wanted: int, seconds: float) -> bytes:
        watch, wait = self._watch, self._wait
        if watch is None:
            chunk: bytes = self._stream.read(wanted)
            return chunk
        wait.begin(size=wanted, seconds=seconds, idle=self._settings.idle_timeout or math.inf)
        watch.start(wait)
        try:
            chunk = self._stream.read(wanted)
        finally:
            watch.stop(wait)
        return chunk

    def _next_size(self, size: int, got: int) -> int:
        if self.last_read_seconds > _TARGET_READ_SECONDS:
            size = int(got * _TARGET_READ_SECONDS / self.last_read_seconds)
        elif self.last_read_seconds < _TARGET_READ_SECONDS / 4:
            # What has come so far bounds the growth: the first bytes lie ready in the kernel, and tell nothing
            # of the pace of those that follow.
            size = min(size * 2, max(size, self.received // 4))
        return max(min(MIN_READ, self._largest), min(size, self._largest))

    @property
    def has_large_remainder(self) -> bool:
        """Whether so much is still to come that it takes a while."""
        return not self._ended and (self.length is None or self.length - self.received > _LARGE_REMAINDER)

    def reads(self, stream: object) -> bool:
        """Tell whether *stream* is what this reads."""
        return self._stream is stream

    @property
    def finished(self) -> bool:
        """Whether nothing of the body is left."""
        return self._ended

    def prepare_to_drain(self) -> None:
        """Prepare the server for an answer behind which the body is drained; it is about to be sent.

        From cheroot, what is left of the body is hidden: it would read all of it before it sends the answer's head.
        On granian a thread begins to read now: where no read is under way when the answer ends, it closes the
        connection, and the client, which still sends, may lose the answer.
        """
        if self._must_read_early:
            self._drainer = threading.Thread(target=self._drain_within_bounds, name="fileupload-drain", daemon=True)
            self._drainer.start()
        if isinstance(remaining := getattr(self._stream, "remaining", None), int) and not self._hidden:
            self._hidden, self._stream.remaining = remaining, 0

    def drain(self) -> None:
        """Read on, within bounds, what a refused client still sends, once the answer is on its way.

        A server that closes a connection with unread bytes resets it, and the client may never see the answer
        (RFC 9112, 9.6). A request without a valid identifier gets a second at most, and only where a blocked read can
        be ended.
        """
        if self._hidden:
            self._stream.remaining, self._hidden = self._hidden, 0
        if self._drainer is not None:
            self._drainer.join()
        else:
            self._drain_within_bounds()

    def _drain_within_bounds(self) -> None:
        if self._ended or (self._not_asked_for and not self.received):
            return
        if self.trusted or self.buffered:
            self._drain(self._settings.drain_time)
        elif self._watch is not None and _untrusted_drains.acquire(blocking=False):
            try:
                self._drain(min(self._settings.drain_time, UNTRUSTED_DRAIN_TIME))
            finally:
                _untrusted_drains.release()
        if not self._ended and self._watch is not None and self._watch.end():
            # Some servers read what is left by themselves, for as long as the client likes, or take what lies in a
            # buffer of theirs for the next request. After the end of the connection no more than that can come.
            with suppress(Exception):
                while self._stream.read(64 << 10):
                    pass

    def _drain(self, seconds: float) -> None:
        self._wait.draining_since = time.monotonic()
        deadline = self._wait.draining_since + seconds
        left = self._settings.drain_size
        with suppress(Incomplete, TooSlow):
            while left > 0 and (rest := deadline - time.monotonic()) > 0:
                chunk = self._read(
                    min(left, 64 << 10 if self.last_read_seconds < _TARGET_READ_SECONDS else MIN_READ), rest
                )
                if not chunk:
                    return
                left -= len(chunk)


def _declared_length(environ: dict[str, Any], *, unwanted: bool) -> int | None:
    coding = environ.get("HTTP_TRANSFER_ENCODING", "")
    length = environ.get("CONTENT_LENGTH", "")
    if not unwanted and environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() != "identity":
        raise UnsupportedRequest("A compressed body (Content-Encoding) is not accepted; send the file as it is.")
    if length and coding:
        raise InvalidLength("Content-Length and Transfer-Encoding cannot both be given (RFC 9112, 6.1).")
    if length:
        try:
            return parse_length(length)
        except ValueError:
            raise InvalidLength("Content-Length must be 1 to 19 ASCII digits.") from None
    if coding and coding.strip().lower() != "chunked":
        raise InvalidLength("Transfer-Encoding can only be chunked.")
    if not environ.get("wsgi.input_terminated"):
        raise LengthRequired("Send the length of the body as Content-Length; this server cannot do without.")
    return None


def unread_body(environ: dict[str, Any], settings: Settings) -> BodyReader | None:
    """Return what reads the body of a request that was answered; None if nothing of it is left, or can be read."""
    readers: list[BodyReader] = environ.get(BODY_KEY) or []
    announced = environ.get("CONTENT_LENGTH") not in {None, "", "0"} or "HTTP_TRANSFER_ENCODING" in environ
    if announced and not any(reader.reads(environ["wsgi.input"]) for reader in readers):
        with suppress(UploadError):
            readers = [*readers, BodyReader(environ, settings, unwanted=True)]
    return next((reader for reader in readers if not reader.finished), None)
