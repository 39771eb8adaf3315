"""Direct uploads into an object store: the contract on real stores, and the requirements of a store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
import requests
from botocore.compat import get_current_datetime
from botocore.exceptions import ConnectionClosedError

from fileupload.errors import AlreadyDone, Busy, Incomplete, Superseded, UploadError
from fileupload.manager import UploadManager
from fileupload.pool.base import Pool
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.parts import MIN_PART_SIZE
from fileupload.pool.s3.store import S3Store
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.settings import Settings
from tests.support import crash_process, upload_clients
from tests.support.direct_contract import DirectContract
from tests.support.stores.fixtures import Place
from tests.support.waiting import PATIENCE

CRASH_PROCESS = Path(crash_process.__file__)
DEAD_AFTER = 0.5  # seconds, for the crashed processes


@pytest.fixture
def contents() -> list[bytes]:
    """Return parts of a file, of the smallest size that stores accept."""
    return [b"a" * MIN_PART_SIZE, b"b" * MIN_PART_SIZE, b"c" * 10]


def every_step(pool: ObjectPool) -> int:
    """Return the interval between tested steps: Swift is slow at each, and differs from Ceph in few."""
    return 1 if pool.store.rejects_late_parts else 3


@pytest.fixture
def crash_uploads(pool: ObjectPool, place: Place, prefix: str) -> Callable[[], list[str]]:
    """Crash processes at the tested steps of an upload; return the buckets."""
    pool._dead_after = DEAD_AFTER
    settings = json.dumps({"pool": f"s3://{place.store.s3_bucket}/{prefix}", **place.access})
    every = str(every_step(pool))

    def run() -> list[str]:
        command = [sys.executable, str(CRASH_PROCESS), "store", settings, every]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=4 * PATIENCE)
        return ended.stdout.split()

    return run


class TestObjectDirect(DirectContract):
    """The contract of direct uploads."""

    def everything(self, pool: Pool) -> list[str]:
        assert isinstance(pool, ObjectPool)
        found = [each.key for each in pool.store.list(pool.prefix)]
        return found + [upload for _, upload, _ in pool.store.list_multipart_uploads(pool.prefix)]

    def bytes_in(self, pool: Pool) -> list[str]:
        names = [name for name in self.everything(pool) if not name.endswith(".form")]  # such an object holds a key
        return [name for name in names if "/f/" in name or pool_prefix(pool) not in name]


def test_a_superseded_large_form_is_freed_while_it_is_received(pool: ObjectPool, reopened: ObjectPool) -> None:
    """The data of a superseded form is freed in the store while its client is connected, and no more is sent."""
    token = upload_clients.begin(pool, [DEFAULT_PART_SIZE], form=True)
    direct = pool.direct(upload_clients.ID, token)
    if direct.form(0, 10, "image/png", upload_clients.LIFE) is not None:
        pytest.skip("the store takes it by itself")
    older = direct.receive_part(1)
    older.write(bytes(DEFAULT_PART_SIZE + 1))
    assert len(list(pool.store.list_multipart_uploads(pool.prefix))) == 1
    newer = reopened.direct(upload_clients.ID, token).receive_part(1)
    assert list(pool.store.list_multipart_uploads(pool.prefix)) == []
    with pytest.raises(Superseded):
        older.write(bytes(DEFAULT_PART_SIZE))
    older.abandon()
    newer.write(b"new")
    newer.close()
    upload_clients.complete(pool)
    assert upload_clients.read(pool) == b"new"


def test_a_part_has_the_length_that_was_signed(pool: ObjectPool, contents: list[bytes]) -> None:
    """An address accepts exactly the signed length, and no other part."""
    direct = pool.direct(upload_clients.ID, upload_clients.begin(pool, [*map(len, contents)]))
    send = upload_clients.address(direct, 1, len(contents[0]))
    for wrong in (contents[0] + b"x", contents[0][:-1], b""):
        with pytest.raises(upload_clients.RefusedError):
            send(wrong)
    url = str(direct.part_url(1, 3, upload_clients.LIFE))
    for changed in (url.replace("partNumber=1", "partNumber=2"), url.replace("/0", "/1"), url + "x"):
        assert requests.put(changed, data=b"abc", timeout=PATIENCE).status_code == 403
    assert requests.get(url, timeout=PATIENCE).status_code == 403
    assert list(direct.parts()) == []


def test_a_presigned_url_expires(pool: ObjectPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address expires: of two that were signed a minute ago one is still valid."""
    direct = pool.direct(upload_clients.ID, upload_clients.begin(pool, [5]))
    with monkeypatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: get_current_datetime() - timedelta(minutes=1))
        outdated, good = (upload_clients.address(direct, 1, 5, expires=seconds) for seconds in (30, 600))
    with pytest.raises(upload_clients.RefusedError):
        outdated(b"bytes")
    assert list(direct.parts()) == []
    good(b"bytes")
    assert [part.size for part in direct.parts()] == [5]


def test_there_is_no_part_url_without_a_multipart_upload(pool: ObjectPool) -> None:
    """Without an undertaking, as after a crash or in a form, there is no address for a part."""
    for direct in (
        pool.direct(upload_clients.ID, "0" * 16),
        pool.direct(upload_clients.ID, upload_clients.begin(pool, [5], form=True)),
    ):
        with pytest.raises(Superseded):
            direct.part_url(1, 5, upload_clients.LIFE)
        assert list(direct.parts()) == []


