"""``fileupload serve`` behind a real nginx with TLS and HTTP/2, at the root of its site and below a prefix."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.nginx import Proxy, documented_block, nginx
from tests.support.processes import kill_group, start_group, wait_for_line
from tests.support.waiting import PATIENCE, wait_until

PASTE = """
[pipeline:main]
pipeline = attachments fileupload page

[filter:attachments]
use = egg:fileupload#attachments
directory = %(here)s/pool
durable = false
min_free_space = 0
{settings}

[filter:fileupload]
use = egg:fileupload
directory = %(here)s/pool
durable = false
min_free_space = 0
anonymous = true
max_size = 16
direct_part_size = 5M
{settings}

[app:page]
use = egg:fileupload#page

[app:s3fileup]
use = egg:fileupload#s3fileup
directory = %(here)s/pool
durable = false
min_free_space = 0
anonymous = true
{settings}
"""


@dataclass(frozen=True)
class Answer:
    """An answer, as curl has received it."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A site behind nginx.

    :ivar url: the address of its root, with a slash at its end.
    """

    url: str
    proxy: Proxy
    folder: Path

    @property
    def prefix(self) -> str:
        return urlsplit(self.url).path

    def command(self, url: str, *options: str) -> list[str]:
        """Return the command of curl for a request over HTTP/2 to *url*, or to a path below the root."""
        target = url if "://" in url else self.url + url
        return ["curl", "-sS", "--http2", "--cacert", str(self.proxy.authority), *options, target]

    def curl(self, url: str, *options: str, data: bytes | None = None) -> Answer:
        """Send a request with curl."""
        written = ["-D", "-", "-o", str(self.folder / "answer"), "-w", "\n%{http_version} %{response_code}"]
        command = self.command(url, *written, *options)
        told = subprocess.run(command, input=data, check=True, capture_output=True, timeout=PATIENCE).stdout.decode()
        heads, _, last = told.rpartition("\n")
        lines = heads.strip().rpartition("\r\n\r\n")[2].splitlines()[1:]  # of the last head: others are 100 Continue
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        version, status = last.split()
        return Answer(version, int(status), headers, (self.folder / "answer").read_bytes())


OpenSite = Callable[..., Site]


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[OpenSite]:
    """Start ``fileupload serve`` with an app of the Paste file, and nginx before it."""
    program = require_program("nginx")
    with ExitStack() as running:

        def run(app: str = "main", *, prefixed: bool = False, settings: str = "") -> Site:
            folder = tmp_path_factory.mktemp("site")
            paste, log = folder / "paste.ini", folder / "log"
            paste.write_text(PASTE.format(settings=settings))
            serve = ["serve", "--port", "0", "--workers", "1", f"{paste}#{app}"]
            process = start_group([sys.executable, "-m", "fileupload", *serve], log)
            running.callback(kill_group, process)
            (port,) = wait_for_line(process, log, r"http://127\.0\.0\.1:(\d+)/")
            block = documented_block(int(port), prefixed=prefixed)
            proxy = running.enter_context(nginx(program, folder / "nginx", block))
            return Site(proxy.origin + ("/files/" if prefixed else "/"), proxy, folder)

        yield run


@pytest.fixture(scope="module", params=[False, True], ids=["root", "prefix"])
def site(request: pytest.FixtureRequest, open_site: OpenSite) -> Site:
    """Return the upload server with attachments, at the root or below a prefix."""
    return open_site(prefixed=request.param)


def wait_for_status(site: Site, identifier: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Request the status until *holds* is true of it."""
    found: dict[str, Any] = {}

    def is_reached() -> bool:
        found.update(site.curl(f"upload/status?X-Progress-ID={identifier}").json)
        return holds(found)

    wait_until(is_reached, lambda: f"still {found}")
    return found
