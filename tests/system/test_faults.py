"""Each file operation of an upload fails in turn: the client gets an answer, and the pool stays consistent."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fault_injection import Disk, for_each_operation, refusal_for

if TYPE_CHECKING:
    from tests.system.conftest import MiddlewareClient

CONTENT = bytes(range(256)) * 1000


def check_answer(code: int, answer: dict[str, Any], error: int) -> None:
    """Check that the client gets the expected error."""
    if code == 200:
        assert answer["state"] == "done"
    else:
        assert (code, answer["code"]) == refusal_for(error)


@pytest.mark.full
@pytest.mark.parametrize("form", [True, False], ids=["form", "plain"])
@pytest.mark.parametrize(
    ("error", "lasting"),
    [(errno.ENOSPC, True), (errno.EDQUOT, False), (errno.EIO, True), (errno.EIO, False), (errno.EMFILE, False)],
    ids=["ENOSPC", "EDQUOT-once", "EIO", "EIO-once", "EMFILE-once"],
)
def test_an_upload_can_be_retried_after_any_disk_failure(
    client: MiddlewareClient, disk: Disk, error: int, lasting: bool, form: bool
) -> None:
    """If any operation fails, the answer is 507, 503 or 500, no partial file is done, and a retry succeeds."""
    body, contents = (client.make_form(CONTENT, CONTENT), [CONTENT, CONTENT]) if form else (CONTENT, [CONTENT])

    def attempt() -> None:
        identifier = client.manager.create_identifier()
        code, answer = client.send(identifier, body, form=form)
        disk.fail_at = 0
        check_answer(code, answer, error)
        stored = client.stored(identifier)
        assert stored == contents or (stored is None and code != 200)
        if code != 200:
            if stored:  # the upload was made durable in the end, though the answer was an error
                assert client.manager.clear_upload_bucket(identifier)
            assert client.send(identifier, body, form=form)[0] == 200
            assert client.stored(identifier) == contents
        assert client.names(identifier) == sorted([str(n) for n in range(len(contents))] + ["lock", "status.json"])

    assert for_each_operation(disk, error, lasting, attempt) > 20


@pytest.mark.full
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_finished_upload_survives_a_failing_disk(client: MiddlewareClient, disk: Disk, error: int) -> None:
    """If any operation of a second upload fails, the finished one keeps its bytes."""
    identifier = client.manager.create_identifier()
    assert client.send(identifier, CONTENT, form=False)[0] == 200

    def attempt() -> None:
        code, _ = client.send(identifier, b"other", form=False)
        disk.fail_at = 0
        assert code in {409, refusal_for(error)[0]}
        assert client.stored(identifier) == [CONTENT]

    for_each_operation(disk, error, False, attempt)


@pytest.mark.full
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_refusal_survives_a_failing_disk(client: MiddlewareClient, disk: Disk, error: int) -> None:
    """If any operation fails while a refusal is recorded, the client gets the refusal or the disk's error."""
    done, new = client.manager.create_identifier(), client.manager.create_identifier()
    assert client.send(done, CONTENT, form=False)[0] == 200

    def attempt() -> None:
        for identifier in (done, new):
            code, _ = client.send(identifier, b"x", form=True)  # without a boundary: refused while the body is read
            assert code in {400, 409, refusal_for(error)[0]}
        disk.fail_at = 0
        assert client.stored(done) == [CONTENT]
        assert client.stored(new) is None

    for_each_operation(disk, error, False, attempt)
