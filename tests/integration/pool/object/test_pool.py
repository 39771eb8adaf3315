"""The contract of pools in an object store, with real stores: OpenStack Swift and Ceph by their S3 interfaces."""

import json
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fileupload.errors import AlreadyDone, FileMissing, Superseded
from fileupload.pool.base import Pool
from fileupload.pool.object.pool import DEAD_AFTER, ObjectPool
from fileupload.pool.object.snapshot import BucketSnapshot
from fileupload.status import State, UploadStatus, timestamp
from tests.support import pool_contract as contract
from tests.support.clock import Clock
from tests.support.stores.fixtures import Place
from tests.support.waiting import PATIENCE

MEBIBYTE = 1 << 20

_CRASH_WHILE_UPLOADING = """
import json, os, sys
from dataclasses import replace
from fileupload.pool.s3.store import open_pool
from fileupload.settings import Settings
from fileupload.status import State, UploadStatus
settings, bucket_id, now, resumable = sys.argv[1:]
status = UploadStatus(state=State.STARTING, size=9, started=now, updated=now)
status = replace(status, resumable=bool(resumable))
attempt = open_pool(Settings.parse(json.loads(settings))).begin(bucket_id, status)
attempt.create_file().write(bytes(range(256)) * 4096 * 9)
attempt.publish(status)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def crashed(place: Place, prefix: str, clock: Clock) -> ObjectPool:
    """A pool with an upload whose process was killed; its last heartbeat is older than the limit."""
    return crash(place, prefix, "", clock)


@pytest.fixture
def crashed_resumable(place: Place, prefix: str, clock: Clock) -> ObjectPool:
    """A pool with such an upload that can be resumed."""
    return crash(place, prefix, "resumable", clock)


def crash(place: Place, prefix: str, resumable: str, clock: Clock) -> ObjectPool:
    settings = json.dumps({"pool": f"s3://{place.store.s3_bucket}/{prefix}", **place.access})
    arguments = (settings, contract.ID, timestamp(), resumable)
    subprocess.run([sys.executable, "-c", _CRASH_WHILE_UPLOADING, *arguments], check=False, timeout=60)
    pool = ObjectPool(place.store, prefix)
    assert pool.bucket(contract.ID).get_status().running
    clock.advance(DEAD_AFTER + 1)
    assert not pool.bucket(contract.ID).get_status().running
    return pool


def keys_of(pool: ObjectPool) -> list[str]:
    """Return the keys of all files in a pool, finished or not."""
    finished = [each.key for each in pool.store.list(pool.prefix) if "/f/" in each.key]
    return finished + [key for key, _, _ in pool.store.list_multipart_uploads(pool.prefix)]


class TestObjectPool(contract.PoolContract):
    """The contract of pools."""

    races = 8

    def lose_key(self, pool: Pool) -> None:
        assert isinstance(pool, ObjectPool)
        pool.store.delete([pool.prefix + ".upload_key"])

    def assert_no_bytes(self, pool: Pool) -> None:
        assert isinstance(pool, ObjectPool)
        assert keys_of(pool) == []


def test_a_large_file_is_stored_in_parts(pool: ObjectPool, reopened: ObjectPool) -> None:
    """A file of several parts has its bytes in order, with any chunk sizes, and can be read from any offset."""
    content = b"".join(number.to_bytes(8, "big") for number in range(21 * MEBIBYTE // 8)) + b"end"
    attempt = pool.begin(contract.ID, contract.starting())
    writer = attempt.create_file()
    for at in range(0, len(content), 777_777):
        writer.write(content[at : at + 777_777])
    writer.close()
    attempt.finish(contract.starting().done(contract.uploaded(len(content)), {}))
    bucket = reopened.find_bucket(contract.ID)
    assert bucket is not None
    assert contract.read(bucket) == content
    with bucket.open() as file:
        file.seek(-3, 2)
        assert file.read() == b"end"
        file.seek(8 * MEBIBYTE)
        assert file.read(8) == content[8 * MEBIBYTE : 8 * MEBIBYTE + 8]
    assert list(pool.store.list_multipart_uploads(pool.prefix)) == []


def test_the_remains_of_a_crash_are_purged(crashed: ObjectPool) -> None:
    """After a crash in the middle of a large file, nothing of it remains once it is purged, not even its parts."""
    assert keys_of(crashed) != []
    assert [bucket.id for bucket in crashed.purge(1.0)] == [contract.ID]
    assert [each.key for each in crashed.store.list(crashed.prefix)] == []
    assert keys_of(crashed) == []


def test_a_write_after_a_clear_does_not_make_the_bucket_done(pool: ObjectPool) -> None:
    """An attempt that writes after its bucket was cleared does not make the bucket done."""
    attempt = pool.begin(contract.ID, contract.starting())
    contract.store(attempt, b"late")
    pool.clear(contract.ID)
    record = contract.starting().done(contract.uploaded(4), {}).to_record() | {"attempt": attempt.token}
    pool.store.put(pool.bucket_store(contract.ID).key("d"), repr(record).replace("'", '"').encode())
    assert pool.bucket(contract.ID).get_status().state is State.UNKNOWN
    with pytest.raises(Superseded):
        attempt.finish(contract.starting())


def test_one_of_two_simultaneous_attempts_finishes(pool: ObjectPool, reopened: ObjectPool) -> None:
    """Of two attempts that both count themselves as the owner, one finishes, and its bytes are read."""
    first = pool.begin(contract.ID, contract.starting())
    contract.store(first, b"first")
    snapshot = pool.bucket_store(contract.ID).snapshot()
    contract.complete(reopened, contract.ID, b"second")
    assert pool.bucket_store(contract.ID).write_done(b"{}") is False
    assert first.marker == snapshot.newest
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    assert contract.read(bucket) == b"second"


def test_a_new_attempt_does_not_remove_an_upload_that_just_finished(
    pool: ObjectPool, reopened: ObjectPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new attempt that has not yet seen that the upload was finished does not remove its file."""
    first = pool.begin(contract.ID, contract.starting())
    contract.store(first, b"first")
    beginning = reopened.bucket_store(contract.ID)
    look = beginning.snapshot

    def look_too_early() -> BucketSnapshot:
        snapshot = look()
        if not snapshot.done:
            first.finish(contract.starting().done(contract.uploaded(5), {}))
        return snapshot

    monkeypatch.setattr(beginning, "snapshot", look_too_early)
    monkeypatch.setattr(reopened, "bucket_store", lambda _: beginning)
    with pytest.raises(AlreadyDone):
        reopened.begin(contract.ID, contract.starting())
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    assert contract.read(bucket) == b"first"


