"""A real server with the app mounted below a path, an application that receives its callbacks, and clients of both."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import shift_path_info
from wsgiref.validate import validator

import requests

from fileupload.deploy import S3Fileup
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.object.pool import ObjectPool
from tests.support.folders import files_in
from tests.support.threaded_server import running, served
from tests.support.waiting import PATIENCE

KEY = "only-the-application-and-the-app-know-this-one"
MOUNT = "/s3fileup"
_NOT_BYTES = {"lock", "status.json", "progress.json", "alive"}


class Application:
    """The server of the callback. It answers with the next of *answers*, and with 204 after the last one.

    :ivar deliveries: the descriptors that it has received, each with its answer.
    :ivar strays: the paths of requests that were not for the callback.
    """

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.deliveries: list[tuple[int, dict[str, Any]]] = []
        self.strays: list[str] = []
        self.url = ""
        self.silence = threading.Event()  # while a test clears it, nothing is answered
        self.silence.set()

    @contextmanager
    def served(self) -> Iterator[Application]:
        """Serve it on a free port."""
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                application.strays.append(self.path)
                self.send_response(204)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                application.silence.wait(PATIENCE)
                status = application.take(body, self.headers)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{application.url}/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as self.url:
            try:
                yield self
            finally:
                self.silence.set()

    def take(self, body: bytes, headers: Message) -> int:
        """Verify the signature, record the descriptor, and return the answer."""
        expected = "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(headers["X-Fileupload-Signature"], expected)
        status = (self.answers.pop(0) if self.answers else 204) if genuine else 403
        assert headers["Content-Type"] == "application/json"
        self.deliveries.append((status, json.loads(body)))
        return status

    @property
    def delivered_keys(self) -> list[str]:
        """Return the identifiers of the uploads that it has accepted."""
        return [descriptor["identifier"] for status, descriptor in self.deliveries if status == 204]


class S3FileupSite:
    """The app below :data:`MOUNT`, as a client sees it; all error answers are checked.

    :ivar environ: what the server in front adds to each request, such as REMOTE_USER.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.app = S3Fileup(upload_key=KEY, **settings)
        self.pool = self.app.manager.pool
        self.environ: dict[str, Any] = {}
        self.base = ""
        self.keys: list[str] = []

    @contextmanager
    def served(self) -> Iterator[S3FileupSite]:
        """Serve it."""
        with served(self.mounted(lambda environ, _: [])) as base:
            self.base = base + MOUNT
            yield self

    def mounted(self, outside: WSGIApplication) -> WSGIApplication:
        """Return a WSGI app that has the app below its path, and *outside* everywhere else."""
        inside = validator(self.app)

        def choose(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if not environ["PATH_INFO"].startswith(MOUNT + "/"):
                return outside(environ, start_response)
            shift_path_info(environ)
            answer: Iterable[bytes] = inside({**environ, **self.environ}, start_response)
            return answer

        return choose

    def ask(self, method: str, address: str, **options: Any) -> requests.Response:
        """Send a request to a path below the app's, or to a whole URL; check an answer that is an error."""
        url = address if "://" in address else f"{self.base}{address}"
        answer = requests.request(method, url, timeout=PATIENCE, **options)
        if url.startswith(self.base) and answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/json", answer.text
            if method != "HEAD":
                assert answer.json().keys() == {"error", "message", "code"}
                assert answer.json()["error"] == answer.json()["message"]
            assert str(getattr(self.pool, "directory", "/pool/")) not in answer.text
            assert not [key for key in self.keys if key in answer.text]
        return answer

    def got(self, method: str, address: str, **options: Any) -> dict[str, Any]:
        """Send a request that succeeds; return its answer."""
        answer = self.ask(method, address, **options)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        if isinstance(data, dict):
            self.keys += filter(None, (data.get("key"), data.get("fields", {}).get("key")))
        return data

    def refused(self, method: str, address: str, **options: Any) -> tuple[int, str]:
        """Send a request that does not succeed; return the status and the code."""
        answer = self.ask(method, address, **options)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["code"]

    def put_address(self, content: bytes, name: str = "a ü.txt", **other: str) -> dict[str, Any]:
        """Ask for the presigned URL of one file."""
        query = {"s3_object_name": name, "s3_object_type": "text/plain", "s3_object_size": str(len(content)), **other}
        return self.got("GET", "/s3put/", params=query)

    def sent(self, content: bytes, **other: str) -> str:
        """Send one file; return its key."""
        offered = self.put_address(content, **other)
        assert self.ask("PUT", offered["url"], data=content, headers=offered["headers"]).status_code == 200
        key: str = offered["key"]
        return key

    def complete(self, key: str, **options: Any) -> requests.Response:
        """Complete the upload."""
        return self.ask("POST", "/complete", json={"key": key}, **options)

    def bucket_ids(self) -> list[str]:
        """Return the ids of all buckets in the pool."""
        return [bucket.id for bucket in self.pool.buckets()]

    def stored(self, key: str) -> bytes:
        """Return the bytes of a finished upload, as the application reads them."""
        bucket = self.app.manager.access_upload_bucket(key)
        assert bucket is not None
        assert bucket.is_complete()
        with bucket.open() as file:
            return file.read()

    def leftovers(self) -> list[str]:
        """Return everything that the pool holds of files, finished or not, except the record of a form's key."""
        if isinstance(self.pool, DirectoryPool):
            folders = [path for path in Path(self.pool.directory).glob("??") if path.is_dir()]
            found = [path for folder in folders for path in files_in(folder)]
            return [str(path) for path in found if path.name not in _NOT_BYTES]
        assert isinstance(self.pool, ObjectPool)
        below = f"{self.pool.prefix}b/"
        keys = [
            each.key for each in self.pool.store.list(below) if "/f/" in each.key and not each.key.endswith("/0.form")
        ]
        return keys + [upload for _, upload, _ in self.pool.store.list_multipart_uploads(below)]
