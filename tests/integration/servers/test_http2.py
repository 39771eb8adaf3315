"""Broken HTTP/2 streams, on servers that would never end the read of such a body.

``fileupload serve`` supports HTTP/1.1 only; granian supports both on one port by default, and uploads over HTTP/2
are refused there without a read. Each test breaks many streams, and then checks that the server still answers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import pytest
import requests

from tests.integration.servers.conftest import start_server
from tests.support.processes import stop_group
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Server

CONNECTIONS = 6
STREAMS = 40  # on each server; more than granian's eight threads
FORM = b'--limes\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nwhole\r\n--limes--\r\n'


@pytest.fixture(scope="module", params=["fileupload-serve", "granian"])
def granian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on granian: ours, or granian with its defaults."""
    started = start_server(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    stop_group(started.process)


class Http2Client:
    """One HTTP/2 connection without TLS, to a server that is known to support it (RFC 9113, 3.3)."""

    def __init__(self, server: Server) -> None:
        self.socket = server.open_socket()
        self._authority = f"127.0.0.1:{server.port}"
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send the pending data; a server that has refused HTTP/2 reads nothing."""
        with suppress(OSError):
            self.socket.sendall(self._h2.data_to_send())

    def begin(self, method: str, target: str, *headers: tuple[str, str], body: bytes, end: bool = False) -> int:
        """Send the head and the first bytes of a request; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        fixed = ((":method", method), (":path", target), (":scheme", "http"), (":authority", self._authority))
        self._h2.send_headers(stream, [*fixed, *headers])
        self._h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def reset(self, stream: int) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def status(self) -> str:
        """Return the status of the first answer, or an empty text if the server ends the connection."""
        with suppress(OSError):
            while data := self.socket.recv(65536):
                try:
                    events = self._h2.receive_data(data)
                except h2.exceptions.ProtocolError:  # an answer in HTTP/1.1
                    return ""
                for event in events:
                    if isinstance(event, h2.events.ResponseReceived):
                        return str(dict(event.headers or [])[b":status"], "ascii")
                self.flush()
        return ""


def put(
    client: Http2Client, server: Server, identifier: str, *, length: int | None, body: bytes, end: bool = False
) -> int:
    headers = () if length is None else (("content-length", str(length)),)
    return client.begin("PUT", server.target(identifier, filename="a"), *headers, body=body, end=end)


def reset_stream(client: Http2Client, server: Server, identifier: str) -> None:
    """Send one byte of a body, and reset the stream."""
    client.reset(put(client, server, identifier, length=1000, body=b"x"))


def leave_open(client: Http2Client, server: Server, identifier: str) -> None:
    """Send one byte of a body; the connection is closed later."""
    put(client, server, identifier, length=1000, body=b"x")


def end_early(client: Http2Client, server: Server, identifier: str) -> None:
    """End the stream before the declared length (RFC 9113, 8.1.1: malformed)."""
    put(client, server, identifier, length=1000, body=b"x" * 10, end=True)


def reset_after_all(client: Http2Client, server: Server, identifier: str) -> None:
    """Send a whole form, and reset the stream instead of ending it."""
    headers = (("content-type", "multipart/form-data; boundary=limes"), ("content-length", str(len(FORM))))
    client.reset(client.begin("POST", server.target(identifier), *headers, body=FORM))


BREAKS = [reset_stream, leave_open, end_early, reset_after_all]


@pytest.mark.parametrize("valid", [True, False], ids=["valid", "forged"])
@pytest.mark.parametrize("break_off", BREAKS)
def test_broken_streams_hold_no_thread(
    granian: Server, break_off: Callable[[Http2Client, Server, str], None], valid: bool
) -> None:
    """After far more broken streams than threads, the server answers, and none of the uploads is stored."""
    identifiers = []
    for _ in range(CONNECTIONS):
        client = Http2Client(granian)
        for _ in range(STREAMS):
            identifier = granian.new_identifier()
            if not valid:
                identifier = ("0" if identifier[0] != "0" else "1") + identifier[1:]
            identifiers.append(identifier)
            break_off(client, granian, identifier)
        client.socket.close()
    for _ in range(20):
        assert requests.get(f"{granian.url}/plain", timeout=PATIENCE).ok
    for identifier in identifiers:
        assert granian.manager.pool.bucket(identifier[:32]).get_status().state in {"unknown", "error"}
        assert not granian.leftovers(identifier)


def test_a_whole_upload_over_http_2_is_refused(granian: Server) -> None:
    """An upload over HTTP/2 is answered 505, or its connection is closed, and succeeds over HTTP/1.1."""
    identifier = granian.new_identifier()
    client = Http2Client(granian)
    put(client, granian, identifier, length=5, body=b"whole", end=True)
    assert client.status() in {"505", ""}
    client.socket.close()
    answer = requests.put(granian.url + granian.target(identifier, filename="a"), data=b"whole", timeout=PATIENCE)
    assert answer.ok
    assert granian.status(identifier)["state"] == "done"


def test_our_server_closes_http_2_connections(tmp_path: Path) -> None:
    """``fileupload serve`` closes a connection that begins with the preface of HTTP/2."""
    server = start_server("fileupload-serve", tmp_path)
    try:
        with server.open_socket() as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            received = b""
            with suppress(ConnectionError, socket.timeout):
                while data := connection.recv(65536):
                    received += data
            assert received.startswith(b"HTTP/1.1 4") or not received
    finally:
        stop_group(server.process)
