"""Draining of refused bodies: the response is sent first, and then the body is read within limits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from fileupload import RecordAttachments, SessionAttachments, UploadMiddleware
from fileupload.deploy import S3Fileup

BODY = b"x" * 3_000_000  # more than the limit of JSON bodies
TRUSTED, UNTRUSTED = True, False
GZIP = {"HTTP_CONTENT_ENCODING": "gzip"}


class Input(io.BytesIO):
    """A body that counts how much of it was read."""

    @property
    def read_bytes(self) -> int:
        return self.tell()


def refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Refuse every request without reading it."""
    start_response("403 Forbidden", [("Content-Type", "application/json")])
    return [b"{}"]


def middleware(folder: Path, **settings: Any) -> Any:
    return UploadMiddleware(refuse, directory=str(folder), min_free_space=0, max_size="100K", **settings)


def attachments(folder: Path) -> Any:
    return SessionAttachments(refuse, directory=str(folder), min_free_space=0, max_size="100K")


def records(folder: Path) -> Any:
    return RecordAttachments(
        refuse, directory=str(folder), min_free_space=0, record_url="/things/{id}", base_url="http://localhost/files/"
    )


def s3fileup(folder: Path) -> Any:
    return S3Fileup(directory=str(folder), min_free_space=0, anonymous=True)


REFUSED: dict[str, tuple[Callable[[Path], Any], str, str, dict[str, str], bool]] = {
    "PUT, too large": (middleware, "PUT", "/upload?X-Progress-ID={id}", {}, TRUSTED),
    "PUT of a piece": (middleware, "PUT", "/upload?X-Progress-ID={id}", {"HTTP_CONTENT_RANGE": "bytes 0-1/9"}, TRUSTED),
    "PUT, forged": (middleware, "PUT", "/upload?X-Progress-ID=forged", {}, UNTRUSTED),
    "POST, no form": (middleware, "POST", "/upload?X-Progress-ID={id}", {"CONTENT_TYPE": "text/plain"}, TRUSTED),
    "POST, compressed": (middleware, "POST", "/upload?X-Progress-ID={id}", GZIP, UNTRUSTED),
    "PUT to the status": (middleware, "PUT", "/upload/status?X-Progress-ID={id}", {}, UNTRUSTED),
    "PUT for addresses": (middleware, "PUT", "/upload/direct?X-Progress-ID={id}", {}, UNTRUSTED),
    "no JSON for addresses": (middleware, "POST", "/upload/direct?X-Progress-ID={id}", {}, TRUSTED),
    "PUT to complete": (middleware, "PUT", "/upload/direct/complete?X-Progress-ID={id}", {}, UNTRUSTED),
    "part, forged": (middleware, "PUT", "/upload/direct/part?ticket=forged", {}, UNTRUSTED),
    "attachment, too large": (attachments, "PUT", "/attachments/letter/?filename=a", {}, TRUSTED),
    "attachment, forged": (attachments, "PUT", "/attachments/letter/?filename=a&X-Progress-ID=forged", {}, UNTRUSTED),
    "attachment, PATCH": (attachments, "PATCH", "/attachments/letter/", {}, UNTRUSTED),
    "attachment, of another site": (
        attachments, "PUT", "/attachments/letter/?filename=a", {"HTTP_ORIGIN": "https://evil.example"}, UNTRUSTED,
    ),
    "record, not allowed": (records, "POST", "/things/one/attachment", {}, UNTRUSTED),
    "record, PUT": (records, "PUT", "/things/one/attachment", {}, UNTRUSTED),
    "s3fileup, nowhere": (s3fileup, "POST", "/nowhere", {}, UNTRUSTED),
    "s3fileup, wrong method": (s3fileup, "PUT", "/s3put/", {}, UNTRUSTED),
    "s3fileup, no form": (s3fileup, "POST", "/s3put/", {"CONTENT_TYPE": "application/json"}, TRUSTED),
}  # fmt: skip


class InterruptibleConnection:
    """A connection of a server whose reads can be interrupted, which records the request to do so."""

    def __init__(self) -> None:
        self.asked = 0

    def start(self, wait: Any) -> None:
        return

    def stop(self, wait: Any) -> None:
        return

    def end(self) -> bool:
        self.asked += 1
        return False


def call(app: Any, method: str, address: str, more: dict[str, Any]) -> tuple[Any, Input, str]:
    """Send a request with a large body; return the response, not closed yet, its body and its status."""
    path, _, query = address.partition("?")
    body = Input(BODY)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query.format(id=app.manager.create_identifier()),
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.input": body,
        **more,
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer = app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    assert json.loads(b"".join(answer)) is not None
    return answer, body, statuses[0]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_body_is_drained_after_the_answer(tmp_path: Path, name: str) -> None:
    """The whole 4xx response is produced before the body is drained; closing it drains the whole body."""
    make, method, address, more, _ = REFUSED[name]
    watch = InterruptibleConnection()
    answer, body, status = call(make(tmp_path / "pool"), method, address, {**more, "fileupload.watch": watch})
    assert status.startswith("4")
    assert body.read_bytes < len(BODY)
    answer.close()
    assert body.read_bytes == len(BODY)
    assert watch.asked == 0


@pytest.mark.parametrize("name", REFUSED)
def test_only_a_valid_identifier_is_drained_by_uninterruptible_reads(tmp_path: Path, name: str) -> None:
    """Without access to the connection, only a request with a valid identifier is drained, since reads may block."""
    make, method, address, more, is_trusted = REFUSED[name]
    answer, body, _ = call(make(tmp_path / "pool"), method, address, more)
    before = body.read_bytes
    answer.close()
    assert body.read_bytes == (len(BODY) if is_trusted else before)


@pytest.mark.parametrize("name", ["PUT, too large", "PUT, forged"])
def test_an_undrained_body_closes_the_connection(tmp_path: Path, name: str) -> None:
    """A body beyond the limits closes the connection, so that its rest is not parsed as the next request."""
    _, method, address, more, _ = REFUSED[name]
    watch = InterruptibleConnection()
    app = middleware(tmp_path / "pool", drain_size=1000)
    answer, body, _ = call(app, method, address, {**more, "fileupload.watch": watch})
    answer.close()
    assert (body.read_bytes, watch.asked) == (1000, 1)
