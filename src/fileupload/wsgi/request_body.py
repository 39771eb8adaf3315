"""The reader of a request's body: bounded reads of ``wsgi.input``, their adaptive size, minimum rate and draining."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from wsgiref.types import WSGIEnvironment

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

log = logging.getLogger("fileupload")

MIN_READ = 4096  # bytes
MAX_READ = 96 << 10  # bytes
_LARGE_REMAINDER = 64 << 10  # bytes
# Seconds that one read should take. Servers block until a read is filled, so this limits how often progress appears.
_TARGET_READ_SECONDS = 0.1

# Limits for draining the body of a request without a valid identifier: seconds of a thread, and threads of a process.
UNTRUSTED_DRAIN_TIME = 1.0
_MAX_UNTRUSTED_DRAINS = 64
_untrusted_drains = threading.BoundedSemaphore(_MAX_UNTRUSTED_DRAINS)

BODY_KEY = "fileupload.body"  # key of the environ: a list with the request's BodyReaders, shared by copies of environ


@dataclass(frozen=True, kw_only=True)
class ServerTraits:
    """The behaviour of a WSGI server in reading bodies. The defaults hold for servers that are not in SERVERS.

    :ivar name: the start of its ``SERVER_SOFTWARE``.
    :ivar largest_read: the largest useful read, in bytes. gunicorn copies the rest of its buffer at each read. The
        others are fastest while a chunk stays in the processor's cache for the parser, the hash and the write; on
        granian, 96 KiB are as fast as 128, and keep an upload at full speed under 2 MiB of memory.
    :ivar buffers_bodies: whether it stores the whole body before it calls the app.
    :ivar detects_truncation: whether it reports that a chunked body broke off, by an error or by not calling the app;
        otherwise a truncated body looks like a complete one.
    :ivar lazy_100_continue: whether it sends ``100 Continue`` only when the body is first read.
    :ivar closes_unread: whether it closes the connection at the end of an answer, unless a thread reads the body then.
    :ivar hangs_on_http_2: whether a read over HTTP/2 never returns after the stream was reset or the connection closed.
    """

    name: str
    largest_read: int = MAX_READ
    buffers_bodies: bool = False
    detects_truncation: bool = False
    lazy_100_continue: bool = False
    closes_unread: bool = False
    hangs_on_http_2: bool = False


SERVERS = (
    ServerTraits(name="Granian", lazy_100_continue=True, closes_unread=True, hangs_on_http_2=True),
    ServerTraits(name="gunicorn", largest_read=1 << 20, detects_truncation=True),
    ServerTraits(name="waitress", buffers_bodies=True, detects_truncation=True),
    ServerTraits(name="Cheroot", detects_truncation=True),
    ServerTraits(name="gevent", detects_truncation=True, lazy_100_continue=True),
    ServerTraits(name="Werkzeug", detects_truncation=True),
)
_UNKNOWN_SERVER = ServerTraits(name="")


@lru_cache(maxsize=16)  # SERVER_SOFTWARE comes from the server, and so has few values
def traits_of(server_software: str) -> ServerTraits:
    """Return the traits of the server with this ``SERVER_SOFTWARE``."""
    return next((traits for traits in SERVERS if server_software.startswith(traits.name)), _UNKNOWN_SERVER)


class BodyReader:
    """Reads one body, never past its end, and records how much has arrived and when.

    :ivar length: the declared length in bytes, or None for a chunked body.
    :ivar received: the bytes read so far.
    :ivar now: the time (monotonic) of the last read's end.
    :ivar last_read_seconds: the seconds that the last read took.
    :ivar buffered: whether the server stored the whole body before it called the app.
    :ivar detects_truncation: whether a body that broke off raises an error, and so an end without one is its true end.
    :ivar trusted: whether the request has a valid identifier; without one, its body is drained for a second at most.
    """

    def __init__(
        self, environ: WSGIEnvironment, settings: Settings, *, unwanted: bool = False, required: bool = True
    ) -> None:
        """Check the headers of the body; nothing is read.

        :param unwanted: whether the body is only drained; then any Content-Encoding is accepted.
        :param required: whether a request that declares no body is refused; otherwise its body is empty.
        :raises InvalidLength, LengthRequired, UnsupportedRequest, HttpVersionNotSupported: the body cannot be read as
            it is declared.
        """
        traits = traits_of(str(environ.get("SERVER_SOFTWARE", "")))
        if traits.hangs_on_http_2 and str(environ.get("SERVER_PROTOCOL", "")).startswith("HTTP/2"):
            raise HttpVersionNotSupported
        self.length = _declared_length(environ, unwanted=unwanted, required=required)
        self.trusted = False
        self.received = 0
        self.now = time.monotonic()
        self.last_read_seconds = 0.0
        self._waited = 0.0  # seconds spent in reads
        self._first = b""  # the byte that wait_for_first_byte has read, and chunks has not yielded yet
        self._stream = environ["wsgi.input"]
        self._settings = settings
        self._ended = self.length == 0
        self._watch = watch_of(environ)
        self._idle_timeout = math.inf if settings.idle_timeout is None else settings.idle_timeout
        self._wait = Wait(rate=settings.min_rate, grace=settings.min_rate_grace)
        self._drainer: threading.Thread | None = None
        self._closes_unread = traits.closes_unread
        self._hidden = 0  # the value of the stream's ``remaining``, while it is set to 0; see prepare_to_drain
        # The window over which the rate is measured: the values of _waited and of received at its start.
        self._window_start = 0.0
        self._window_received = 0
        self.buffered = traits.buffers_bodies or "waitress.client_disconnected" in environ
        self.detects_truncation = self.length is not None or traits.detects_truncation
        # The client sends the body only after 100 Continue, and the first read would send that.
        self._awaits_continue = "HTTP_EXPECT" in environ and traits.lazy_100_continue
        self._largest = settings.read_size or traits.largest_read
        if (known := environ.get(BODY_KEY)) is not None:
            known.append(self)
        if self._watch is None and not self.buffered and not self._ended:
            _warn_of_unwatched_reads(str(environ.get("SERVER_SOFTWARE", "")))

    def wait_for_first_byte(self) -> bool:
        """Read one byte, which :meth:`chunks` yields before the others; return False if the body is empty.

        :raises Incomplete: the connection broke.
        :raises TooSlow: nothing arrived in time.
        """
        if not self.received:
            self._first = self._read(1)
        return self.received > 0

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield the body as it arrives, in chunks whose size adapts to the client's rate.

        :param limit: the maximum size of the body in bytes, or None.
        :raises Incomplete: the body broke off, or ended before its declared length.
        :raises TooLarge: the body is larger than *limit*.
        :raises TooSlow: the client stayed under ``min_rate`` for ``min_rate_grace`` seconds.
        """
        size = min(MIN_READ, self._largest)
        if not self._first:  # otherwise the rate includes the wait for the first byte
            self._window_start, self._window_received = self._waited, self.received
        while chunk := self._read_on(size):
            yield chunk
            if limit is not None and self.received > limit:
                raise TooLarge(f"The body is larger than the {format_size(limit)} that are allowed here.")
            size = self._next_size(size, len(chunk))
            # Only the time spent in reads counts: a disk that stalls is not the client's fault. The whole window
            # counts, not only the grace time: the last read may have lasted far longer.
            if (window := self._waited - self._window_start) >= self._settings.min_rate_grace:
                if self.received - self._window_received < self._settings.min_rate * window:
                    raise self._too_slow()
                self._window_start, self._window_received = self._waited, self.received

    def _read_on(self, size: int) -> bytes:
        """Return the next bytes; at the first call, with the byte of :meth:`wait_for_first_byte` before them."""
        if not self._first:
            return self._read(size)
        first, self._first = self._first, b""
        return first + self._read(max(1, size - 1))

    def _too_slow(self) -> TooSlow:
        if not self._settings.min_rate:
            return TooSlow(f"Nothing arrived for {self._idle_timeout:g} seconds.")
        return TooSlow(f"Fewer than {self._settings.min_rate} bytes a second arrived.")

    def _seconds_for(self, size: int) -> float:
        """Return the seconds after which a read of *size* bytes proves that the client is under the minimum rate."""
        rate, grace = self._settings.min_rate, self._settings.min_rate_grace
        if not rate:
            return math.inf
        in_window = max(grace, (self.received - self._window_received + size) / rate)
        # Bytes that arrived fast before do not extend the time of a read that stalls now.
        return max(0.0, min(max(grace, size / rate), in_window - (self._waited - self._window_start)))

    def _read(self, size: int, seconds: float | None = None) -> bytes:
        """Return the next bytes, at most *size*; none at the end.

        :param seconds: the timeout of the read, if the connection is known; by default from the minimum rate.
        :raises Incomplete: the body broke off, or ended before its declared length.
        :raises TooSlow: the watchdog has ended the read.
        """
        if self._ended:
            return b""
        wanted = size if self.length is None else min(size, self.length - self.received)
        before = time.monotonic()
        try:
            chunk = self._watched_read(wanted, self._seconds_for(wanted) if seconds is None else seconds)
        except Exception as error:  # each server raises its own exceptions for a client that has disconnected
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
        wait.begin(size=wanted, seconds=seconds, idle=self._idle_timeout)
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
            # The bytes received so far bound the growth: the first bytes are in the kernel's buffer already, and say
            # nothing about the rate of those that follow.
            size = min(size * 2, max(size, self.received // 4))
        return max(min(MIN_READ, self._largest), min(size, self._largest))

    @property
    def has_large_remainder(self) -> bool:
        """Return whether more than 64 KiB, or an unknown number of bytes, are still to be received."""
        return not self._ended and (self.length is None or self.length - self.received > _LARGE_REMAINDER)

    def reads(self, stream: object) -> bool:
        """Return whether this reader reads *stream*."""
        return self._stream is stream

    @property
    def finished(self) -> bool:
        """Return whether the body was read to its end, or broke off."""
        return self._ended

    def prepare_to_drain(self) -> None:
        """Prepare the server for an answer after which the body is drained; call this before the answer is sent.

        cheroot reads the whole rest of a body before it sends an answer's headers, so the rest is hidden from it.
        granian closes the connection at the end of an answer unless a read is in progress, and a client that still
        sends may then lose the answer; so a thread begins to read now.
        """
        if self._closes_unread:
            self._drainer = threading.Thread(target=self._drain_within_bounds, name="fileupload-drain", daemon=True)
            self._drainer.start()
        if isinstance(remaining := getattr(self._stream, "remaining", None), int) and not self._hidden:
            self._hidden, self._stream.remaining = remaining, 0

    def drain(self) -> None:
        """Read and discard the rest of a refused request's body, within limits, after the answer was sent.

        A server that closes a connection with unread bytes resets it, and the client may never read the answer
        (RFC 9112, 9.6). The body of a request without a valid identifier is drained for a second at most, and only
        where the watchdog can end a blocked read.
        """
        if self._hidden:
            self._stream.remaining, self._hidden = self._hidden, 0
        if self._drainer is not None:
            self._drainer.join()
        else:
            self._drain_within_bounds()

    def _drain_within_bounds(self) -> None:
        if self._ended or (self._awaits_continue and not self.received):
            return
        if self.trusted or self.buffered:
            self._drain(self._settings.drain_time)
        elif self._watch is not None and _untrusted_drains.acquire(blocking=False):
            try:
                self._drain(min(self._settings.drain_time, UNTRUSTED_DRAIN_TIME))
            finally:
                _untrusted_drains.release()
        if not self._ended and self._watch is not None and self._watch.end():
            # Some servers read the rest of a body themselves, without a time limit, or parse what is left in their
            # buffer as the next request. After the shutdown nothing more arrives; this empties the buffer.
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


@lru_cache(maxsize=16)  # warns once for each server
def _warn_of_unwatched_reads(server_software: str) -> None:
    log.warning(
        "the server %s does not expose its connections: a client that stops sending keeps its thread until the server"
        " itself ends the connection; see docs/deployment.txt",
        server_software or "that calls this app",
    )


def _declared_length(environ: WSGIEnvironment, *, unwanted: bool, required: bool) -> int | None:
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
        if not coding and not required:
            return 0  # RFC 9112, 6.3: a request without either header has no body
        raise LengthRequired("Send the length of the body as Content-Length; this server needs it.")
    return None


def unread_body(environ: WSGIEnvironment, settings: Settings) -> BodyReader | None:
    """Return the reader of an answered request's body; None if the body was read to its end, or cannot be read."""
    readers: list[BodyReader] = environ.get(BODY_KEY) or []
    announced = environ.get("CONTENT_LENGTH") not in {None, "", "0"} or "HTTP_TRANSFER_ENCODING" in environ
    if announced and not any(reader.reads(environ["wsgi.input"]) for reader in readers):
        with suppress(UploadError):
            readers = [*readers, BodyReader(environ, settings, unwanted=True)]
    return next((reader for reader in readers if not reader.finished), None)