def test_a_clear_checks_its_condition_again_under_its_claim(pool: ObjectPool, reopened: ObjectPool) -> None:
    """A clear whose condition held at first checks it again under its claim, and finds the upload kept."""
    contract.complete(pool)
    asked: list[bool] = []

    def is_not_kept(status: UploadStatus) -> bool:
        asked.append(status.kept)
        if len(asked) == 1:
            reopened.bucket(contract.ID).keep()
        return not status.kept

    assert pool.clear(contract.ID, condition=is_not_kept) is False
    assert asked == [False, True]
    assert contract.read(pool.bucket(contract.ID)) == contract.CONTENT


def test_keeping_an_upload_that_is_being_cleared_fails(
    pool: ObjectPool, reopened: ObjectPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeping an upload after the last check of a clear waits for the end of the clear, and fails."""
    contract.complete(pool)
    looked = threading.Event()
    keeping = reopened.bucket_store(contract.ID)
    look = keeping.snapshot
    asked: list[bool] = []

    def look_and_tell() -> BucketSnapshot:
        snapshot = look()
        if any(key.endswith("/k") for key in snapshot.keys):
            looked.set()
        return snapshot

    def is_not_kept(status: UploadStatus) -> bool:
        asked.append(status.kept)
        if len(asked) == 2:
            kept.append(threads.submit(reopened.bucket(contract.ID).keep))
            assert looked.wait(PATIENCE)
        return not status.kept

    monkeypatch.setattr(keeping, "snapshot", look_and_tell)
    monkeypatch.setattr(reopened, "bucket_store", lambda _: keeping)
    kept: list[Future[None]] = []
    with ThreadPoolExecutor(1) as threads:
        assert pool.clear(contract.ID, condition=is_not_kept) is True
        with pytest.raises(FileMissing):
            kept[0].result(PATIENCE)
    assert pool.find_bucket(contract.ID) is None
    assert [each.key for each in pool.store.list(pool.bucket_store(contract.ID).key())] == []


def test_a_presigned_url_serves_the_file_under_its_name(pool: ObjectPool) -> None:
    """Any client can read the file by its signed address, under its own name."""
    import requests

    contract.complete(pool, contract.ID, b"for all")
    bucket = pool.bucket(contract.ID)
    answer = requests.get(bucket.url(expires=60), timeout=30)
    assert (answer.status_code, answer.content) == (200, b"for all")
    assert "0.bin" in answer.headers["Content-Disposition"]
    assert requests.get(bucket.url(expires=60).replace("Signature=", "Signature=x"), timeout=30).status_code == 403
