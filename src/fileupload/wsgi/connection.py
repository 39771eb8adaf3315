"""The TCP connection of a WSGI request: its socket, the kernel's byte counters, and its shutdown.

WSGI defines no access to the connection of a request (PEP 3333). With most servers the socket can be reached
nevertheless, by a key that the server adds to the environ, or through the file object in ``wsgi.input``. granian
exposes nothing; ``fileupload serve`` finds its connections in another way (see ``connection_reaper``).
"""

from __future__ import annotations

import _socket
import importlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from wsgiref.types import WSGIEnvironment

# The class of the C module: gevent replaces socket.socket, and its sockets must not be used by another thread.
KernelSocket = _socket.socket

HAS_COUNTERS = hasattr(socket, "TCP_INFO")

# Keys of the environ under which servers expose the socket of a request.
_ENVIRON_KEYS = ("gunicorn.socket", "werkzeug.socket")
# Attributes that lead from ``wsgi.input`` to the socket: cheroot wraps a buffered reader in ``rfile``, wsgiref gives
# the reader itself, gevent has a reader and, until 100 Continue was sent, the socket.
_STREAM_ATTRIBUTES = ("rfile", "raw", "_sock")
_MAX_STEPS = 8
_NO_LINGERING = struct.pack("ii", 1, 0)  # close() discards unsent data, and resets the connection

# Fields of struct tcp_info (linux/tcp.h): state; segments not acknowledged; milliseconds since data was last sent and
# received; bytes acknowledged, bytes received, bytes not sent yet.
_STATE = struct.Struct("=B")
_UNACKNOWLEDGED = struct.Struct("=24xI")
_TIMES = struct.Struct("=44xI4xI")
_BYTES = struct.Struct("=120xQQ8xI")
_TCP_INFO_SIZE = 148


class Counters(NamedTuple):
    """The kernel's counters of one connection.

    :ivar received: bytes that have arrived so far.
    :ivar acknowledged: bytes that the peer has acknowledged so far.
    :ivar pending: whether bytes are not sent yet, or not acknowledged.
    :ivar since_received: seconds since data last arrived.
    :ivar since_sent: seconds since data was last sent.
    """

    received: int
    acknowledged: int
    pending: bool
    since_received: float
    since_sent: float


def socket_of(environ: WSGIEnvironment) -> Any:
    """Return the socket of a request, or None if the server does not expose it."""
    for key in _ENVIRON_KEYS:
        if (found := environ.get(key)) is not None:
            return found
    if "uwsgi.version" in environ:
        return _uwsgi_socket()
    stream: Any = environ.get("wsgi.input")
    for _ in range(_MAX_STEPS):
        if stream is None or hasattr(stream, "getsockopt"):
            return stream
        stream = next((each for name in _STREAM_ATTRIBUTES if (each := getattr(stream, name, None)) is not None), None)
    return None


def _uwsgi_socket() -> Any:
    try:
        return _Descriptor(importlib.import_module("uwsgi").connection_fd())  # the module exists only inside uWSGI
    except (ImportError, AttributeError):
        return None


class _Descriptor:
    """A socket of which only the descriptor is known."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def counters_of(sock: Any) -> Counters | None:
    """Return the kernel's counters of the connection of *sock*; None if it has none, or the socket is closed."""
    if not HAS_COUNTERS:
        return None
    try:
        with duplicate(sock.fileno()) as copy:
            return read_counters(copy)
    except OSError:
        return None


def read_counters(sock: KernelSocket) -> Counters | None:
    """Return the kernel's counters of *sock*; None if this kernel does not have all of them.

    :raises OSError: *sock* is no TCP connection.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _TCP_INFO_SIZE:
        return None
    (unacknowledged,) = _UNACKNOWLEDGED.unpack_from(info)
    sent, received = _TIMES.unpack_from(info)
    acknowledged_bytes, received_bytes, unsent = _BYTES.unpack_from(info)
    return Counters(received_bytes, acknowledged_bytes, bool(unacknowledged or unsent), received / 1000, sent / 1000)


def end_connection(sock: Any, how: int, *, discard: bool = False) -> bool:
    """Shut down the connection of *sock*, also if a thread or greenlet is blocked in it.

    A blocked read then returns the bytes that have arrived. After ``SHUT_RD`` an answer can still be sent.

    :param how: as for :meth:`socket.socket.shutdown`.
    :param discard: drop the data that the peer has not received; otherwise the kernel retransmits it for minutes.
    :return: False if the connection is closed already.
    """
    with suppress(OSError), duplicate(sock.fileno()) as copy:
        shut_down(copy, how, discard=discard)
        return True
    return False


def shut_down(sock: KernelSocket, how: int, *, discard: bool) -> None:
    """Shut down the connection of *sock*, for all descriptors that refer to it.

    :raises OSError: the connection is shut down already.
    """
    if discard:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    sock.shutdown(how)


@contextmanager
def duplicate(fd: int) -> Iterator[KernelSocket]:
    """Yield a second socket for the connection of *fd*, and close it at the end.

    The duplicate stays valid if the server closes *fd* meanwhile, whose number another connection may then get.

    :raises OSError: *fd* is closed, or is no socket.
    """
    copy = os.dup(fd)
    try:
        opened = KernelSocket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    try:
        yield opened
    finally:
        opened.close()
