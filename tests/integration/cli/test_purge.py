"""``fileupload purge`` and ``fileupload attachments purge``, with and without a terminal, on a pool of several apps."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webtest

from fileupload import SessionAttachments
from fileupload.deploy import RecordAttachments, make_manager, make_server_app
from fileupload.settings import Settings
from tests.support.rest_app import RestApp
from tests.support.waiting import PATIENCE

ATTACHMENTS = ("attachments", "purge")
ALL = ("purge",)
Purge = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Return the directory of a pool with an upload, two session attachments, and a file of a record."""
    directory = tmp_path / "pool"
    common: dict[str, Any] = {"directory": str(directory), "min_free_space": 0}
    server = make_server_app(Settings.parse(common))
    identifier = make_manager(Settings.parse(common)).create_identifier()
    webtest.TestApp(server).put(f"/upload?X-Progress-ID={identifier}&filename=a.txt", b"x" * 3072)
    session = webtest.TestApp(SessionAttachments(None, **common))
    session.post("/attachments/letter/", upload_files=[("a", "a.txt", b"a"), ("b", "b.txt", b"b" * 1023)])
    session.put("/attachments/letter/c.txt/", b"c" * 1024)
    records = webtest.TestApp(RecordAttachments(RestApp(), record_url="/api/{kind}/{id}", **common))
    records.post("/api/things/one/attachment", upload_files=[("attachment", "a.txt", b"kept")])
    return directory


@pytest.fixture
def purge(pool: Path) -> Purge:
    """Run a command without a terminal."""

    def run(command: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments(pool, command, *options),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    return run


def arguments(pool: Path, command: tuple[str, ...], *options: str) -> list[str]:
    """Return the command that purges uploads of any age."""
    return [sys.executable, "-m", "fileupload", *command, "--directory", str(pool), "--older-than", "0s", *options]


def at_terminal(command: list[str], reply: bytes) -> tuple[int, str]:
    """Run a command at a terminal at which *reply* is typed once it asks; return its status and what is shown."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], command)
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
            if b"[y/N] " in data:
                os.write(terminal, reply)
    except OSError:  # the end of a terminal, on Linux
        pass
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")


def stored(pool: Path) -> list[str]:
    """Return the applications of the stored uploads."""
    buckets = make_manager(Settings.parse({"directory": str(pool)})).pool.buckets()
    return sorted(bucket.get_status().owner.partition(":")[0] for bucket in buckets)


EVERYTHING = ["", "records", "session", "session"]


def test_only_attachments_are_purged(pool: Path, purge: Purge) -> None:
    """The command for attachments leaves the uploads of other applications in a shared pool; purge removes them."""
    assert stored(pool) == EVERYTHING
    done = purge(ATTACHMENTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 uploads removed.\n")
    assert stored(pool) == ["", "records"]
    assert purge(ATTACHMENTS).stdout == "0 uploads removed.\n"
    assert purge(ALL).stdout.endswith("1 upload removed.\n")
    assert stored(pool) == ["records"]  # the file of a record is kept


def test_young_attachments_stay(pool: Path, purge: Purge) -> None:
    """The age is that of the option."""
    assert purge(ATTACHMENTS, "--older-than", "1h").stdout == "0 uploads removed.\n"
    assert stored(pool) == EVERYTHING


def test_a_dry_run_tells_the_bytes_of_each_application(pool: Path, purge: Purge) -> None:
    """It lists the uploads, and their number and bytes by application, and removes nothing."""
    done = purge(ALL, "--dry-run")
    assert done.stdout.endswith(
        "  server or middleware: 1 upload, 3 KB\n  session attachments: 2 uploads, 2 KB\n3 uploads would be removed.\n"
    )
    answer = json.loads(purge(ATTACHMENTS, "--dry-run", "--json").stdout)
    assert (len(answer["removed"]), answer["dry-run"]) == (2, True)
    assert stored(pool) == EVERYTHING


@pytest.mark.parametrize(("reply", "agreed"), [(b"y\n", True), (b"YES\n", True), (b"\n", False), (b"n\n", False)])
def test_at_a_terminal_the_command_asks(pool: Path, reply: bytes, agreed: bool) -> None:
    """It says what it will remove, and removes it only after yes."""
    status, shown = at_terminal(arguments(pool, ALL), reply)
    assert "To be removed:\n  server or middleware: 1 upload, 3 KB\n  session attachments: 2 uploads, 2 KB\n" in shown
    assert "Remove 3 uploads? [y/N] " in shown
    assert ("3 uploads removed." in shown, "nothing was removed" in shown) == (agreed, not agreed)
    assert status == (0 if agreed else 1)
    assert stored(pool) == (["records"] if agreed else EVERYTHING)


def test_the_end_of_the_input_is_a_no(pool: Path) -> None:
    """Ctrl-D at the question removes nothing."""
    status, shown = at_terminal(arguments(pool, ATTACHMENTS), b"\x04")
    assert (status, "nothing was removed" in shown) == (1, True)
    assert stored(pool) == EVERYTHING


@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ("--older-than", "1h")])
def test_at_a_terminal_the_command_does_not_always_ask(pool: Path, options: tuple[str, ...]) -> None:
    """With --yes, in a dry run, and with nothing to remove, there is no question."""
    status, shown = at_terminal(arguments(pool, ATTACHMENTS, *options), b"n\n")
    assert (status, "[y/N]" in shown) == (0, False)
    assert stored(pool) == (["", "records"] if options == ("--yes",) else EVERYTHING)
