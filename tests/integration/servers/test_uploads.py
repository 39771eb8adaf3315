"""Successful uploads, on every server: by form, plain and chunked; the app's input and the status."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Form, Server

SIZES = (0, 1, 10 << 20)
SLICE = 4096


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_descriptor(seen: dict[str, Any], identifier: str, content: bytes) -> dict[str, Any]:
    """Check the descriptor that the app got for an upload of *content*; return it."""
    descriptor: dict[str, Any] = json.loads(seen["body"])
    assert (seen["method"], seen["content-type"]) == ("POST", "application/json")
    assert int(seen["content-length"]) == len(seen["body"].encode())
    assert seen["bucket"] is True
    assert seen["stored"][0] == sha256(content)
    assert (descriptor["state"], descriptor["identifier"]) == ("done", identifier)
    assert (descriptor["size"], descriptor["sha256"]) == (len(content), sha256(content))
    return descriptor


@pytest.mark.parametrize("size", SIZES)
def test_a_file_sent_by_form_is_stored_unchanged(server: Server, size: int) -> None:
    """A file sent by form is stored byte for byte, and the app gets its descriptor."""
    identifier, content = server.new_identifier(), some_bytes(size)
    answer = requests.post(server.url + server.target(identifier), files={"file": ("a.bin", content)}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    descriptor = check_descriptor(answer.json(), identifier, content)
    assert (descriptor["filename"], descriptor["files"][0]["field"]) == ("a.bin", "file")


@pytest.mark.parametrize("size", SIZES)
def test_a_plain_body_is_stored_unchanged(server: Server, size: int) -> None:
    """A file sent by PUT is stored byte for byte, and the app gets a POST with its descriptor."""
    identifier, content = server.new_identifier(), some_bytes(size)
    answer = requests.put(
        server.url + server.target(identifier, filename="b.txt"),
        data=content,
        headers={"Content-Length": str(size)},
        timeout=PATIENCE,
    )
    assert answer.status_code == 200, answer.text
    descriptor = check_descriptor(answer.json(), identifier, content)
    assert (descriptor["filename"], descriptor["content-type"]) == ("b.txt", "text/plain")


def test_several_files_and_fields_are_kept_in_order(server: Server) -> None:
    """Files and fields of one form are kept in order, with their Unicode names and values."""
    identifier = server.new_identifier()
    contents = [some_bytes(100_000 + number) for number in range(3)]
    files = [("dir", (f"Ärger № {number}.txt", content)) for number, content in enumerate(contents)]
    fields = [("título", "première"), ("title", "日本語"), ("title", "второй")]
    answer = requests.post(server.url + server.target(identifier), files=files, data=fields, timeout=PATIENCE)
    descriptor = check_descriptor(answer.json(), identifier, contents[0])
    assert [file["filename"] for file in descriptor["files"]] == [name for _, (name, _) in files]
    assert [file["sha256"] for file in descriptor["files"]] == [sha256(content) for content in contents]
    assert answer.json()["stored"] == [sha256(content) for content in contents]
    assert descriptor["fields"] == {"título": ["première"], "title": ["日本語", "второй"]}


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def test_a_chunked_form_is_accepted_if_the_server_detects_its_end(
    server: Server, make_form: Callable[[bytes], Form]
) -> None:
    """A form without a length is accepted if the server detects its end; otherwise the length is required."""
    identifier, content = server.new_identifier(), some_bytes(300_000 if server.kind.chunked else 1000)
    form = make_form(content)
    answer = requests.post(
        server.url + server.target(identifier),
        data=in_chunks(form.body),
        headers={"Content-Type": form.content_type},
        timeout=PATIENCE,
    )
    if server.kind.chunked:
        check_descriptor(answer.json(), identifier, content)
    else:
        assert (answer.status_code, answer.json()["code"]) == (411, "length-required")
        assert server.leftovers(identifier) == set()


def test_a_chunked_body_is_accepted_if_the_server_detects_an_interruption(server: Server) -> None:
    """A plain body without a length is accepted only if the server detects an interrupted one."""
    identifier = server.new_identifier()
    content = some_bytes(300_000 if server.kind.tells_broken_chunks else 1000)
    answer = requests.put(
        server.url + server.target(identifier, filename="c.bin"), data=in_chunks(content), timeout=PATIENCE
    )
    if server.kind.tells_broken_chunks:
        check_descriptor(answer.json(), identifier, content)
    else:
        assert (answer.status_code, answer.json()["code"]) == (411, "length-required")
        assert server.leftovers(identifier) == set()


def test_the_status_shows_progress_during_an_upload(server: Server) -> None:
    """Another connection sees the upload grow; a server that buffers bodies is named in the status, and logged once."""
    identifier, content = server.new_identifier(), some_bytes(8 << 20)
    upload = server.begin("PUT", identifier, Content_Length=str(len(content)))
    seen: set[int] = set()
    sent = 0
    while len(seen) < 3 and sent < len(content) // 2:
        upload.send(content[sent : sent + SLICE])
        sent += SLICE
        status = server.status(identifier)
        if status["state"] == "uploading":
            assert (status["size"], status["filename"]) == (len(content), "a.bin")
            assert status["received"] <= sent
            seen.add(status["received"])
        if not server.kind.streams:
            assert status["state"] == "unknown"
            break
    upload.send(content[sent:])
    check_descriptor(json.load(upload.getresponse()), identifier, content)
    upload.close()
    after = server.status(identifier)
    assert after["state"] == "done"
    assert after.get("buffered", False) is not server.kind.streams
    assert server.log.read_text().count("buffers bodies before") == (0 if server.kind.streams else 1)
    if server.kind.streams:
        assert len(seen) >= 3, f"of {sent} bytes only {seen} were told"


def test_the_connection_is_usable_or_closed_after_an_upload(server: Server, make_form: Callable[[bytes], Form]) -> None:
    """After an upload the connection serves a further request, or was closed as announced."""
    form = make_form(some_bytes(70_000))
    identifier = server.new_identifier()
    connection = server.connect()
    connection.request("POST", server.target(identifier), form.body, {"Content-Type": form.content_type})
    first = connection.getresponse()
    check_descriptor(json.load(first), identifier, form.content)
    server.check_connection(connection)


def test_other_requests_pass_through(server: Server) -> None:
    """A request that is no upload reaches the app unchanged, also at the upload address without an identifier."""
    for path in ("/elsewhere", "/upload"):
        answer = requests.post(
            server.url + path, data="a=ü".encode(), headers={"Content-Type": "text/x-own"}, timeout=PATIENCE
        )
        seen = answer.json()
        assert (seen["method"], seen["content-type"]) == ("POST", "text/x-own")
        assert (seen["body"], seen["bucket"]) == ("a=ü", False)


def test_an_upload_is_reset_and_sent_again(server: Server) -> None:
    """A finished upload refuses a second one until it is reset."""
    identifier = server.new_identifier()
    url = server.url + server.target(identifier)
    assert requests.put(url, data=b"first", timeout=PATIENCE).status_code == 200
    second = requests.put(url, data=b"second", timeout=PATIENCE)
    assert (second.status_code, second.json()["code"]) == (409, "already-done")
    reset = requests.delete(f"{server.url}/upload/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE)
    assert reset.json() == {"success": True}
    check_descriptor(requests.put(url, data=b"second", timeout=PATIENCE).json(), identifier, b"second")


def test_a_form_by_put_is_read_as_a_form(server: Server) -> None:
    """A form that a client sends by PUT is stored without its boundaries."""
    identifier, content = server.new_identifier(), some_bytes(100_000)
    answer = requests.put(server.url + server.target(identifier), files={"file": ("a.bin", content)}, timeout=PATIENCE)
    descriptor = check_descriptor(answer.json(), identifier, content)
    assert (descriptor["filename"], descriptor["files"][0]["field"]) == ("a.bin", "file")


def test_a_piece_of_a_file_is_refused(server: Server) -> None:
    """A form with Content-Range, and one with the fields of a piece after the file, are refused on every server."""
    for headers, fields in (({"Content-Range": "bytes 0-9/20"}, {}), ({}, {"chunk": "0", "chunks": "2"})):
        identifier = server.new_identifier()
        parts: list[tuple[str, tuple[str | None, Any]]] = [("file", ("a.bin", some_bytes(100_000)))]
        parts += [(name, (None, value)) for name, value in fields.items()]
        url = server.url + server.target(identifier)
        answer = requests.post(url, files=parts, headers=headers, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-request")


def test_a_form_without_a_file_reaches_the_app(server: Server) -> None:
    """The app gets the fields of a form whose file was left out."""
    identifier = server.new_identifier()
    url = server.url + server.target(identifier)
    answer = requests.post(url, files=[("story", (None, "A long story")), ("picture", ("", b""))], timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stored"] == []
    status = server.status(identifier)
    assert (status["state"], status["files"], status["fields"]) == ("done", [], {"story": ["A long story"]})
