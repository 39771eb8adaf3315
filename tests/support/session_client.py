"""Drives session attachments in-process, between two validators of PEP 3333, and inspects the pool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode
from wsgiref.validate import validator

from fileupload import SessionAttachments
from fileupload.apps.session_attachments.bundle_index import SESSIONS, BundleEntry, BundleIndex
from fileupload.pool.base import Pool
from tests.support.wsgi_client import FORM_TYPE, call, file_part, form, make_environ


@dataclass(frozen=True)
class Answer:
    """A response, as a client receives it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> tuple[int, str]:
        """Return the status and the problem's code."""
        return self.status, self.json["code"]

    @property
    def names(self) -> list[str]:
        """Return the names of the attachments in the list."""
        assert self.status == 200, self.body
        return [attachment["name"] for attachment in self.json]

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None


class SessionSite:
    """An app behind session attachments; it answers with the names in the bundle that its path selects."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        values = {"durable": False, "min_free_space": 0, "expire_after": 0, **settings}
        self.component = SessionAttachments(self._behind, directory=str(directory), **values)
        self.manager = self.component.manager
        self.pool = self.manager.pool
        self.as_server: Any = validator(self.component)
        self._checked_app = validator(self._app)
        self.app_environ: dict[str, Any] = {}

    def _behind(self, environ: dict[str, Any], start_response: Any) -> Any:
        # PEP 3333 requires a dot in the names of such keys; this one comes from the predecessor, and apps use it.
        assert environ.pop("fileupload")
        return self._checked_app(environ, start_response)

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.app_environ = environ
        bundles = environ["fileupload.attachments"]
        name = environ["PATH_INFO"].removeprefix("/")
        names = [attachment.name for attachment in bundles.bundle(name)] if name else []
        start_response("200 OK", [("Content-Type", "application/json"), ("X-App", "yes")])
        return [json.dumps(names).encode()]

    def client(self) -> SessionClient:
        """Return a new client without cookies."""
        return SessionClient(self)

    def check_tidy(self) -> None:
        check_tidy(self.pool, self.directory)


class SessionClient:
    """A client with a cookie jar."""

    def __init__(self, site: SessionSite) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, query: str = "", body: Any = b"", **environ: Any) -> Answer:
        """Send one request to a percent-encoded *path*; *environ* overrides the server's values."""
        if self.cookies:
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            environ = {"HTTP_COOKIE": cookies, **environ}
        path_info = unquote_to_bytes(path).decode("latin-1")
        answer = Answer(*call(self.site.as_server, make_environ(method, path_info, query, body, environ)))
        if cookie := answer.header("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def post(self, bundle: str, *files: tuple[str, bytes], query: str = "", **environ: Any) -> Answer:
        """Send files, named, in a form."""
        parts = [file_part(content, name, f"f{number}") for number, (name, content) in enumerate(files)]
        path = f"/attachments/{quote(bundle)}/"
        return self.send("POST", path, query, form(*parts), **{"CONTENT_TYPE": FORM_TYPE, **environ})

    def put(self, bundle: str, name: str, body: Any, identifier: str = "", **environ: Any) -> Answer:
        """Send a plain body."""
        query = urlencode({"X-Progress-ID": identifier}) if identifier else ""
        return self.send("PUT", f"/attachments/{quote(bundle)}/{quote(name, safe='')}/", query, body, **environ)

    def get(self, bundle: str, name: str = "", **environ: Any) -> Answer:
        """Get the list, or a file."""
        path = f"/attachments/{quote(bundle)}/" + (f"{quote(name, safe='')}/" if name else "")
        return self.send("GET", path, **environ)

    def delete(self, bundle: str, name: str = "", **environ: Any) -> Answer:
        """Remove a bundle, or a file."""
        path = f"/attachments/{quote(bundle)}/" + (f"{quote(name, safe='')}/" if name else "")
        return self.send("DELETE", path, **environ)

    def contents(self, bundle: str) -> dict[str, bytes]:
        """Return the contents of the bundle."""
        return {name: self.get(bundle, name).body for name in self.get(bundle).names}


def entries_of(pool: Pool) -> list[tuple[BundleIndex, BundleEntry]]:
    """Return all entries of a pool's index about uploads in bundles."""
    places = [BundleIndex(pool, key) for key in pool.index.keys((SESSIONS,))]
    return [(place, entry) for place in places for entry in place.entries()]


def check_tidy(pool: Pool, directory: Path) -> None:
    """Check that the pool holds only live attachments and their metadata."""
    live: Counter[str] = Counter()
    for place, entry in entries_of(pool):
        assert entry.acceptance is not None, "an upload was announced, and neither accepted nor forgotten"
        status = place.status_of(entry)
        assert status is not None, "an entry speaks of an upload that is not there"
        live[entry.bucket_id] += entry.files
        known = set(pool.index.names(place.key))
        assert set(entry.names()) <= known
    for key in pool.index.keys((SESSIONS,)):
        names = [stored.file.filename for stored in BundleIndex(pool, key).files()]
        assert len(names) == len(set(names)), f"a name is stored twice: {names}"
        told = {name for _, entry in entries_of(pool) for name in entry.names()}
        assert set(pool.index.names(key)) <= told
    for bucket in pool.buckets():
        assert bucket.id in live, "a bucket that nobody knows of"
        folder = directory / bucket.id[:2] / bucket.id
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.name.isdigit() for path in files) == live[bucket.id]
        assert {path.name for path in files if not path.name.isdigit()} == {"status.json", "lock"}
    assert set(live) == {bucket.id for bucket in pool.buckets()}
