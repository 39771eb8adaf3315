"""Drives Kinto behind record attachments, and inspects the files on the disk."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from fileupload.apps.record_attachments.ledger import RecordLedger
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import PoolStorage
from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.settings import Settings
from tests.support.folders import files_in
from tests.support.processes import kill_group, start_group, wait_for_line
from tests.support.waiting import PATIENCE, wait_until

HERE = Path(__file__).parent
RECORD = "/v1/buckets/fennec/collections/fonts/records/logo"
IMAGE = ("image.jpg", b"--fake--", "image/jpeg")
SCHEMA = {"type": "object", "properties": {"family": {"type": "string"}, "author": {"type": "string"}}}

File = tuple[str, bytes] | tuple[str, bytes, str]


def user(name: str) -> dict[str, str]:
    """Return the headers of a user of Kinto."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:secret".encode()).decode()}


MAT, JEAN, ANONYMOUS = user("mat"), user("jean"), dict[str, str]()


def form(files: list[tuple[str, File]], **texts: str | None) -> list[tuple[str, Any]]:
    """Return the parts of a form as the client takes them."""
    return [*files, *((name, (None, text)) for name, text in texts.items() if text is not None)]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The location of files: the pool, and the public folder, if there is one."""

    pool: Path
    public: Path | None = None
    manager: UploadManager = field(repr=False)

    def left(self) -> set[str]:
        """Return the names of all files on the disk, except the key, locks and marks of the pool itself."""
        found = {str(path.relative_to(self.pool)) for path in files_in(self.pool)}
        found = {name for name in found if not name.startswith((".upload_key", ".turn", ".refusals"))}
        found = {name for name in found if not name.endswith(("/lock", "/alive", "/progress.json"))}
        if self.public is not None:
            found |= {f"public/{path.relative_to(self.public)}" for path in files_in(self.public, folders=True)}
        return found

    def stored(self) -> dict[str, bytes]:
        """Return the bytes of all stored files, by their names on the disk."""
        in_pool = [path for path in files_in(self.pool) if re.fullmatch(r"\d+", path.name)]
        in_folder = list(files_in(self.public)) if self.public else []
        found = {}
        for path in in_pool + in_folder:
            with suppress(FileNotFoundError):  # removed concurrently
                found[str(path)] = path.read_bytes()
        return found

    def contents(self) -> list[bytes]:
        """Return the bytes of all stored files, sorted."""
        return sorted(self.stored().values())

    def wipe(self) -> None:
        """Remove everything except the key, even while an aborted request is still being processed."""
        wait_until(self._is_wiped)

    def _is_wiped(self) -> bool:
        found = [path for root in filter(None, (self.pool, self.public)) if root.exists() for path in root.iterdir()]
        found = [path for path in found if not path.name.startswith(".upload_key")]
        for path in found:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return not found


def make_place(pool: Path, public: Path | None = None) -> Place:
    """Return the place of a server's files."""
    return Place(pool=pool, public=public, manager=make_manager(Settings.parse({"directory": str(pool)})))


@dataclass(frozen=True, kw_only=True)
class Kinto(Place):
    """A running Kinto, and its files on the disk."""

    url: str
    log: Path

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request, as mat unless the headers name a user."""
        options.setdefault("headers", MAT)
        return requests.request(method, self.url + path, timeout=PATIENCE, **options)

    def get(self, path: str, **options: Any) -> Any:
        """Return the decoded response of *path*."""
        answer = self.request("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make_collection(self, bucket: str = "fennec", collection: str = "fonts") -> None:
        """Create a bucket and a collection, with a schema."""
        assert self.request("PUT", f"/v1/buckets/{bucket}").ok
        body = {"data": {"schema": SCHEMA}}
        assert self.request("PUT", f"/v1/buckets/{bucket}/collections/{collection}", json=body).ok

    def attach(
        self,
        record: str = RECORD,
        *files: File,
        headers: Mapping[str, str] = MAT,
        data: str | None = None,
        permissions: str | None = None,
    ) -> requests.Response:
        """Send files (one image, if none is given) to be attached to *record*."""
        parts = form([("attachment", file) for file in files or (IMAGE,)], data=data, permissions=permissions)
        return self.request("POST", f"{record}/attachment", files=parts, headers=dict(headers))

    def attached(self, record: str = RECORD, *files: File, data: str | None = None) -> dict[str, Any]:
        """Attach a file; return the attachment."""
        answer = self.attach(record, *files, data=data)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def attachment(self, record: str = RECORD) -> Any:
        """Return the attachment of a record."""
        return self.get(record)["data"].get("attachment")

    def fetch(self, location: str) -> requests.Response:
        """Get a file, without credentials."""
        url = location if location.startswith("http") else self.url + location
        return requests.get(url, timeout=PATIENCE)

    def flush(self) -> None:
        """Remove all records."""
        assert self.request("POST", "/v1/__flush__").status_code == 202


@contextmanager
def running(folder: Path, /, **settings: Any) -> Iterator[tuple[Kinto, Kinto]]:
    """Run Kinto, with files in the pool, and another one with files in a public folder."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    command = [sys.executable, str(HERE / "kinto_app.py"), str(folder), json.dumps(settings)]
    process = start_group(command, log)
    try:
        in_pool, in_folder = wait_for_line(process, log, r"^ready (\S+) (\S+)$")
        yield (
            Kinto(url=in_pool, log=log, **vars(make_place(folder / "pool"))),
            Kinto(url=in_folder, log=log, **vars(make_place(folder / "pool2", folder / "public"))),
        )
    finally:
        kill_group(process)


