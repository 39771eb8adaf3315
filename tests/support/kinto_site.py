"""A Kinto behind record attachments, under the dedicated server, and the command line that is used with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.commands import run_command
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE

ALICE, ADMIN = ("alice", "secret"), ("admin", "secret")
SECRET = "a secret of the tests"

CONFIG = """
[pipeline:main]
pipeline = bypass records kinto

[filter:bypass]
paste.filter_factory = bypass:make_filter

[filter:records]
use = egg:fileupload#records
directory = %(here)s/pool
base_path = %(here)s/public
base_url = /files/
serve_files = true
folder = {{bucket_id}}/{{collection_id}}
durable = false
max_size = 300
resources.small.max_size_bytes = 1000

[app:kinto]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.includes = kinto.plugins.default_bucket kinto.plugins.flush
kinto.paginate_by = 2
kinto.userid_hmac_secret = {secret}
multiauth.policies = basicauth
kinto.record_read_principals = basicauth:{admin}
"""

# A request with this header bypasses the records' filter and goes directly to the app.
BYPASS = """
def make_filter(global_conf):
    return lambda app: lambda environ, start: (app.app if "HTTP_X_BYPASS" in environ else app)(environ, start)
"""


@dataclass(frozen=True)
class KintoSite:
    """A running Kinto.

    :ivar url: the URL of its API, with the version.
    """

    url: str
    folder: Path

    @property
    def config(self) -> str:
        """Return the path of its Paste file."""
        return str(self.folder / "site.ini")

    @property
    def public(self) -> Path:
        """Return the folder of the public files."""
        return self.folder / "public"

    def stored(self) -> list[bytes]:
        """Return the bytes of all files of records, sorted."""
        return sorted(path.read_bytes() for path in self.public.rglob("*") if path.is_file())

    def request(self, method: str, path: str, *, behind: bool = False, **options: Any) -> requests.Response:
        """Send a request as alice, through the filter or directly to the app."""
        headers = {"X-Bypass": "1"} if behind else {}
        return requests.request(method, self.url + path, auth=ALICE, headers=headers, timeout=PATIENCE, **options)

    def records(self, collection: str) -> dict[str, dict[str, Any]]:
        """Return the records in a collection of *blog*, by id."""
        found: dict[str, dict[str, Any]] = {}
        page: str | None = f"/buckets/blog/collections/{collection}/records"
        while page:
            answer = self.request("GET", page)
            found |= {record["id"]: record for record in answer.json()["data"]}
            page = answer.headers.get("Next-Page", "").removeprefix(self.url)
        return found

    def only_record(self, collection: str) -> dict[str, Any]:
        """Return the one record in a collection of *blog*."""
        (record,) = self.records(collection).values()
        return record

    def write(self, collection: str, name: str, attributes: dict[str, Any]) -> None:
        """Create a record, and its collection, without the filter; the record may have an attachment."""
        self.request("PUT", "/buckets/blog", behind=True)
        self.request("PUT", f"/buckets/blog/collections/{collection}", behind=True)
        path = f"/buckets/blog/collections/{collection}/records/{name}"
        assert self.request("PUT", path, behind=True, json={"data": attributes}).ok


def admin_id() -> str:
    """Return Kinto's id of the user that may read all records."""
    from kinto.core.utils import hmac_digest

    return str(hmac_digest(SECRET, ":".join(ADMIN)))


@contextmanager
def running_site(folder: Path, *, more: str = "") -> Iterator[KintoSite]:
    """Run Kinto in *folder*, in a separate process.

    :param more: further directives of Kinto's section.
    """
    (folder / "site.ini").write_text(CONFIG.format(secret=SECRET, admin=admin_id()) + more)
    (folder / "bypass.py").write_text(BYPASS)
    log = folder / "log"
    command = [sys.executable, "-m", "fileupload", "serve", "--workers", "1", "--port", "0", "site.ini"]
    process = start_group(command, log, cwd=folder)
    try:
        (address,) = wait_for_line(process, log, r"(http://127\.0\.0\.1:\d+)")
        yield KintoSite(f"{address}/v1", folder)
    finally:
        stop_group(process)


@dataclass(frozen=True)
class CommandLine:
    """Runs ``fileupload records`` in a folder."""

    folder: Path

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "FILEUPLOAD_KINTO_AUTH": ":".join(ALICE), **environ}
        return run_command("records", *arguments, folder=self.folder, environ=variables)

    def read_json(self, *arguments: str, **environ: str) -> Any:
        """Return the command's output, decoded from JSON."""
        return json.loads(self(*arguments, "--json", **environ).stdout)
