"""Record attachments in front of a small app in the same process: sizes, headers, and errors of the app."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fileupload.deploy import RecordAttachments
from tests.support.wsgi_client import FORM_TYPE, file_part, form


class Stream:
    """A body that is generated while it is read."""

    def __init__(self, head: bytes, size: int, tail: bytes = b"") -> None:
        self.left = len(head) + size + len(tail)
        self._head, self._tail = io.BytesIO(head), io.BytesIO(tail)
        self._size = size
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data = self._head.read(size) or b" " * min(size, self._size)
        if not data:
            data = self._tail.read(size)
        elif data[:1] == b" ":
            self._size -= len(data)
        self.given += len(data)
        return data


class RestApp:
    """A REST app with one record, which keeps the requests that it receives."""

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.asked.append(environ["REQUEST_METHOD"])
        if self.error is not None:
            raise self.error
        if environ["REQUEST_METHOD"] == "PATCH":
            self.record.update(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        start_response("200 OK", [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [json.dumps(self.record).encode()]


class RecordSite:
    """Record attachments in front of that app."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.app = RestApp()
        fixed = {"directory": str(folder), "record_url": "/r/{id}", "min_free_space": 0, "durable": False}
        self.filter = RecordAttachments(self.app, **fixed, **settings)

    def send(self, method: str, path: str, stream: Any, length: int, **environ: Any) -> tuple[int, list[Any], bytes]:
        """Send a request; return the status, the headers and the body of the response."""
        given = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "a",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": stream,
            "CONTENT_LENGTH": str(length),
            "CONTENT_TYPE": "application/json",
            **environ,
        }
        started: list[Any] = []
        start: Any = lambda status, headers, exc_info=None: started.extend([status, headers])  # noqa: E731
        body = b"".join(self.filter(given, start))
        return int(started[0][:3]), started[1], body


@pytest.fixture
def site(tmp_path: Path) -> RecordSite:
    """Return record attachments in front of a small app."""
    return RecordSite(tmp_path)


