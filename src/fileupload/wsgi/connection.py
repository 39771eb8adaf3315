"""The TCP connection behind a WSGI request: found where the server shows it, measured and ended by the kernel.

WSGI has no name for the connection of a request (PEP 3333). Most servers let it be reached all the same, by a key of
the environ of their own or through the file object that they give as ``wsgi.input``. granian shows nothing;
``fileupload serve`` finds its connections in another way (see ``connection_reaper``).
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

# The C class. gevent replaces socket.socket, and its sockets must not be used by another thread than their own.
KernelSocket = _socket.socket

HAS_COUNTERS = hasattr(socket, "TCP_INFO")

# Keys of the environ in which servers keep the socket of a request.
_ENVIRON_KEYS = ("gunicorn.socket", "werkzeug.socket")
# From ``wsgi.input`` to its socket: cheroot wraps a buffered reader in ``rfile``, wsgiref gives the reader itself,
# gevent has both a reader and, until 100 Continue was sent, the socket.
_STREAM_ATTRIBUTES = ("rfile", "raw", "_sock")
_MAX_STEPS = 8
_NO_LINGERING = struct.pack("ii", 1, 0)  # close() discards what is not sent, and resets the connection

# struct tcp_info (linux/tcp.h): state; milliseconds since data was last sent and received; bytes acknowledged and
# received; bytes that the peer has not taken yet.
_STATE = struct.Struct("=B")
_UNACKNOWLEDGED = struct.Struct("=24xI")
_TIMES = struct.Struct("=44xI4xI")
_BYTES = struct.Struct("=120xQQ8xI")
_TCP_INFO_SIZE = 148


class Counters(NamedTuple):
    """What the kernel counts for one connection.

    :ivar received: bytes that have arrived, in all.
    :ivar acknowledged: bytes that the peer has acknowledged, in all.
    :ivar pending: whether bytes are still to be sent, or to be acknowledged.
    :ivar since_received: seconds since data last arrived.
    :ivar since_sent: seconds since data was last sent.
    """

    received: int
    acknowledged: int
    pending: bool
    since_received: float
    since_sent: float


def socket_of(environ: dict[str, Any]) -> Any:
    """Return the socket of a request, or None where the server does not show it."""
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
        return _Descriptor(importlib.import_module("uwsgi").connection_fd())  # exists only inside of uWSGI
    except (ImportError, AttributeError):
        return None


class _Descriptor:
    """A socket of which only the descriptor is known."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def counters_of(sock: Any) -> Counters | None:
    """Return what the kernel counts for the connection of *sock*; None where it does not count, or has closed it."""
    if not HAS_COUNTERS:
        return None
    try:
        with duplicate(sock.fileno()) as copy:
            return read_counters(copy)
    except OSError:
        return None


def read_counters(sock: KernelSocket) -> Counters | None:
    """Return what the kernel counts for *sock*; None where the kernel tells less than is needed.

    :raises OSError: it is no TCP connection.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _TCP_INFO_SIZE:
        return None
    (unacknowledged,) = _UNACKNOWLEDGED.unpack_from(info)
    sent, received = _TIMES.unpack_from(info)
    acknowledged_bytes, received_bytes, unsent = _BYTES.unpack_from(info)
    return Counters(received_bytes, acknowledged_bytes, bool(unacknowledged or unsent), received / 1000, sent / 1000)


def end_connection(sock: Any, how: int, *, discard: bool = False) -> bool:
    """Shut *sock* down in the kernel, whatever thread or greenlet is blocked in it; False if it is closed already.

    A blocked read then returns what has come so far. After ``SHUT_RD`` an answer can still be sent.

    :param discard: forget what the peer has not taken; else the kernel would offer it for many minutes.
    """
    with suppress(OSError), duplicate(sock.fileno()) as copy:
        shut_down(copy, how, discard=discard)
        return True
    return False


def shut_down(sock: KernelSocket, how: int, *, discard: bool) -> None:
    """Shut *sock* down, for all descriptors of its connection.

    :raises OSError: it is shut down already.
    """
    if discard:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    sock.shutdown(how)


@contextmanager
def duplicate(fd: int) -> Iterator[KernelSocket]:
    """Give a second descriptor for the connection of *fd*, which is closed on leaving.

    :raises OSError: there is no such descriptor, or it is none of a socket.
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
