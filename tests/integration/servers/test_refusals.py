"""Refused uploads, on every server: the client reads the reason, and nothing of the upload is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Form, Server

TOO_MUCH = 24 << 20  # 8 MB above the limit
BAD_LENGTHS = ("-1", "+5", "5_0", "5, 5", "5 5", "0x5", "5.0", "5;", "five", "9" * 20, "1" * 400, "\u0663")


def check_problem(answer: requests.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]


def check_refused(server: Server, identifier: str, code: str) -> None:
    """Check that the status has the reason, and that the pool holds nothing else."""
    status = server.status(identifier)
    assert (status["state"], status["code"]) == ("error", code)
    assert server.leftovers(identifier) == set()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_length_above_the_limit_is_refused_without_a_reset(
    server: Server, make_form: Callable[[bytes], Form], method: str
) -> None:
    """A client that sends 8 MB too many reads the problem document, and gets no connection reset."""
    identifier, form = server.new_identifier(), make_form(bytes(TOO_MUCH))
    answer = requests.request(
        method,
        server.url + server.target(identifier),
        data=form.body,
        headers={"Content-Type": form.content_type},
        timeout=PATIENCE,
    )
    check_problem(answer, 413, "too-large")
    check_refused(server, identifier, "too-large")


@pytest.mark.servers_that("chunked")
def test_a_chunked_form_above_the_limit_is_refused(server: Server, make_form: Callable[[bytes], Form]) -> None:
    """On servers that support chunked forms, their bytes are counted, and the client reads the problem document."""
    check_too_large_in_chunks(server, "POST", make_form(bytes(TOO_MUCH)))


@pytest.mark.servers_that("tells_broken_chunks")
def test_a_chunked_plain_body_above_the_limit_is_refused(server: Server, make_form: Callable[[bytes], Form]) -> None:
    """On servers that support chunked plain bodies, their bytes are counted too."""
    check_too_large_in_chunks(server, "PUT", make_form(bytes(TOO_MUCH)))


def check_too_large_in_chunks(server: Server, method: str, form: Form) -> None:
    identifier = server.new_identifier()

    def in_chunks() -> Iterator[bytes]:
        for start in range(0, len(form.body), 4 << 20):
            yield form.body[start : start + (4 << 20)]

    answer = requests.request(
        method,
        server.url + server.target(identifier),
        data=in_chunks(),
        headers={"Content-Type": form.content_type},
        timeout=PATIENCE,
    )
    check_problem(answer, 413, "too-large")
    check_refused(server, identifier, "too-large")


@pytest.mark.parametrize("expect", [("-H", "Expect:"), ()], ids=["at-once", "asks-first"])
@pytest.mark.parametrize("by_form", [True, False], ids=["form", "plain"])
def test_curl_reads_the_refusal(server: Server, tmp_path: Path, expect: tuple[str, ...], by_form: bool) -> None:
    """curl succeeds and shows the problem document, with and without an Expect header."""
    if shutil.which("curl") is None:
        (pytest.fail if os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1" else pytest.skip)("not installed: curl")
    path, identifier = tmp_path / "big", server.new_identifier()
    with path.open("wb") as file:
        file.truncate(TOO_MUCH)
    url = server.url + server.target(identifier)
    send = ("-F", f"file=@{path}") if by_form else ("-T", str(path))
    done = subprocess.run(
        ["curl", "-sS", "-m", str(PATIENCE), "-w", "\n%{http_code}", *expect, *send, url],
        capture_output=True,
        text=True,
        timeout=PATIENCE + 5,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document, _, code = done.stdout.rpartition("\n")
    assert (code, json.loads(document)["code"]) == ("413", "too-large")
    check_refused(server, identifier, "too-large")


def test_a_forged_identifier_is_refused(server: Server) -> None:
    """A client with a forged identifier that sends the body anyway reads the problem document."""
    identifier = server.new_identifier()
    forged = ("0" if identifier[0] != "0" else "1") + identifier[1:]
    answer = requests.put(server.url + server.target(forged), data=bytes(8 << 20), timeout=PATIENCE)
    check_problem(answer, 403, "invalid-identifier")
    assert server.leftovers(forged) == set()


def read_all(connection: socket.socket) -> bytes:
    """Return the bytes that the server sends until it closes, or until it pauses after an answer."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
            connection.settimeout(0.5)  # an answer has arrived; there may be a second one
    except TimeoutError:
        assert received, "no answer came"
    except ConnectionResetError:  # the server's own refusal
        pass
    return received


