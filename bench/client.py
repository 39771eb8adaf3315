"""An HTTP client with little overhead, since it shares the processors with the server that it measures.

Bodies are sent with ``sendall`` from one block in memory. (``sendfile`` saves the client nothing here, and makes
reading more expensive for the servers, since it passes single pages to the kernel.)
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

BLOCK = 1 << 20
_PATIENCE = 120  # seconds without any progress


class RequestFailedError(Exception):
    """The server did not answer as expected."""


@dataclass(frozen=True)
class Answer:
    """A response: its status and body, and the seconds from the first byte sent to the last received."""

    status: int
    body: bytes
    seconds: float


@dataclass(frozen=True)
class Content:
    """A file of *size* random bytes, which repeat after a block."""

    size: int
    block: bytes = field(default_factory=lambda: os.urandom(BLOCK), repr=False)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the content, block by block."""
        view = memoryview(self.block)
        for _ in range(self.size // BLOCK):
            yield view
        if rest := self.size % BLOCK:
            yield view[:rest]


@dataclass(frozen=True)
class Body:
    """The body of a request: the content, plain or as the file of a form."""

    content: Content
    multipart: bool
    filename: str = "random.bin"

    @cached_property
    def boundary(self) -> str:
        """Return a boundary like those of Chromium."""
        return "----WebKitFormBoundary" + secrets.token_hex(8)

    @cached_property
    def prefix(self) -> bytes:
        """Return the bytes before the content."""
        if not self.multipart:
            return b""
        return (
            f"--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{self.filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()

    @cached_property
    def suffix(self) -> bytes:
        """Return the bytes after the content."""
        return f"\r\n--{self.boundary}--\r\n".encode() if self.multipart else b""

    def __len__(self) -> int:
        return len(self.prefix) + self.content.size + len(self.suffix)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the whole body."""
        yield self.prefix
        yield from self.content.pieces()
        yield self.suffix

    def head(self, method: str, target: str) -> bytes:
        """Return the head of the request that carries this body."""
        kind = f"multipart/form-data; boundary={self.boundary}" if self.multipart else "application/octet-stream"
        return (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(self)}\r\n\r\n"
        ).encode()


class Connection:
    """One connection to a server on this machine, for consecutive requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        # A socket with a timeout set by Python polls before each call; the kernel's timeout costs nothing.
        self.socket.settimeout(None)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _PATIENCE, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def upload(self, method: str, target: str, body: Body) -> Answer:
        """Send *body* and return the answer, which must be a success."""
        begun = time.perf_counter()
        try:
            self.socket.sendall(body.head(method, target) + body.prefix)
            for piece in body.content.pieces():
                self.socket.sendall(piece)
            self.socket.sendall(body.suffix)
            return self.receive(begun)
        except OSError as error:
            raise RequestFailedError(f"{method} broke off: {error}") from error

    def request(self, method: str, target: str, allowed: Container[int] = ()) -> Answer:
        """Send a request without a body and return the answer: a success, or one of the *allowed* statuses."""
        begun = time.perf_counter()
        self.socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return self.receive(begun, allowed)

    def receive(self, begun: float, allowed: Container[int] = ()) -> Answer:
        """Read one answer: a success, or one of the *allowed* statuses."""
        reader = AnswerReader()
        while not reader.feed(self.socket.recv(65536)):
            pass
        return reader.answer(time.perf_counter() - begun, allowed)


class AnswerReader:
    """Parses the bytes of one answer as they arrive; supports Content-Length, chunks, and the end of the connection."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> bool:
        """Process *data*, which is empty at the end of the connection; return whether the answer is complete."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            if not data:
                raise RequestFailedError("the connection was closed without an answer")
            return False
        headers = head.lower()
        if b"\r\ntransfer-encoding: chunked" in headers:
            return body.endswith(b"0\r\n\r\n") or not data
        _, found, length = headers.partition(b"\r\ncontent-length:")
        if found:
            return len(body) >= int(length.split(b"\r\n", 1)[0]) or not data
        return head.split(b" ", 2)[1] == b"204" or not data

    def answer(self, seconds: float, allowed: Container[int] = ()) -> Answer:
        """Return the answer, which took *seconds*.

        :raises RequestFailedError: it is neither a success nor one of the *allowed* statuses.
        """
        head, _, body = self._data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if not 200 <= status < 300 and status not in allowed:
            raise RequestFailedError(f"answered {head.splitlines()[0].decode()}: {body[:300]!r}")
        return Answer(status, body, seconds)
