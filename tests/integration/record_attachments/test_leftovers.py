"""Crashes and failures: the disk holds the files of records, and otherwise only garbage that is collected."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import webtest

from fileupload.apps.record_attachments import public_storage
from fileupload.apps.record_attachments.garbage_collection import RecordGarbage
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.deploy import RecordAttachments
from fileupload.pool.directory import bucket_store
from tests.support.fault_injection import Disk, put_below_pool
from tests.support.records import flask_app
from tests.support.records.kinto_harness import (
    ALICE,
    THING,
    Place,
    Rest,
    make_place,
    running_rest,
)
from tests.support.waiting import wait_until

TEMPLATE = "/api/{collection}/{id}"
FAULTS = ["before", "after", "raise-before", "raise-after"]


def collect(place: Place, records: list[dict[str, Any]], base_path: str = "") -> None:
    """Run the garbage collection for uploads of any age."""
    settings = RecordSettings.parse({"directory": str(place.pool), "record_url": TEMPLATE, "base_path": base_path})
    by_path = {f"/api/things/{record['id']}": record for record in records}

    def ask(path: str) -> tuple[int, Any]:
        return (200, by_path[path]) if path in by_path else (404, None)

    kept = make_storage(place.manager.pool, settings)
    list(RecordGarbage(kept, settings, ask, older_than=-1).collect())


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_of_the_app_leaves_only_the_file_of_the_record(rest: Rest, fault: str, there: bool) -> None:
    """The client gets the app's error; afterwards the disk holds only the file that the record has."""
    if there:
        assert rest.attach(file=("old.bin", b"old")).ok
    answer = rest.attach(file=("new.bin", b"new"), headers={**ALICE, "X-Fault": fault})
    assert answer.status_code == 500
    assert rest.contents() == ([b"new"] if "after" in fault else [b"old"] if there else [])
    rest.check_whole()