@pytest.fixture
def pool_without_grace_time(place: Place, prefix: str) -> ObjectPool:
    """Return a pool that counts all other attempts as crashed."""
    return ObjectPool(place.store, prefix, dead_after=0)


def test_an_attempt_wrongly_counted_as_crashed_removes_nothing(
    pool: ObjectPool, pool_without_grace_time: ObjectPool
) -> None:
    """An attempt that was wrongly counted as crashed, at any step, takes nothing from its completed successor."""
    uploads = DirectUploads(UploadManager(pool, Settings.parse({"upload_key": "k" * 32})))
    left = [-1]
    events = pool.store.client.meta.events  # type: ignore[attr-defined]

    def interfere(**_: Any) -> None:
        # A heartbeat is no step: in its thread, the successor would run beside the attempt, and both may then give way.
        if threading.current_thread().name == "fileupload-heartbeats":
            return
        left[0] -= 1
        if left[0] == 0:
            with suppress(UploadError):  # it may be done already
                upload_clients.complete(pool_without_grace_time)

    events.register("before-call.s3", interfere)
    try:
        for number in count(1, every_step(pool)):
            upload_clients.send_all(pool, upload_clients.begin(pool, [5]), [b"bytes"])
            left[0] = number
            try:
                uploads.complete(upload_clients.ID)
            except (AlreadyDone, Superseded, Busy):
                assert left[0] <= 0
            ended, left[0] = left[0] > 0, -1
            assert pool.bucket(upload_clients.ID).is_complete(), number
            assert upload_clients.read(pool) == b"bytes", number
            assert pool.clear(upload_clients.ID)
            if ended:
                break
    finally:
        events.unregister("before-call.s3", interfere)
    assert number > 10


@pytest.fixture
def before_copies(store: S3Store) -> Iterator[list[Callable[[], object]]]:
    """Return the actions to run after a file was joined from its parts, before it is copied."""
    happening: list[Callable[[], object]] = []

    def happen(**_: Any) -> None:
        while happening:
            happening.pop()()

    store.client.meta.events.register("before-call.s3.CopyObject", happen)
    yield happening
    store.client.meta.events.unregister("before-call.s3.CopyObject", happen)


@pytest.mark.parametrize("place", ["swift"], indirect=True)
@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
def test_a_late_part_that_the_store_accepts_is_in_no_file(
    pool: ObjectPool, contents: list[bytes], before_copies: list[Callable[[], object]], same: bool
) -> None:
    """Data sent to an object that is joined, and not yet copied, is in no file: the upload fails instead.

    Sending the same bytes again has no effect.
    """
    again = upload_clients.send_all(pool, upload_clients.begin(pool, [*map(len, contents)]), contents)
    before_copies.append(lambda: again[1](contents[1] if same else b"z" * len(contents[1])))
    if same:
        upload_clients.complete(pool)
        assert upload_clients.read(pool) == b"".join(contents)
        return
    attempt = pool.resume(upload_clients.ID)
    direct = pool.direct(upload_clients.ID, attempt.token)
    with pytest.raises(OSError, match="the object store answered"):
        direct.assemble(direct.parts(), hashed=False)
    assert [part.number for part in direct.parts()] == [1, 2, 3]
    with pytest.raises(Incomplete):
        direct.assemble(direct.parts(), hashed=False)
    direct.abandon()
    attempt.fail(attempt.status.failed(Incomplete("changed")))
    assert [each.key for each in pool.store.list(pool.prefix) if "/f/" in each.key] == []
    assert list(pool.store.list_multipart_uploads(pool.prefix)) == []


class LostAnswers:
    """Loses the answer to one of the requests to a store, which has carried it out.

    :ivar left: the number of requests until the loss.
    """

    left = -1

    def lose(self, request: Any, **_: Any) -> None:
        """Send *request* in place of boto3, and lose the answer if it is the chosen request."""
        self.left -= 1
        if self.left != 0:
            return
        body = request.body.read() if hasattr(request.body, "read") else request.body
        headers = {name: value for name, value in request.headers.items() if name != "Expect"}
        requests.request(request.method, request.url, data=body, headers=headers, timeout=PATIENCE)
        raise ConnectionClosedError(endpoint_url=request.url)


@pytest.fixture
def lost_answers(ceph_store: S3Store) -> Iterator[LostAnswers]:
    """Lose the answers that the test chooses."""
    lost_answers = LostAnswers()
    ceph_store.client.meta.events.register("before-send.s3", lost_answers.lose)
    yield lost_answers
    ceph_store.client.meta.events.unregister("before-send.s3", lost_answers.lose)


@pytest.mark.parametrize("place", ["radosgw"], indirect=True)
def test_an_upload_completes_despite_a_lost_answer_of_the_store(pool: ObjectPool, lost_answers: LostAnswers) -> None:
    """An upload completes though the answer to any one request to the store is lost, and the request is repeated."""
    for number in count(1):
        bucket, lost_answers.left = f"{number:032x}", number
        upload_clients.address(pool.direct(bucket, upload_clients.begin(pool, [5], bucket=bucket)), 1, 5)(b"bytes")
        upload_clients.complete(pool, bucket=bucket, hashed=True)
        ended = lost_answers.left > 0
        lost_answers.left = -1
        assert upload_clients.read(pool, bucket) == b"bytes", number
        assert pool.clear(bucket)
        assert list(pool.store.list(pool.bucket_store(bucket).key())) == []
        if ended:
            break
    assert number > 20


def pool_prefix(pool: Pool) -> str:
    assert isinstance(pool, ObjectPool)
    return pool.prefix
