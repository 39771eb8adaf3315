"""Each file operation of a direct upload fails in turn: the client gets an error, and no uploaded bytes are lost."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.fault_injection import Disk, for_each_operation, refusal_for
from tests.support.waiting import PATIENCE
from tests.support.wsgi_client import Answer, UploadSite

MIN_PART_SIZE = 5 << 20  # bytes
CONTENT = bytes(range(256)) * (MIN_PART_SIZE // 256) + b"the last part"
FAULTS = pytest.mark.parametrize(
    ("error", "lasting"),
    [(errno.ENOSPC, True), (errno.EIO, True), (errno.EIO, False), (errno.EMFILE, False)],
    ids=["ENOSPC", "EIO", "EIO-once", "EMFILE-once"],
)


class Sender:
    """A client that sends one file directly to the pool, without a server in between."""

    def __init__(self, site: UploadSite, content: bytes) -> None:
        self._site = site
        self._content = content
        self.identifier = site.identifier()
        self._parts: list[dict[str, Any]] = []

    def ask(self, method: str, address: str, body: bytes = b"", query: str = "") -> Answer:
        """Send a request to an address of direct uploads."""
        query = query or urlencode({"X-Progress-ID": self.identifier})
        return self._site.send(method, f"/upload/direct{address}", query, body)

    def offer(self) -> Answer:
        """Ask for presigned URLs."""
        answer = self.ask("POST", "", json.dumps({"filename": "a.bin", "size": len(self._content)}).encode())
        whole = {"offset": 0, "size": len(self._content), "url": answer.json.get("url")}
        self._parts = answer.json.get("parts", [whole])
        return answer

    def send(self, number: int) -> Answer:
        """Send a part."""
        part = self._parts[number]
        content = self._content[part["offset"] : part["offset"] + part["size"]]
        return self.ask("PUT", "/part", content, urlsplit(part["url"]).query)

    def send_all(self) -> None:
        """Send all parts."""
        assert [self.send(number).status for number in range(len(self._parts))] == [200] * len(self._parts)

    def complete(self) -> Answer:
        """Complete the upload."""
        return self.ask("POST", "/complete")

    def reset(self) -> Answer:
        """Remove the upload in any state."""
        return self._site.send("DELETE", "/upload/status", urlencode({"X-Progress-ID": self.identifier}))

    def check_done(self) -> None:
        """Check that the file is stored, and nothing else."""
        assert self._site.contents(self.identifier) == [self._content]
        names = {Path(name).name for name in self._site.names(self.identifier)} - {self.attempt}
        assert names - {"alive", "progress.json"} == {"0", "lock", "status.json"}
        assert self._site.manager.clear_upload_bucket(self.identifier)

    @property
    def attempt(self) -> str:
        """Return the name of the folder with the file."""
        return self._site.manager.pool.bucket(self.identifier[:32]).get_status().attempt


@pytest.fixture
def site() -> Iterator[UploadSite]:
    """Return a site with a pool in memory, for tests with many uploads."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield UploadSite(Path(folder, "pool"), durable=True, direct_part_size="5M")


def check_refusal(answer: Answer, error: int) -> None:
    """Check that the client gets the expected error."""
    assert answer.outcome == refusal_for(error)


@pytest.mark.full
@FAULTS
def test_an_offer_succeeds_after_a_disk_failure_in_an_earlier_one(
    site: UploadSite, disk: Disk, error: int, lasting: bool
) -> None:
    """After any operation of an offer fails, the next offer succeeds like a first one."""

    def attempt() -> None:
        sender = Sender(site, b"some bytes")
        answer = sender.offer()
        disk.fail_at = 0
        if answer.status != 200:
            check_refusal(answer, error)
            assert sender.offer().status == 200
        sender.send_all()
        assert sender.complete().status == 200
        sender.check_done()

    assert for_each_operation(disk, error, lasting, attempt) > 10