ALICE, BOB = {"Authorization": "Bearer alice"}, {"Authorization": "Bearer bob"}
THING = "/api/things/one"


@dataclass(frozen=True, kw_only=True)
class Rest(Place):
    """A running REST app, with records in a database that its processes share."""

    url: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request, as alice unless the headers name a user."""
        options.setdefault("headers", ALICE)
        return requests.request(method, self.url + path, timeout=PATIENCE, **options)

    def attach(
        self,
        record: str = THING,
        file: File = IMAGE,
        *,
        headers: Mapping[str, str] = ALICE,
        query: str = "",
        data: str | None = None,
        permissions: str | None = None,
    ) -> requests.Response:
        """Send a file to be attached to *record*."""
        parts = form([("attachment", file)], data=data, permissions=permissions)
        return self.request("POST", f"{record}/attachment{query}", files=parts, headers=dict(headers))

    def records(self) -> list[dict[str, Any]]:
        """Return all records."""
        with closing(sqlite3.connect(self.pool.parent / "records.db", timeout=PATIENCE)) as connection:
            if not connection.execute("select 1 from sqlite_master where name = 'records'").fetchone():
                return []
            return [json.loads(data) for (data,) in connection.execute("select data from records")]

    def remove_record(self, name: str) -> None:
        """Remove a record without the filter, which leaves its file."""
        with closing(sqlite3.connect(self.pool.parent / "records.db", timeout=PATIENCE)) as connection, connection:
            connection.execute("delete from records where id = ?", (name,))

    def check_whole(self) -> None:
        """Check that the disk holds exactly the files that the records refer to."""
        attachments = [record["attachment"] for record in self.records() if record.get("attachment")]
        for attachment in attachments:
            answer = self.request("GET", attachment["location"])
            assert hashlib.sha256(answer.content).hexdigest() == attachment["hash"]
        # Another attempt's files may still be being removed.
        wait_until(lambda: len(self.left()) == 5 * len(attachments), lambda: f"these files are there: {self.left()}")
        assert len(self.contents()) == len(attachments)

    def unlinked(self) -> int:
        """Return the number of uploads whose link to a record is not settled."""
        settings = RecordSettings.parse({"directory": str(self.pool), "record_url": "/api/{collection}/{id}"})
        files = RecordLedger(PoolStorage(self.manager.pool), settings)
        return sum(not entry.linked for entry in files.entries(()))

    def forget(self) -> None:
        """Remove all records and files, without the app."""
        with closing(sqlite3.connect(self.pool.parent / "records.db", timeout=PATIENCE)) as connection, connection:
            connection.execute("drop table if exists records")
        self.wipe()

    def kill(self) -> None:
        """Kill all its processes at once, as a crash does."""
        kill_group(self.process)


@contextmanager
def running_rest(folder: Path, *, workers: int = 2) -> Iterator[Rest]:
    """Run the REST app on gunicorn, in several processes, with all its data in *folder*."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    options = ("--worker-class", "gthread", "--threads", "8", "--workers", str(workers), "--bind", "127.0.0.1:0")
    paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "FILEUPLOAD_TEST_FOLDER": str(folder), "PYTHONPATH": paths, "HOME": str(folder)}
    process = start_group([sys.executable, "-m", "gunicorn", *options, "flask_app:application"], log, env=environment)
    try:
        (port,) = wait_for_line(process, log, r"http://127\.0\.0\.1:(\d+)")
        url = f"http://127.0.0.1:{port}"
        yield Rest(url=url, log=log, process=process, **vars(make_place(folder / "pool")))
    finally:
        kill_group(process)