def send_raw(server: Server, head: str, body: bytes) -> bytes:
    """Send a raw request, and return all bytes of the answer."""
    with server.open_socket() as connection:
        connection.sendall(head.encode() + body)
        return read_all(connection)


def check_client_error(received: bytes) -> None:
    """Check that every answer in *received*, if there is one, is a client error.

    Some servers treat the unread rest of a refused body as a further request, and refuse that too.
    """
    assert all(code.startswith(b"4") for code in re.findall(rb"HTTP/1\.[01] (\d{3})", received)), received


@pytest.mark.parametrize("length", BAD_LENGTHS, ids=ascii)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_invalid_content_length_is_refused(
    server: Server, make_form: Callable[[bytes], Form], method: str, length: str
) -> None:
    """An invalid Content-Length is refused before a byte is read, by the server or by us, and never blocks."""
    identifier, form = server.new_identifier(), make_form(b"x")
    head = (
        f"{method} {server.target(identifier)} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
    check_client_error(send_raw(server, head, form.body))
    assert server.status(identifier)["state"] != "done"
    assert server.leftovers(identifier) == set()


def test_whitespace_around_content_length_is_ignored(server: Server) -> None:
    """Space around Content-Length is ignored (RFC 9110, 5.5): as many bytes are stored, or none."""
    identifier = server.new_identifier()
    head = f"PUT {server.target(identifier)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: \t 5 \r\n\r\n"
    received = send_raw(server, head, b"12345")
    status = server.status(identifier)
    if b" 200 " in received[:20]:
        assert (status["state"], status["size"]) == ("done", 5)
    else:
        check_client_error(received)
        assert status["state"] != "done"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_with_a_length_and_chunks_is_refused(
    server: Server, make_form: Callable[[bytes], Form], method: str
) -> None:
    """A body with both a length and chunks is refused, and nothing of it becomes a second request.

    If the server hides the length from us, the chunks alone count (RFC 9112, 6.3), never the length.
    """
    form = make_form(b"whole")
    content_type = form.content_type if method == "POST" else "text/plain"
    body = f"{len(form.body):x}\r\n".encode() + form.body + b"\r\n0\r\n\r\n"
    body += b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for length in (1, len(form.body), len(body)):
        identifier = server.new_identifier()
        head = (
            f"{method} {server.target(identifier)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}"
            f"\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        received = send_raw(server, head, body)
        status = server.status(identifier)
        if server.kind.hides_length and status["state"] == "done":
            content = form.content if method == "POST" else form.body
            assert status["sha256"] == hashlib.sha256(content).hexdigest()
        else:
            check_client_error(received)
            assert status["state"] in {"unknown", "error"}
            assert server.leftovers(identifier) == set()


def test_the_connection_is_usable_or_closed_after_a_refusal(server: Server) -> None:
    """After a refusal the connection serves a further request, or was closed after the answer."""
    identifier = server.new_identifier()
    connection = server.connect()
    connection.request("PUT", server.target(identifier), bytes(1 << 20), {"Content-Range": "bytes 0-9/10"})
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["code"]) == (415, "unsupported-request")
    server.check_connection(connection)


def without_continue(received: bytes) -> bytes:
    """Return *received* without the 100 Continue answers; some servers send two."""
    return re.sub(rb"HTTP/1\.[01] 100 [^\r]*\r\n(?:[^\r]+\r\n)*\r\n", b"", received)


def test_a_client_that_waits_for_100_continue_is_refused(server: Server) -> None:
    """A client that waits for 100 Continue is refused at once, or is sent it and then refused."""
    identifier = server.new_identifier()
    head = (
        f"PUT {server.target(identifier)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {TOO_MUCH}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with server.open_socket() as connection:
        connection.sendall(head.encode())
        connection.settimeout(1)  # the time that a client waits for a server without support of Expect
        try:
            first = connection.recv(65536)
        except TimeoutError:
            first = b""
        connection.settimeout(PATIENCE)
        if not without_continue(first):
            with suppress(ConnectionError):  # a later refusal closes the connection
                connection.sendall(bytes(TOO_MUCH))
        while not (final := without_continue(first)):
            more = connection.recv(65536)
            assert more, f"the connection ended after {first!r}"
            first += more
        assert final.split(b" ", 2)[1] == b"413", first
    check_refused(server, identifier, "too-large")
