"""Drives the middleware in-process: sends requests with scripted bodies, and inspects the pool."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

from fileupload import UploadMiddleware

BOUNDARY = "----gap5"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class Stream:
    """A ``wsgi.input`` that returns at most one of *pieces* from each read, like packets from a client."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = b""
        self.asked: list[int] = []

    def read(self, size: int) -> bytes:
        assert size > 0, "read(0) and read(-1) mean something else on each server"
        self.asked.append(size)
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data

    def readline(self, size: int) -> bytes:
        raise AssertionError("a line may be as long as the body; only read() is safe")

    def readlines(self, hint: int) -> list[bytes]:
        raise AssertionError("a line may be as long as the body; only read() is safe")

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("a line may be as long as the body; only read() is safe")


class Clock:
    """A clock that advances only when a client sends."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class PacedClient:
    """A client that sends *total* bytes at *rate* (bytes a second, by time), to a server that fills each read."""

    def __init__(self, clock: Clock, rate: float | Callable[[float], float], total: int = 1 << 30) -> None:
        self.clock = clock
        self.rate = rate if callable(rate) else lambda _: rate
        self.left = total
        self.asked: list[int] = []

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        count = min(size, self.left)
        self.left -= count
        self.clock.now += count / self.rate(self.clock.now - 1000.0)
        return bytes(count)


def in_steps(body: bytes, step: int) -> Iterator[bytes]:
    """Yield *body* in pieces of *step* bytes."""
    return (body[start : start + step] for start in range(0, len(body), step))


def part(headers: str, data: bytes | str) -> bytes:
    """Return one part, up to the line before its boundary; *headers* are lines without line ends."""
    lines = "".join(line + "\r\n" for line in headers.split("\n"))
    return lines.encode() + b"\r\n" + (data.encode() if isinstance(data, str) else data)


def file_part(data: bytes | str, filename: str = "a.txt", name: str = "file", kind: str = "text/plain") -> bytes:
    """Return a file part as browsers write it."""
    return part(f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\nContent-Type: {kind}', data)


def field_part(name: str, text: bytes | str) -> bytes:
    """Return a text field as browsers write it."""
    return part(f'Content-Disposition: form-data; name="{name}"', text)


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """Return a whole body of *parts*."""
    delimiter = f"--{boundary}".encode()
    return b"".join(delimiter + b"\r\n" + each + b"\r\n" for each in parts) + delimiter + b"--\r\n"


@dataclass(frozen=True)
class Answer:
    """A response, as a client receives it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> tuple[int, str | None]:
        """Return the status and the problem's code."""
        return self.status, self.json.get("code")


class UploadSite:
    """The middleware in front of an app that answers with its request's descriptor, on a separate pool."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.app_environ: dict[str, Any] = {}
        values = {"durable": False, "min_free_space": 0, **settings}
        self.middleware = UploadMiddleware(self._behind, directory=str(directory), **values)
        self.manager = self.middleware.manager
        self.as_server: Any = validator(self.middleware)
        self._checked_app = validator(self._app)

    def _behind(self, environ: dict[str, Any], start_response: Any) -> Any:
        # PEP 3333 requires a dot in the names of such keys; this one comes from the predecessor, and apps use it.
        assert environ.pop("fileupload") is self.manager
        return self._checked_app(environ, start_response)

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.app_environ = environ
        received = "fileupload.bucket" in environ
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) if received else b"{}"
        start_response("200 OK", [("Content-Type", "application/json"), ("X-App", "yes")])
        return [body]

    def identifier(self, **claims: Any) -> str:
        """Return a new identifier."""
        return self.manager.create_identifier(**claims)

    def send(
        self,
        method: str,
        path: str = "/upload",
        query: str = "",
        body: Any = b"",
        **environ: str | bool | None,
    ) -> Answer:
        """Send one request; *environ* overrides the server's values, and None removes one."""
        status, headers, answer = call(self.as_server, make_environ(method, path, query, body, environ))
        return Answer(status, {name.lower(): value for name, value in headers}, answer)

    def post(self, body: Any, identifier: str | None = None, kind: str | None = FORM_TYPE, **environ: Any) -> Answer:
        """Send a form."""
        query = urlencode({"X-Progress-ID": self.identifier() if identifier is None else identifier})
        return self.send("POST", query=query, body=body, CONTENT_TYPE=kind, **environ)

    def put(self, body: Any, identifier: str | None = None, filename: str = "a.txt", **environ: Any) -> Answer:
        """Send a plain body."""
        named = {"filename": filename} if filename else {}
        query = urlencode({"X-Progress-ID": self.identifier() if identifier is None else identifier, **named})
        return self.send("PUT", query=query, body=body, **environ)

    def status(self, identifier: str) -> dict[str, Any]:
        """Return the status of the upload, as another process sees it."""
        answer = self.send("GET", "/upload/status", urlencode({"X-Progress-ID": identifier}))
        return dict(answer.json)

    def contents(self, identifier: str) -> list[bytes]:
        """Return the bytes of the files of a finished upload."""
        bucket = self.manager.access_upload_bucket(identifier)
        assert bucket is not None
        opened = [bucket.open(index) for index in range(len(bucket.files))]
        with_data = [file.read() for file in opened]
        for file in opened:
            file.close()
        return with_data

    def names(self, identifier: str) -> set[str]:
        """Return the names of the files in the bucket, at any depth, including the attempt's name."""
        root = self.directory / identifier[:2] / identifier[:32]
        return {str(path.relative_to(root)) for path in root.rglob("*")}


ONLY_STATUS = {"status.json", "lock"}
NOTHING: set[str] = set()  # left by a refusal before the first byte, which creates no bucket


def make_environ(method: str, path: str, query: str, body: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environ that a server would give an app; *given* overrides it, and None removes a key.

    :param body: bytes, or a stream without a length.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **({"CONTENT_LENGTH": str(len(body))} if isinstance(body, bytes) else {"wsgi.input_terminated": True}),
    }
    environ.update(given)
    return {name: value for name, value in environ.items() if value is not None}


def call(app: Any, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Send a request to an app, as a server does; return the status, the headers and the body of its answer."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    result = app(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, headers = started[-1]
    return int(status.split()[0]), headers, body
