"""A real server with the middleware in front of an app, and a client of direct uploads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import requests

from fileupload import UploadMiddleware
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.object.pool import ObjectPool
from tests.support.folders import files_in
from tests.support.threaded_server import served
from tests.support.waiting import PATIENCE

NOT_BYTES = {"lock", "status.json", "progress.json", "alive"}


class DirectSite:
    """An app that answers with the body that it has read, behind the middleware; all error answers are checked.

    :ivar seen: the environ of the last request that the app got.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.seen: dict[str, Any] = {}
        self.middleware = UploadMiddleware(self._app, **settings)
        self.manager = self.middleware.manager
        self.pool = self.manager.pool
        self.base = ""
        self.upload = "/upload"
        self.identifiers: list[str] = []

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.seen = environ
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) if "fileupload.bucket" in environ else b"{}"
        start_response("200 OK", [("Content-Type", "application/json"), ("X-App", "yes")])
        return [body]

    @contextmanager
    def served(self) -> Iterator[DirectSite]:
        """Serve it on a free port."""

        def checked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            judged: Iterable[bytes] = validator(self.middleware)(environ, start_response)
            return judged

        with served(checked) as self.base:
            yield self

    def identifier(self, **claims: Any) -> str:
        """Return a new identifier."""
        self.identifiers.append(self.manager.create_identifier(**claims))
        return self.identifiers[-1]

    def ask(self, method: str, address: str, identifier: str = "", **options: Any) -> requests.Response:
        """Send a request to a path below the upload's, or to a whole URL; check an answer that is an error."""
        url = address if "://" in address else f"{self.base}{self.upload}{address}"
        if identifier:
            options["params"] = {"X-Progress-ID": identifier, **options.get("params", {})}
        answer = requests.request(method, url, timeout=PATIENCE, **options)
        unknown = address == "/status" and answer.status_code == 404
        if answer.url.startswith(self.base) and answer.status_code >= 400 and not unknown:
            self._check_error(method, answer)
        return answer

    def _check_error(self, method: str, answer: requests.Response) -> None:
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if method != "HEAD":
            assert answer.json().keys() == {"status", "title", "detail", "code"}
            assert answer.json()["status"] == answer.status_code
        assert str(getattr(self.pool, "directory", "/pool/")) not in answer.text
        assert not [identifier for identifier in self.identifiers if identifier in answer.text]

    def offer(self, identifier: str, size: int, filename: str = "a ü.png", **wish: Any) -> dict[str, Any]:
        """Ask for presigned URLs that must be granted."""
        answer = self.ask("POST", "/direct", identifier, json={"filename": filename, "size": size, **wish})
        assert answer.status_code == 200, answer.text
        offered: dict[str, Any] = answer.json()
        return offered

    def refused(self, identifier: str, wish: Any) -> tuple[int, str]:
        """Ask for presigned URLs that must be refused; return the status and the problem's code."""
        return outcome(self.ask("POST", "/direct", identifier, data=json.dumps(wish)))

    def renewed(self, identifier: str, **query: Any) -> dict[str, Any]:
        """Ask for the presigned URLs again."""
        answer = self.ask("GET", "/direct", identifier, params=query)
        assert answer.status_code == 200, answer.text
        offered: dict[str, Any] = answer.json()
        return offered

    def put(self, url: str, content: Any, **options: Any) -> requests.Response:
        """Send a PUT to a presigned URL."""
        return self.ask("PUT", url, data=content, **options)

    def post(self, offered: Mapping[str, Any], content: bytes, filename: str = "other.bin") -> requests.Response:
        """Post a form to a presigned URL, as a browser does."""
        return self.ask("POST", offered["url"], data=offered["fields"], files={"file": (filename, content)})

    def complete(self, identifier: str, **options: Any) -> requests.Response:
        """Complete the upload."""
        return self.ask("POST", "/direct/complete", identifier, **options)

    def status(self, identifier: str) -> dict[str, Any]:
        """Return the status of the upload."""
        status: dict[str, Any] = self.ask("GET", "/status", identifier).json()
        return status

    def stored(self, identifier: str) -> bytes:
        """Return the bytes of a finished upload, as the app reads them."""
        bucket = self.manager.access_upload_bucket(identifier)
        assert bucket is not None
        assert bucket.is_complete()
        with bucket.open() as file:
            return file.read()

    def leftovers(self, identifier: str) -> list[str]:
        """Return everything that the pool holds of an upload, except its status."""
        bucket_id = identifier[:32]
        if isinstance(self.pool, DirectoryPool):
            found = files_in(Path(self.pool.directory, bucket_id[:2], bucket_id))
            return [str(path) for path in found if path.name not in NOT_BYTES]
        assert isinstance(self.pool, ObjectPool)
        below = self.pool.bucket_store(bucket_id).key("f", "")
        # The record of a form's key stays as long as the upload.
        keys = [each.key for each in self.pool.store.list(below) if not each.key.endswith(".form")]
        return keys + [upload for _, upload, _ in self.pool.store.list_multipart_uploads(below)]


def outcome(answer: requests.Response) -> tuple[int, str]:
    """Return the status of one of our answers, and the problem's code."""
    return answer.status_code, answer.json().get("code", "")


def slices(content: bytes, offered: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield the address of each offered part, and its bytes."""
    for part in offered["parts"]:
        yield part["url"], content[part["offset"] : part["offset"] + part["size"]]
