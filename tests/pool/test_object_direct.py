"""Direct uploads into an object store keep the contract, on real stores, and what a store asks for beside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
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
from tests.pool import sending
from tests.pool.direct_contract import DirectContract
from tests.stores.fixtures import Place
from tests.waiting import PATIENCE

DYING = Path(__file__).with_name("dying.py")
DEAD_AFTER = 0.5  # seconds, for the processes that died


@pytest.fixture
def prefix() -> str:
    return f"direct/{uuid.uuid4().hex}"


@pytest.fixture
def pool(place: Place, prefix: str) -> ObjectPool:
    return ObjectPool(place.store, prefix)


@pytest.fixture
def reopened(place: Place, prefix: str) -> ObjectPool:
    return ObjectPool(place.store, prefix)


@pytest.fixture
def contents() -> list[bytes]:
    """Parts of a file, as small as stores take them."""
    return [b"a" * MIN_PART_SIZE, b"b" * MIN_PART_SIZE, b"c" * 10]


def every_step(pool: ObjectPool) -> int:
    """Return from how many steps one is tried: Swift takes long for each, and differs from Ceph in few."""
    return 1 if pool.store.rejects_late_parts else 3


@pytest.fixture
def dying(pool: ObjectPool, place: Place, prefix: str) -> Callable[[], list[str]]:
    """Let processes die at each step of an upload; return the buckets."""
    pool._dead_after = DEAD_AFTER
    settings = json.dumps({"pool": f"s3://{place.store.s3_bucket}/{prefix}", **place.access})
    every = str(every_step(pool))

    def run() -> list[str]:
        command = [sys.executable, str(DYING), "store", settings, every]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=4 * PATIENCE)
        return ended.stdout.split()

    return run


class TestObjectDirect(DirectContract):
    """All that is promised of direct uploads."""

    def everything(self, pool: Pool) -> list[str]:
        assert isinstance(pool, ObjectPool)
        found = [each.key for each in pool.store.list(pool.prefix)]
        return found + [upload for _, upload, _ in pool.store.list_multipart_uploads(pool.prefix)]

    def bytes_in(self, pool: Pool) -> list[str]:
        names = [name for name in self.everything(pool) if not name.endswith(".form")]  # which holds a key
        return [name for name in names if "/f/" in name or pool_prefix(pool) not in name]


def test_a_large_form_that_is_sent_again(pool: ObjectPool, reopened: ObjectPool) -> None:
    """What a superseded form has sent to the store is freed while its client is still there, and no more is sent."""
    token = sending.begin(pool, [DEFAULT_PART_SIZE], form=True)
    direct = pool.direct(sending.ID, token)
    if direct.form(0, 10, "image/png", sending.LIFE) is not None:
        pytest.skip("the store takes it by itself")
    older = direct.receive_part(1)
    older.write(bytes(DEFAULT_PART_SIZE + 1))
    assert len(list(pool.store.list_multipart_uploads(pool.prefix))) == 1
    newer = reopened.direct(sending.ID, token).receive_part(1)
    assert list(pool.store.list_multipart_uploads(pool.prefix)) == []
    with pytest.raises(Superseded):
        older.write(bytes(DEFAULT_PART_SIZE))
    older.abandon()
    newer.write(b"new")
    newer.close()
    sending.complete(pool)
    assert sending.read(pool) == b"new"


def test_a_part_has_the_length_that_was_signed(pool: ObjectPool, contents: list[bytes]) -> None:
    """A store takes neither more nor less than the address is for, and nothing for another part."""
    direct = pool.direct(sending.ID, sending.begin(pool, [*map(len, contents)]))
    send = sending.address(direct, 1, len(contents[0]))
    for wrong in (contents[0] + b"x", contents[0][:-1], b""):
        with pytest.raises(sending.RefusedError):
            send(wrong)
    url = str(direct.part_url(1, 3, sending.LIFE))
    for changed in (url.replace("partNumber=1", "partNumber=2"), url.replace("/0", "/1"), url + "x"):
        assert requests.put(changed, data=b"abc", timeout=PATIENCE).status_code == 403
    assert requests.get(url, timeout=PATIENCE).status_code == 403
    assert list(direct.parts()) == []


def test_an_address_expires(pool: ObjectPool) -> None:
    """After its time an address takes nothing."""
    direct = pool.direct(sending.ID, sending.begin(pool, [5]))
    send = sending.address(direct, 1, 5, expires=1)
    time.sleep(2.1)
    with pytest.raises(sending.RefusedError):
        send(b"bytes")
    assert list(direct.parts()) == []


def test_where_nothing_was_begun(pool: ObjectPool) -> None:
    """Without an undertaking, as after a crash or in a form, there is no address for a part."""
    for direct in (pool.direct(sending.ID, "0" * 16), pool.direct(sending.ID, sending.begin(pool, [5], form=True))):
        with pytest.raises(Superseded):
            direct.part_url(1, 5, sending.LIFE)
        assert list(direct.parts()) == []


@pytest.fixture
def impatient(place: Place, prefix: str) -> ObjectPool:
    """The pool of one who takes all others for dead."""
    return ObjectPool(place.store, prefix, dead_after=0)


def test_who_was_taken_for_dead(pool: ObjectPool, impatient: ObjectPool) -> None:
    """Who is not dead after all, at any step, takes nothing away from who has completed the upload in his place."""
    uploads = DirectUploads(UploadManager(pool, Settings.parse({"upload_key": "k" * 32})))
    left = [-1]
    events = pool.store.client.meta.events  # type: ignore[attr-defined]

    def interfere(**_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            with suppress(UploadError):  # it may be done already
                sending.complete(impatient)

    events.register("before-call.s3", interfere)
    try:
        for number in count(1, every_step(pool)):
            sending.send_all(pool, sending.begin(pool, [5]), [b"bytes"])
            left[0] = number
            try:
                uploads.complete(sending.ID)
            except (AlreadyDone, Superseded, Busy):
                assert left[0] <= 0
            ended, left[0] = left[0] > 0, -1
            assert pool.bucket(sending.ID).is_complete(), number
            assert sending.read(pool) == b"bytes", number
            assert pool.clear(sending.ID)
            if ended:
                break
    finally:
        events.unregister("before-call.s3", interfere)
    assert number > 10


@pytest.fixture
def before_copies(store: S3Store) -> Iterator[list[Callable[[], object]]]:
    """What is to happen when a file has been made of its parts, and is about to be copied."""
    happening: list[Callable[[], object]] = []

    def happen(**_: Any) -> None:
        while happening:
            happening.pop()()

    store.client.meta.events.register("before-call.s3.CopyObject", happen)
    yield happening
    store.client.meta.events.unregister("before-call.s3.CopyObject", happen)


@pytest.mark.parametrize("place", ["swift"], indirect=True)
@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
def test_a_late_part_where_a_store_does_not_seal(
    pool: ObjectPool, contents: list[bytes], before_copies: list[Callable[[], object]], same: bool
) -> None:
    """What is sent to an object that is made already, and not yet copied, is in no file: the upload fails instead.

    The same bytes once more do no harm.
    """
    again = sending.send_all(pool, sending.begin(pool, [*map(len, contents)]), contents)
    before_copies.append(lambda: again[1](contents[1] if same else b"z" * len(contents[1])))
    if same:
        sending.complete(pool)
        assert sending.read(pool) == b"".join(contents)
        return
    attempt = pool.resume(sending.ID)
    direct = pool.direct(sending.ID, attempt.token)
    with pytest.raises(OSError, match="the object store answered"):
        direct.assemble(direct.parts(), hashed=False)
    assert [part.number for part in direct.parts()] == [1, 2, 3]
    with pytest.raises(Incomplete):
        direct.assemble(direct.parts(), hashed=False)
    direct.abandon()
    attempt.fail(attempt.status.failed(Incomplete("changed")))
    assert [each.key for each in pool.store.list(pool.prefix) if "/f/" in each.key] == []
    assert list(pool.store.list_multipart_uploads(pool.prefix)) == []


class Losses:
    """Loses the answer to one of the requests to a store, which has done what it was asked for.

    :ivar left: so many requests until then.
    """

    left = -1

    def lose(self, request: Any, **_: Any) -> None:
        """Send *request* in the place of boto3, if its turn has come, and let the answer be lost."""
        self.left -= 1
        if self.left != 0:
            return
        body = request.body.read() if hasattr(request.body, "read") else request.body
        headers = {name: value for name, value in request.headers.items() if name != "Expect"}
        requests.request(request.method, request.url, data=body, headers=headers, timeout=PATIENCE)
        raise ConnectionClosedError(endpoint_url=request.url)


@pytest.fixture
def losses(ceph_store: S3Store) -> Iterator[Losses]:
    """Lose what is set later."""
    losses = Losses()
    ceph_store.client.meta.events.register("before-send.s3", losses.lose)
    yield losses
    ceph_store.client.meta.events.unregister("before-send.s3", losses.lose)


@pytest.mark.parametrize("place", ["radosgw"], indirect=True)
def test_answers_are_lost(pool: ObjectPool, losses: Losses) -> None:
    """Whichever answer of the store is lost, so that the request is sent again, the upload comes to its end."""
    for number in count(1):
        bucket, losses.left = f"{number:032x}", number
        sending.address(pool.direct(bucket, sending.begin(pool, [5], bucket=bucket)), 1, 5)(b"bytes")
        sending.complete(pool, bucket=bucket, hashed=True)
        ended = losses.left > 0
        losses.left = -1
        assert sending.read(pool, bucket) == b"bytes", number
        assert pool.clear(bucket)
        assert list(pool.store.list(pool.bucket_store(bucket).key())) == []
        if ended:
            break
    assert number > 20


def pool_prefix(pool: Pool) -> str:
    assert isinstance(pool, ObjectPool)
    return pool.prefix