@pytest.mark.parametrize("path", [THING, "/api/things", f"{THING}/attachment"], ids=["record", "list", "attachment"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_deletion_removes_the_file_only_with_its_record(rest: Rest, fault: str, path: str) -> None:
    """After a deletion that the app answers with 500, the file is removed only if its record is."""
    rest.attach()
    answer = rest.request("DELETE", path, headers={**ALICE, "X-Fault": fault})
    assert answer.status_code == 500
    rest.check_whole()


@pytest.mark.parametrize("fault", ["kill-before", "kill-after"])
def test_the_file_of_no_record_is_collected_after_a_crash_in_the_app(rest: Rest, fault: str) -> None:
    """After a crash in the app's part of an upload, the garbage collection keeps the file only if the record has it."""
    with suppress(requests.ConnectionError):
        rest.attach(headers={**ALICE, "X-Fault": fault})
    assert (len(rest.records()), rest.unlinked()) == (int(fault == "kill-after"), 1)
    assert len(rest.contents()) == 1
    collect(rest, rest.records())
    rest.check_whole()
    # From here on, the file is removed with its record.
    rest.request("DELETE", THING)
    assert rest.left() == set()


def begin(url: str, cut_at: int) -> socket.socket:
    """Send an upload, up to a byte of its file."""
    host, _, port = url.removeprefix("http://").partition(":")
    part = b'--limes\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\n\r\n'
    head = (
        f"POST {THING}/attachment HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer alice\r\n"
        f"Content-Type: multipart/form-data; boundary=limes\r\nContent-Length: {8 << 20}\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(head.encode() + part + b"x" * cut_at)
    return connection


def test_an_interrupted_upload_leaves_nothing(rest: Rest) -> None:
    """An interrupted upload leaves nothing."""
    # gunicorn passes no byte of a body on before it has 1 KiB of it, and an upload begins with its first byte.
    for size in (1000, 3 << 20):
        with begin(rest.url, size):
            wait_until(lambda: rest.unlinked() == 1)
        wait_until(lambda: rest.left() == set())
    assert rest.records() == []


def test_an_upload_interrupted_by_a_crash_is_collected(tmp_path: Path) -> None:
    """An upload interrupted by a crash is in the index, and the garbage collection removes its remains."""
    with running_rest(tmp_path, workers=1) as server:
        server.attach("/api/things/two")
        with begin(server.url, 3 << 20):
            wait_until(lambda: sum(map(len, server.contents())) > 1 << 20)
            server.kill()
    assert server.unlinked() == 1
    assert len(server.contents()) == 2

    def is_clean() -> bool:
        collect(server, server.records())
        return server.contents() == [b"--fake--"]

    wait_until(is_clean)
    assert len(server.left()) == 5


class Local:
    """The REST app behind record attachments, without a server, on a disk that can fail."""

    def __init__(self, folder: Path, public: str) -> None:
        self.public = public
        self.app = RecordAttachments(
            flask_app.make_app(),
            directory=str(folder / "pool"),
            base_path=public,
            record_url=TEMPLATE,
            extensions="any",
            min_free_space=0,
            read_size="64K",
        )
        self.client = webtest.TestApp(self.app, lint=False)  # of Flask's answers
        self.place = make_place(folder / "pool", Path(public) if public else None)

    def attach(self, content: bytes) -> Any:
        files = [("attachment", "a.bin", content)]
        return self.client.post(f"{THING}/attachment", upload_files=files, headers=ALICE, expect_errors=True)

    def delete(self) -> Any:
        return self.client.delete(THING, headers=ALICE, expect_errors=True)

    def record(self) -> list[dict[str, Any]]:
        answer = self.client.get(THING, headers=ALICE, expect_errors=True)
        return [answer.json] if answer.status_code == 200 else []

    def check(self) -> None:
        """Check that, after a collection, the disk has exactly the file of the record."""
        records = self.record()
        collect(self.place, records, self.public)
        hashes = [hashlib.sha256(content).hexdigest() for content in self.place.contents()]
        assert hashes == [record["attachment"]["hash"] for record in records if record.get("attachment")]


@pytest.fixture(params=["pool", "folder"])
def local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """Return the REST app, with files in the pool or in a public folder; in memory, where many uploads are quick."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        monkeypatch.setattr(flask_app, "FOLDER", folder)
        yield Local(Path(folder), f"{folder}/public" if request.param == "folder" else "")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Replace the disk under the storage by one that can fail."""
    disk = Disk()
    put_below_pool(monkeypatch, disk, public_storage)
    # An attempt that could not even be aborted is at once checked for a heartbeat.
    monkeypatch.setattr(bucket_store, "_STALE_AFTER", 0.0)
    return disk


def operations(disk: Disk, error: int, *, lasting: bool) -> Iterator[int]:
    """Let the first operation fail, then the second, and so on until none fails."""
    for number in range(1, 500):
        with disk.failing(number, error, lasting=lasting):
            yield number
        if disk.count < number:
            assert number > 10
            return
    pytest.fail("the operations never end")


@pytest.mark.full
@pytest.mark.parametrize(
    ("error", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full", "one operation"]
)
def test_a_disk_failure_during_a_replacement_leaves_one_complete_file(
    local: Local, disk: Disk, error: int, lasting: bool
) -> None:
    """If any operation fails while a file replaces another, the record has one of the two, complete."""
    for _ in operations(disk, error, lasting=lasting):
        content = os.urandom(16)
        answer = local.attach(content)
        disk.fail_at = 0
        assert answer.status_code in {200, 201, 500, 507}, answer.text
        if answer.status_code < 300:
            assert local.record()[0]["attachment"]["hash"] == hashlib.sha256(content).hexdigest()
        local.check()


@pytest.mark.full
def test_a_file_is_collected_after_a_disk_failure_during_its_deletion(local: Local, disk: Disk) -> None:
    """If any operation fails while a record is deleted, the client gets the app's answer, and the file is collected."""
    assert local.attach(b"x").status_code == 201
    for _ in operations(disk, errno.EIO, lasting=False):
        answer = local.delete()
        disk.fail_at = 0
        assert answer.status_code in {204, 500}
        local.check()
        assert local.attach(b"x").status_code in {200, 201}
