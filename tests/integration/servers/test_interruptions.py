"""Clients that disconnect and servers that stop: only the status stays, and a retry succeeds."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Form, Server

SLICE = 16 << 10


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def is_uploading(status: dict[str, Any]) -> bool:
    return bool(status["state"] == "uploading")


def send_until(server: Server, upload: http.client.HTTPConnection, identifier: str, slices: list[bytes]) -> int:
    """Send *slices* until the status shows received bytes; return the number of slices sent."""
    for count, data in enumerate(slices, 1):
        upload.send(data)
        if server.kind.streams and is_uploading(server.status(identifier)):
            return count
    if server.kind.streams:
        server.wait_for_status(identifier, is_uploading)
    return len(slices)


def check_retry(server: Server, identifier: str, content: bytes) -> None:
    """Check that the upload succeeds under the same identifier."""
    answer = requests.put(server.url + server.target(identifier), data=content, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stored"] == [hashlib.sha256(content).hexdigest()]
    assert server.status(identifier)["state"] == "done"


def check_broken_off(server: Server, identifier: str) -> None:
    """Check the remains of an upload whose client disconnected."""
    if server.kind.streams:
        status = server.wait_for_status(identifier, lambda status: status["state"] not in {"starting", "uploading"})
        assert (status["state"], status["code"]) == ("error", "incomplete")
    else:
        assert server.status(identifier)["state"] == "unknown"
    server.wait_until_clean(identifier)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_interrupted_body_is_an_error(server: Server, make_form: Callable[[bytes], Form], method: str) -> None:
    """A body that ends before its length results in an error, even if the server ends it without one."""
    identifier, content = server.new_identifier(), some_bytes(4 << 20)
    form = make_form(content)
    headers = {"Content_Length": str(len(form.body)), "Content_Type": form.content_type}
    upload = server.begin(method, identifier, **headers)
    half = form.body[: len(form.body) // 2]
    send_until(server, upload, identifier, [half[at : at + SLICE] for at in range(0, len(half), SLICE)])
    upload.close()
    check_broken_off(server, identifier)
    check_retry(server, identifier, content)


@pytest.mark.servers_that("chunked")
def test_an_interrupted_chunked_form_is_an_error(server: Server, make_form: Callable[[bytes], Form]) -> None:
    """A chunked form that is interrupted results in an error, although it had no length."""
    identifier, content = server.new_identifier(), some_bytes(4 << 20)
    form = make_form(content)
    upload = server.begin("POST", identifier, Transfer_Encoding="chunked", Content_Type=form.content_type)
    half = form.body[: len(form.body) // 2]
    parts = [half[at : at + SLICE] for at in range(0, len(half), SLICE)]
    send_until(server, upload, identifier, [b"%x\r\n%b\r\n" % (len(part), part) for part in parts])
    upload.close()
    check_broken_off(server, identifier)
    check_retry(server, identifier, content)


def test_a_form_without_its_closing_boundary_is_incomplete(server: Server, make_form: Callable[[bytes], Form]) -> None:
    """A form without its closing boundary is incomplete, even if the declared number of bytes was received."""
    identifier, form = server.new_identifier(), make_form(some_bytes(200_000))
    answer = requests.post(
        server.url + server.target(identifier),
        data=form.body[:-20],
        headers={"Content-Type": form.content_type},
        timeout=PATIENCE,
    )
    assert answer.status_code == 400
    assert server.status(identifier)["state"] == "error"
    assert server.leftovers(identifier) == set()
    check_retry(server, identifier, b"now whole")


@pytest.mark.parametrize("name", ["fileupload-serve", "granian", "gunicorn"])
def test_an_upload_completes_or_fails_after_sigterm(start: Callable[[str], Server], name: str) -> None:
    """After SIGTERM in the middle, the upload completes with the right bytes or is an error."""
    server = start(name)
    identifier, content = server.new_identifier(), some_bytes(4 << 20)
    upload = server.begin("PUT", identifier, Content_Length=str(len(content)))
    slices = [content[at : at + SLICE] for at in range(0, len(content), SLICE)]
    sent = send_until(server, upload, identifier, slices)
    server.process.send_signal(signal.SIGTERM)
    answer = finish(upload, slices[sent:])
    upload.close()
    server.process.wait(PATIENCE)
    bucket = server.manager.access_upload_bucket(identifier)
    assert bucket is not None
    wait_until(lambda: bucket.get_status().state in {"done", "error"})  # for a while, a crashed attempt seems to run
    status = bucket.get_status()
    if status.state == "done":
        with bucket.open() as file:
            assert file.read() == content
        assert answer is not None
        assert answer["stored"] == [hashlib.sha256(content).hexdigest()]
    else:
        assert (status.state, status.code) in {("error", "incomplete"), ("error", "interrupted")}
        assert answer is None


def finish(upload: http.client.HTTPConnection, slices: list[bytes]) -> dict[str, Any] | None:
    """Send the rest, as far as the server still reads it; return the answer of a success."""
    try:
        for part in slices:
            upload.send(part)
        answer = upload.getresponse()
        data: dict[str, Any] = json.load(answer)
    except (OSError, http.client.HTTPException):
        return None
    return data if answer.status == 200 else None
