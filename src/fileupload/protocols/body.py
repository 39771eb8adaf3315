"""The body of a request: a bounded, adaptive reader of ``wsgi.input``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fileupload.errors import Incomplete, InvalidLength, LengthRequired, TooLarge, TooSlow, UnsupportedRequest
from fileupload.protocols.headers import parse_length
from fileupload.settings import Settings, size_text

SMALLEST_READ = 4096
_A_WHILE = 64 << 10  # bytes
_PACE = 0.1  # seconds that one read should take: servers block until a read is filled, so it sets the progress

# The best largest read, by the start of SERVER_SOFTWARE. gunicorn copies what is left over at each read; the others do
# best while a chunk stays in the processor's cache for the parser, the hash and the write. On granian, 96 KiB are as
# fast as 128, and keep an upload at full speed under 2 MiB of memory.
LARGEST_READS = {"gunicorn": 1 << 20}
LARGEST_READ = 96 << 10

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
    :ivar pace: the seconds that the last read took.
    :ivar buffered: True where the server has stored the whole body before it called us.
    :ivar end_is_certain: whether an end without an error is the true end of the body.
    """

    def __init__(self, environ: dict[str, Any], settings: Settings) -> None:
        """Look at the headers; nothing is read.

        :raises InvalidLength, LengthRequired, UnsupportedRequest: the body cannot be read as it is declared.
        """
        self.length = _declared_length(environ)
        self.received = 0
        self.now = time.monotonic()
        self.pace = 0.0
        self._waited = 0.0  # seconds spent in reads
        self._first = b""  # the byte that was awaited, and is not yet yielded
        self._stream = environ["wsgi.input"]
        self._settings = settings
        self._ended = self.length == 0
        server = str(environ.get("SERVER_SOFTWARE", ""))
        self.buffered = "waitress.client_disconnected" in environ or server.startswith("waitress")
        self.end_is_certain = self.length is not None or server.startswith(_TELLS_BROKEN_CHUNKS)
        # To drain such a body would be to ask for it.
        self._not_asked_for = "HTTP_EXPECT" in environ and server.startswith(_ASK_LATE)
        self._largest = settings.read_size or next(
            (size for name, size in LARGEST_READS.items() if server.startswith(name)), LARGEST_READ
        )

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
        size = min(SMALLEST_READ, self._largest)
        # The wait for the first byte counts, too.
        window_start, window_received = 0.0 if self._first else self._waited, 0
        while chunk := self._read_on(size):
            yield chunk
            if limit is not None and self.received > limit:
                raise TooLarge(f"The body has more than the {size_text(limit)} that are possible here.")
            size = self._next_size(size, len(chunk))
            # Only the time spent in reads counts: a disk that stalls is not the client's fault. And all of it does,
            # since the last read may have gone far past the grace time.
            if (window := self._waited - window_start) >= self._settings.min_rate_grace:
                if self.received - window_received < self._settings.min_rate * window:
                    raise TooSlow(f"Fewer than {self._settings.min_rate} bytes a second arrived.")
                window_start, window_received = self._waited, self.received

    def _read_on(self, size: int) -> bytes:
        """Return the next bytes, the first time together with the byte that was awaited."""
        if not self._first:
            return self._read(size)
        first, self._first = self._first, b""
        return first + self._read(max(1, size - 1))

    def _read(self, size: int) -> bytes:
        """Return the next bytes, at most *size*, and none at the end."""
        if self._ended:
            return b""
        wanted = size if self.length is None else min(size, self.length - self.received)
        before = time.monotonic()
        try:
            chunk: bytes = self._stream.read(wanted)
        except Exception as error:  # each server has errors of its own for a client that is gone
            self._ended = True
            raise Incomplete(f"The connection broke after {self.received} bytes.") from error
        self.now = time.monotonic()
        self.pace = self.now - before
        self._waited += self.pace
        self.received += len(chunk)
        self._ended = not chunk or self.received == self.length
        if not chunk and self.length is not None:
            raise Incomplete(f"The body ended after {self.received} of {self.length} bytes.")
        return chunk

    def _next_size(self, size: int, got: int) -> int:
        if self.pace > _PACE:
            size = int(got * _PACE / self.pace)
        elif self.pace < _PACE / 4:
            # What has come so far bounds the growth: the first bytes lie ready in the kernel, and tell nothing
            # of the pace of those that follow.
            size = min(size * 2, max(size, self.received // 4))
        return max(min(SMALLEST_READ, self._largest), min(size, self._largest))

    @property
    def expects_more(self) -> bool:
        """Whether so much is still to come that it takes a while."""
        return not self._ended and (self.length is None or self.length - self.received > _A_WHILE)

    def drain(self) -> None:
        """Read on, within bounds, what a refused client still sends: else it may never see the answer.

        A server that closes a connection with unread bytes resets it, and the answer is lost on the way.
        """
        if self._not_asked_for and not self.received:
            return
        deadline = time.monotonic() + self._settings.drain_time
        left = self._settings.drain_size
        try:
            while left > 0 and time.monotonic() < deadline:
                chunk = self._read(min(left, 64 << 10 if self.pace < _PACE else SMALLEST_READ))
                if not chunk:
                    return
                left -= len(chunk)
        except Incomplete:
            return


def _declared_length(environ: dict[str, Any]) -> int | None:
    coding = environ.get("HTTP_TRANSFER_ENCODING", "")
    length = environ.get("CONTENT_LENGTH", "")
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() != "identity":
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