def test_a_huge_body_of_json_is_refused(site: RecordSite) -> None:
    """JSON of 100 MB is refused by its length and never held in memory; 64 MB are examined."""
    stream = Stream(b"", 100 << 20)
    tracemalloc.start()
    status, _, body = site.send("PATCH", "/r/a", stream, 100 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (status, json.loads(body)["code"]) == (413, "too-large")
    assert peak < 4 << 20
    assert site.app.asked == []
    limit = 64 << 20
    at_limit = Stream(b'{"a": 1}', limit - 8)
    assert site.send("PATCH", "/r/a", at_limit, limit)[0] == 200
    assert site.send("PATCH", "/r/a", Stream(b'{"a": 1}', limit - 7), limit + 1)[0] == 413


def test_a_large_file_is_not_kept_in_memory(site: RecordSite) -> None:
    """A file of 64 MB goes to the pool with only a few chunks of it in memory."""
    head = b'--l\r\nContent-Disposition: form-data; name="attachment"; filename="a.txt"\r\n\r\n'
    stream = Stream(head, 64 << 20, b"\r\n--l--\r\n")
    length = stream.left
    tracemalloc.start()
    status, _, body = site.send(
        "POST", "/r/a/attachment", stream, length, CONTENT_TYPE="multipart/form-data; boundary=l"
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (status, json.loads(body)["size"]) == (200, 64 << 20)
    assert peak < 4 << 20


def test_repeated_headers_of_the_app_reach_the_client(site: RecordSite) -> None:
    """A header that the app sends several times reaches the client as many times."""
    body = b'--l\r\nContent-Disposition: form-data; name="attachment"; filename="a.txt"\r\n\r\nx\r\n--l--\r\n'
    kind = "multipart/form-data; boundary=l"
    _, headers, _ = site.send("POST", "/r/a/attachment", io.BytesIO(body), len(body), CONTENT_TYPE=kind)
    assert [value for name, value in headers if name == "Set-Cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        ({"public_url": "https://www.example.com:8443/api"}, {}),
        (
            {"trusted_proxies": "10.0.0.1"},
            {
                "REMOTE_ADDR": "10.0.0.1",
                "HTTP_FORWARDED": 'for=192.0.2.1;proto=https;host="www.example.com:8443"',
                "HTTP_X_FORWARDED_PREFIX": "/api",
            },
        ),
    ],
    ids=["public_url", "trusted_proxies"],
)
def test_the_record_address_is_the_public_one_behind_a_proxy(
    tmp_path: Path, settings: dict[str, str], environ: dict[str, str]
) -> None:
    """The address of the record in the answer has the scheme, host, port and prefix that clients see."""
    site = RecordSite(tmp_path, **settings)
    body = form(file_part("x", "a.txt", "attachment"))
    _, headers, _ = site.send("POST", "/r/a/attachment", io.BytesIO(body), len(body), CONTENT_TYPE=FORM_TYPE, **environ)
    assert dict(headers)["Location"] == "https://www.example.com:8443/api/r/a"


@pytest.mark.parametrize("error", [ConnectionRefusedError("the database"), ValueError("a mistake")], ids=repr)
@pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST"])
def test_an_exception_of_the_app_is_propagated(site: RecordSite, error: Exception, method: str) -> None:
    """An exception of the app reaches the server unchanged, and is not treated as a failure of the pool."""
    site.app.error = error
    path = "/r/a/attachment" if method == "POST" else "/r/a"
    with pytest.raises(type(error), match=str(error)):
        site.send(method, path, io.BytesIO(b"{}"), 2)


class BreakingStream:
    """A body that breaks off after *begins* was called in the middle of it."""

    def __init__(self, head: bytes, begins: Callable[[], object]) -> None:
        self._head = io.BytesIO(head)
        self._begins = begins

    def read(self, size: int = -1) -> bytes:
        data = self._head.read(size)
        if not data:
            self._begins()
            raise OSError("the connection broke")
        return data


@pytest.mark.parametrize("takes_over", [True, False])
def test_a_failed_attempt_leaves_the_entry_of_a_newer_one(tmp_path: Path, takes_over: bool) -> None:
    """An attempt that fails removes its entry, unless a newer attempt for the same record has begun in its bucket."""
    site = RecordSite(tmp_path / "pool")
    manager = site.filter.manager
    identifier, entries = manager.create_identifier(), ("records", "r", "1")
    bucket_id = identifier[:32]

    def begin_newer() -> None:
        assert manager.pool.index.names(entries) == [bucket_id]
        if takes_over:
            status = manager.pool.bucket(bucket_id).get_status()
            manager.pool.begin(bucket_id, replace(status, attempt=""))

    body = form(file_part("x" * 5000, "a.pdf", "attachment"))[:3000]
    answer = site.send(
        "POST", "/r/1/attachment", BreakingStream(body, begin_newer), len(body) + 4000,
        CONTENT_TYPE=FORM_TYPE, QUERY_STRING=f"X-Progress-ID={identifier}",
    )  # fmt: skip
    assert answer[0] >= 400
    assert list(manager.pool.index.names(entries)) == ([bucket_id] if takes_over else [])


@pytest.mark.parametrize(
    ("name", "kind"), [("IMG_1.HEIC", "image/heic"), ("a.jfif", "image/jpeg"), ("a.tif", "image/tiff")]
)
def test_an_image_of_a_type_that_the_browser_does_not_know(site: RecordSite, name: str, kind: str) -> None:
    """application/octet-stream counts as no type, and current formats of images are accepted by default."""
    body = form(file_part("x", name, "attachment", "application/octet-stream"))
    status, _, answer = site.send("POST", "/r/a/attachment", io.BytesIO(body), len(body), CONTENT_TYPE=FORM_TYPE)
    assert (status, json.loads(answer)["mimetype"]) == (200, kind)


@pytest.mark.parametrize("parts", [[], [file_part("", "", "attachment")]], ids=["no part", "an empty file input"])
def test_a_form_without_a_file_is_refused(site: RecordSite, parts: list[bytes]) -> None:
    """An attachment requires a file."""
    body = form(*parts)
    status, _, answer = site.send("POST", "/r/a/attachment", io.BytesIO(body), len(body), CONTENT_TYPE=FORM_TYPE)
    assert status == 400
    assert b"Attachment missing" in answer
    assert list(site.filter.manager.pool.buckets()) == []
    assert site.app.record == {}
