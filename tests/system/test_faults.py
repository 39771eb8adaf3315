"""Each file operation of an upload fails in turn: the client gets an answer, and the pool stays true."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fileupload.pool import directory, directory_attempt, directory_bucket, filesystem

if TYPE_CHECKING:
    from tests.system.conftest import Client

FULL = {errno.ENOSPC, errno.EDQUOT}
CONTENT = bytes(range(256)) * 1000
MOST_OPERATIONS = 300

# Those that can fail; os.close is none, since what it fails at has happened before.
FALLIBLE = {"open", "mkdir", "write", "fsync", "rename", "unlink", "rmdir", "listdir", "statvfs", "stat", "fstat"}
# Those that need room, and so go on failing while a disk is full.
NEED_ROOM = {"mkdir", "write", "fsync", "rename", "create"}


class Disk:
    """Stands for ``os`` in the pool's modules: it counts the operations, and fails at one, or from one on."""

    def __init__(self) -> None:
        self.count = 0
        self.fail_at = 0  # 0: never
        self.error = 0
        self.lasting = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in FALLIBLE:
            return real

        def call(*arguments: Any, **keywords: Any) -> Any:
            creates = name == "open" and arguments[1] & os.O_CREAT
            self.operate("create" if creates else name)
            return real(*arguments, **keywords)

        return call

    def operate(self, name: str) -> None:
        """Count an operation, and let it fail if it is its turn."""
        self.count += 1
        goes_on = self.lasting and (name in NEED_ROOM or self.error not in FULL)
        if self.fail_at and (self.count == self.fail_at or (goes_on and self.count > self.fail_at)):
            raise OSError(self.error, os.strerror(self.error))

    @contextmanager
    def failing(self, at: int, error: int, *, lasting: bool) -> Iterator[None]:
        """Fail at operation number *at*, once or from then on."""
        self.count, self.fail_at, self.error, self.lasting = 0, at, error, lasting
        try:
            yield
        finally:
            self.fail_at = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Put a disk that can fail below the directory pool."""
    disk = Disk()
    for module in (filesystem, directory, directory_attempt, directory_bucket):
        monkeypatch.setattr(module, "os", disk)
    return disk


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


Each = Callable[[int, int], None]


def for_each_operation(disk: Disk, error: int, lasting: bool, attempt: Callable[[], None]) -> int:
    """Run *attempt* with the first operation failing, the second, and so on until none is left to fail."""
    for number in range(1, MOST_OPERATIONS):
        before = open_files()
        with disk.failing(number, error, lasting=lasting):
            attempt()
        assert open_files() == before, f"descriptors leaked when operation {number} failed"
        if disk.count < number:
            return number - 1
    pytest.fail("the operations never end")


def check_answer(code: int, answer: dict[str, Any], error: int) -> None:
    """Check that the client is told, and what."""
    if code == 200:
        assert answer["state"] == "done"
    else:
        expected = (507, "pool-full") if error in FULL else (500, "storage-failed")
        assert (code, answer["code"]) == expected


@pytest.mark.parametrize("form", [True, False], ids=["form", "plain"])
@pytest.mark.parametrize(
    ("error", "lasting"),
    [(errno.ENOSPC, True), (errno.EDQUOT, False), (errno.EIO, True), (errno.EIO, False), (errno.EMFILE, False)],
    ids=["ENOSPC", "EDQUOT-once", "EIO", "EIO-once", "EMFILE-once"],
)
def test_a_failing_disk(client: Client, disk: Disk, error: int, lasting: bool, form: bool) -> None:
    """Whichever operation fails, the answer is 507 or 500, no half file is called done, and a retry succeeds."""
    body, contents = (client.make_form(CONTENT, CONTENT), [CONTENT, CONTENT]) if form else (CONTENT, [CONTENT])

    def attempt() -> None:
        identifier = client.manager.create_identifier()
        code, answer = client.send(identifier, body, form=form)
        disk.fail_at = 0
        check_answer(code, answer, error)
        stored = client.stored(identifier)
        assert stored == contents or (stored is None and code != 200)
        if code != 200:
            if stored:  # it was made durable in the end, though the answer could not say so
                assert client.manager.clear_upload_bucket(identifier)
            assert client.send(identifier, body, form=form)[0] == 200
            assert client.stored(identifier) == contents
        assert client.names(identifier) == sorted([str(n) for n in range(len(contents))] + ["lock", "status.json"])

    assert for_each_operation(disk, error, lasting, attempt) > 20


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_finished_upload_survives_a_failing_disk(client: Client, disk: Disk, error: int) -> None:
    """Whichever operation of a second upload fails, the finished one keeps its bytes."""
    identifier = client.manager.create_identifier()
    assert client.send(identifier, CONTENT, form=False)[0] == 200

    def attempt() -> None:
        code, _ = client.send(identifier, b"other", form=False)
        disk.fail_at = 0
        assert code in {409, 500, 507}
        assert client.stored(identifier) == [CONTENT]

    for_each_operation(disk, error, False, attempt)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_refusal_survives_a_failing_disk(client: Client, disk: Disk, error: int) -> None:
    """Whichever operation fails while a refusal is noted, the client gets the refusal or the disk's error."""
    done, new = client.manager.create_identifier(), client.manager.create_identifier()
    assert client.send(done, CONTENT, form=False)[0] == 200

    def attempt() -> None:
        for identifier in (done, new):
            code, _ = client.send(identifier, b"x", form=True)  # no boundary in it: refused while it is read
            assert code in {400, 409, 500, 507}
        disk.fail_at = 0
        assert client.stored(done) == [CONTENT]
        assert client.stored(new) is None

    for_each_operation(disk, error, False, attempt)