@pytest.mark.full
@FAULTS
def test_a_part_can_be_sent_again_after_a_disk_failure(site: UploadSite, disk: Disk, error: int, lasting: bool) -> None:
    """After any operation of a part fails, the part is complete or absent, and can be sent again."""

    def attempt() -> None:
        at, disk.fail_at = disk.fail_at, 0
        sender = Sender(site, b"some bytes")
        sender.offer()
        disk.count, disk.fail_at = 0, at
        answer = sender.send(0)
        counted, disk.fail_at = disk.count, 0
        received = sender.ask("GET", "").json["received"]
        if answer.status != 200:
            check_refusal(answer, error)
            assert received in {0, len(b"some bytes")}
            sender.send_all()
        assert sender.complete().status == 200
        sender.check_done()
        disk.count = counted

    assert for_each_operation(disk, error, lasting, attempt) > 10


@pytest.mark.full
@FAULTS
@pytest.mark.parametrize("content", [b"some bytes", CONTENT], ids=["whole", "parts"])
def test_an_upload_can_be_completed_after_a_disk_failure(
    site: UploadSite, disk: Disk, content: bytes, error: int, lasting: bool
) -> None:
    """After any operation of completing fails, all uploaded parts are available to the next attempt."""

    def attempt() -> None:
        at, disk.fail_at = disk.fail_at, 0
        sender = Sender(site, content)
        sender.offer()
        sender.send_all()
        disk.count, disk.fail_at = 0, at
        answer = sender.complete()
        counted, disk.fail_at = disk.count, 0
        if answer.status != 200:
            check_refusal(answer, error)
            assert error == errno.EIO or not any("whole" in name for name in site.names(sender.identifier))
            # On a disk that keeps failing the upload may be done without a way to undo it.
            assert sender.complete().status in ({200, 409} if lasting else {200})
        sender.check_done()
        disk.count = counted

    assert for_each_operation(disk, error, lasting, attempt) > 20


REPLACED = {(409, "superseded"), (404, "not-direct")}


@pytest.mark.full
@pytest.mark.parametrize("content", [b"some bytes", CONTENT], ids=["whole", "parts"])
@pytest.mark.parametrize("anew", [False, True], ids=["cleared", "begun anew"])
def test_completing_an_upload_that_is_reset_meanwhile_is_refused(
    site: UploadSite, disk: Disk, content: bytes, anew: bool
) -> None:
    """Completion that a reset or restart overtakes at any operation is refused with a reason, and leaves nothing."""
    threads: list[threading.Thread] = []

    def operate(name: str) -> None:
        disk.count += 1
        if disk.count == disk.fail_at:
            threads[-1].start()
            threads[-1].join(0.05)  # a reset that waits for a lock held here continues later

    disk.operate = operate  # type: ignore[method-assign]

    def attempt() -> None:
        at, disk.fail_at = disk.fail_at, 0
        sender, other = Sender(site, content), Sender(site, b"new")
        other.identifier = sender.identifier
        sender.offer()
        sender.send_all()
        threads.append(threading.Thread(target=other.offer if anew else other.reset))
        disk.count, disk.fail_at = 0, at
        answer = sender.complete()
        counted, disk.fail_at = disk.count, 0
        if counted >= at:
            threads[-1].join(PATIENCE)
        if answer.status == 200 and (anew or counted < at):
            sender.check_done()
        elif answer.status != 200:
            # An upload that restarts before everything else has no parts yet, and it is the one that is completed.
            assert answer.outcome in REPLACED | ({(400, "incomplete")} if anew else set())
        if anew and answer.outcome in REPLACED:
            other.send_all()
            assert other.complete().status == 200
            other.check_done()
        site.manager.clear_upload_bucket(sender.identifier)
        assert list(site.manager.pool.buckets()) == []
        disk.count = counted

    assert for_each_operation(disk, 0, False, attempt) > 20
