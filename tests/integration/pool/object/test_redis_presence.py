"""Presence in Redis: live progress and owners across nodes, and no dependence on Redis."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from fileupload.errors import Busy, SettingError, Superseded
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.object.presence import ObjectPresence
from fileupload.pool.object.redis_presence import RedisPresence
from fileupload.pool.s3.store import S3Store
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.stores.fixtures import Place
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.conftest import Redis

ID = "0123456789abcdef" * 2


# Valkey is installed from PyPI, and available wherever the tests run.
pytestmark = pytest.mark.full_with(redis_server="redis-server")


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def node(any_place: Place, redis_server: Redis, prefix: str) -> Callable[..., ObjectPool]:
    """Return a function that makes the pool as another node has it."""

    def make(dead_after: float = 30.0, presence: type[RedisPresence] = RedisPresence) -> ObjectPool:
        in_redis = presence(redis_server.url, prefix, ObjectPresence(any_place.store, prefix + "/"))
        return ObjectPool(any_place.store, prefix, presence=in_redis, dead_after=dead_after)

    return make


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    """Return a client that reads and changes the keys in Redis."""
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def no_ownership_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts never check the store on their own, so that all their information is from Redis."""
    monkeypatch.setattr("fileupload.pool.object.attempt._OWNERSHIP_CHECK_INTERVAL", float("inf"))


def running(received: int) -> UploadStatus:
    now = timestamp()
    return UploadStatus(state=State.UPLOADING, filename="a", size=100, received=received, started=now, updated=now)


def resumable(received: int) -> UploadStatus:
    return replace(running(received), resumable=True)


def done(size: int) -> UploadStatus:
    file = UploadedFile(field="f", filename="a", content_type="text/plain", size=size)
    return running(size).done((file,), {})


def read(pool: ObjectPool) -> bytes:
    with pool.bucket(ID).open() as file:
        return file.read()


def keys_of(client: redis.Redis, ending: str) -> list[str]:
    return [key for key in map(str, client.scan_iter()) if key.endswith(ending)]


def owner(client: redis.Redis) -> Any:
    """Return the owner of the bucket in Redis."""
    (key,) = keys_of(client, ":" + ID)
    return client.get(key)


def test_progress_is_visible_to_other_nodes_without_a_write_to_the_store(node: Callable[..., ObjectPool]) -> None:
    """A progress published by one node is the next that the other reads, without a write to the store."""
    here, there = node(), node()
    attempt = here.begin(ID, replace(running(0), state=State.STARTING))
    for received in (1, 2, 3):
        attempt.publish(running(received))
        assert there.bucket(ID).get_status().received == received
    assert not [each.key for each in here.store.list(here.prefix) if "/p/" in each.key]
    attempt.fail(running(3))


@pytest.mark.usefixtures("no_ownership_checks")
def test_a_superseded_attempt_is_notified_at_its_next_publication(node: Callable[..., ObjectPool]) -> None:
    """An attempt learns at its next publication that another node owns the bucket, without reading the store."""
    here, there = node(), node()
    older = here.begin(ID, running(0))
    older.publish(running(1))
    newer = there.begin(ID, running(0))
    with pytest.raises(Superseded):
        older.publish(running(2))
    writer = newer.create_file()
    writer.write(b"newer")
    writer.close()
    newer.publish(running(5))
    newer.finish(done(5))
    assert read(here) == b"newer"


@pytest.mark.usefixtures("no_ownership_checks")
def test_an_attempt_is_notified_of_its_resumption_at_its_next_publication(node: Callable[..., ObjectPool]) -> None:
    """An attempt that was wrongly counted as crashed learns at its next publication that it was superseded."""
    here, there = node(), node(dead_after=1e-9)
    older = here.begin(ID, resumable(0))
    older.publish(resumable(0))
    here._heartbeats.end(older)
    older.create_file().write(b"some")
    here.presence.withdraw(ID, older.token)
    wait_until(lambda: not there.bucket(ID).get_status().running)
    newer = there.resume(ID)
    with pytest.raises(Superseded):
        older.publish(resumable(4))
    newer.publish(resumable(0))


@pytest.mark.usefixtures("no_ownership_checks")
def test_an_attempt_is_notified_of_a_clear_at_its_next_publication(node: Callable[..., ObjectPool]) -> None:
    """At its next publication an attempt learns that another node has cleared the bucket, and the next one owns it."""
    here, there = node(), node()
    older = here.begin(ID, running(0))
    older.publish(running(1))
    assert there.clear(ID)
    with pytest.raises(Superseded):
        older.publish(running(2))
    newer = here.begin(ID, running(0))
    newer.publish(running(1))
    assert there.bucket(ID).get_status().received == 1


def test_one_of_two_concurrent_resumptions_succeeds(
    node: Callable[..., ObjectPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two nodes that resume an upload at once, one succeeds, and the other is refused before it writes anything."""
    together = threading.Barrier(2)
    written: list[str] = []
    put = S3Store.put

    class Waiting(RedisPresence):
        """Claims after both have seen that the upload is suspended."""

        def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
            together.wait(PATIENCE)
            return super().acquire_resume_lease(bucket_id, token)

    def record(store: S3Store, key: str, data: bytes, *, new: bool = False) -> bool:
        written.append(key)
        return put(store, key, data, new=new)

    def resume(pool: ObjectPool) -> str:
        try:
            return pool.resume(ID).marker
        except Busy:
            return ""

    node().begin(ID, resumable(0)).suspend(resumable(0))
    monkeypatch.setattr(S3Store, "put", record)
    with ThreadPoolExecutor(2) as threads:
        markers = list(threads.map(resume, [node(presence=Waiting) for _ in range(2)]))
    assert [key for key in written if "/a/" in key] == [marker for marker in markers if marker]
    assert markers.count("") == 1


def test_a_resume_lease_expires(node: Callable[..., ObjectPool], client: redis.Redis) -> None:
    """The claim of a crashed node blocks an upload only until the claim expires."""
    here, there = node(), node()
    attempt = here.begin(ID, resumable(0))
    attempt.suspend(resumable(0))
    assert here.presence.acquire_resume_lease(ID, attempt.token)
    with pytest.raises(Busy):
        there.resume(ID)
    (key,) = keys_of(client, ":next")
    assert 0 < client.pttl(key) <= 10_000
    client.delete(key)
    there.resume(ID)


@pytest.mark.usefixtures("no_ownership_checks")
@pytest.mark.parametrize("news", [b"0123456789abcdef", b"", b"\xff\xfe"])
def test_a_wrong_owner_in_redis_is_corrected(node: Callable[..., ObjectPool], client: redis.Redis, news: bytes) -> None:
    """An attempt that owns the bucket continues despite a wrong owner in Redis, and corrects it."""
    pool = node()
    attempt = pool.begin(ID, running(0))
    (key,) = keys_of(client, ":" + ID)
    client.set(key, news)
    attempt.publish(running(1))
    assert owner(client) == attempt.token
    attempt.publish(running(2))
    assert node().bucket(ID).get_status().received == 2


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b"{}", b"null"])
def test_an_invalid_status_in_redis_is_ignored(
    node: Callable[..., ObjectPool], client: redis.Redis, text: bytes
) -> None:
    """If Redis holds an invalid status, the one in the store is read."""
    attempt = node().begin(ID, running(0))
    attempt.publish(running(1))
    (key,) = keys_of(client, ":" + attempt.token)
    client.set(key, text)
    pool = node()
    assert pool.presence.get(ID, attempt.token) == text.decode(errors="replace")
    status = pool.bucket(ID).get_status()
    assert (status.running, status.received, status.filename) == (True, 0, "a")


@pytest.mark.usefixtures("no_ownership_checks")
def test_a_heartbeat_restores_a_lost_owner_key(node: Callable[..., ObjectPool], client: redis.Redis) -> None:
    """The next heartbeat of an attempt restores its expiring owner key in an emptied Redis."""
    attempt = node().begin(ID, running(0))
    client.flushall()
    attempt.publish(running(1))
    assert owner(client) == attempt.token
    assert all(0 < client.pttl(key) <= 30_000 for key in keys_of(client, ""))


def test_no_attempt_counts_as_crashed_after_redis_was_emptied(
    node: Callable[..., ObjectPool], client: redis.Redis
) -> None:
    """After Redis was emptied, an attempt is counted as crashed only when no heartbeat has come within the limit."""
    here, there = node().presence, node().presence
    here.publish(ID, "token", b"{}")
    client.flushall()
    assert there.is_alive(ID, "token", age=1000, limit=0.001)
    wait_until(lambda: not there.is_alive(ID, "token", age=1000, limit=0.001))
    here.publish(ID, "token", b"{}")
    assert there.is_alive(ID, "token", age=1000, limit=0.001)
    here.withdraw(ID, "token")
    assert not there.is_alive(ID, "token", age=1000, limit=1000)


def test_no_attempt_counts_as_crashed_during_a_redis_outage(
    node: Callable[..., ObjectPool], redis_server: Redis
) -> None:
    """While Redis does not answer, an attempt counts as crashed only if its heartbeat is missing in the store too."""
    presence = node().presence
    presence.publish(ID, "token", b"{}")
    redis_server.stop()
    assert presence.is_alive(ID, "token", age=1000, limit=1000)
    assert not presence.is_alive(ID, "token", age=1000, limit=1e-9)
    assert presence.is_alive(ID, "token", age=1, limit=2)


def kill(server: Redis) -> None:
    server.stop()


def pause(server: Redis) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def empty(server: Redis) -> None:
    client = redis.Redis.from_url(server.url)
    client.flushall()
    client.script_flush()
    client.close()


def garble(server: Redis) -> None:
    """Overwrite every key in Redis with another value: a list, or bytes that are no text."""
    client = redis.Redis.from_url(server.url)
    for number, key in enumerate(sorted(client.scan_iter())):
        client.delete(key)
        if number % 2:
            client.set(key, b"\xff\xfe")
        else:
            client.rpush(key, "a", "b")
    client.close()


@pytest.mark.parametrize("moment", ["published", "suspended", "resumed", "replaced", "finished"])
@pytest.mark.parametrize("fault", [kill, pause, empty, garble])
def test_no_upload_fails_because_of_redis(
    node: Callable[..., ObjectPool], redis_server: Redis, fault: Callable[[Redis], None], moment: str
) -> None:
    """Uploads are suspended, resumed, replaced, finished and cleared despite any failure of Redis at any time."""

    def come(now: str) -> None:
        if now == moment:
            fault(redis_server)

    here, there = node(), node()
    attempt = here.begin(ID, resumable(0))
    attempt.create_file().write(b"some")
    attempt.publish(resumable(4))
    come("published")
    attempt.publish(resumable(4))
    assert there.bucket(ID).get_status().running
    attempt.suspend(resumable(4))
    come("suspended")
    assert there.bucket(ID).get_status().suspended
    older = there.resume(ID)
    come("resumed")
    writer, stored = older.append_file()
    assert stored == 4
    writer.write(b" bytes")
    older.publish(resumable(10))
    newer = here.begin(ID, running(0))
    come("replaced")
    with pytest.raises(Superseded):
        older.finish(done(10))
    writer = newer.create_file()
    writer.write(b"others")
    newer.publish(running(6))
    writer.close()
    newer.finish(done(6))
    come("finished")
    assert read(there) == b"others"
    assert there.clear(ID)
    assert here.bucket(ID).get_status().state is State.UNKNOWN


def test_progress_is_in_the_store_during_a_redis_outage(
    node: Callable[..., ObjectPool], redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is in the store while Redis is away, and in Redis after it returns."""
    monkeypatch.setattr("fileupload.pool.object.redis_presence._RETRY_INTERVAL", 0.0)
    here, there = node(), node()
    attempt = here.begin(ID, replace(running(0), state=State.STARTING))
    attempt.publish(running(1))
    redis_server.stop()
    attempt.publish(running(2))
    assert there.bucket(ID).get_status().received == 2
    redis_server.start()
    attempt.publish(running(3))
    assert there.bucket(ID).get_status().received == 3
    # Both use Redis again as before.
    monkeypatch.setattr("fileupload.pool.object.redis_presence._RETRY_INTERVAL", 1e9)
    attempt.publish(running(4))
    assert there.bucket(ID).get_status().received == 4
    here.presence.withdraw(ID, attempt.token)
    assert there.bucket(ID).get_status().received == 0


def test_an_outdated_status_in_redis_does_not_hide_a_suspension(
    node: Callable[..., ObjectPool], redis_server: Redis
) -> None:
    """An upload that was suspended while Redis hung stays suspended when Redis resumes with its old status."""
    there = node()
    attempt = node().begin(ID, resumable(0))
    attempt.publish(resumable(0))
    pause(redis_server)
    attempt.publish(resumable(0))  # this one waits for Redis, and times out
    attempt.suspend(resumable(0))
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGCONT)
    assert there.presence.get(ID, attempt.token) is not None
    assert there.bucket(ID).get_status().suspended
    there.resume(ID)


def test_a_small_upload_sends_one_request_to_redis(
    node: Callable[..., ObjectPool], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that publishes no progress sends Redis one request: to write the owner of the bucket."""
    monkeypatch.setattr("fileupload.pool.object.heartbeat._CHECK_INTERVAL", 3600.0)
    pool = node()
    client.config_resetstat()
    attempt = pool.begin(ID, running(0))
    writer = attempt.create_file()
    writer.write(b"small")
    writer.close()
    attempt.finish(done(5))
    calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    of_connections = {"cmdstat_config|resetstat", "cmdstat_client|setinfo", "cmdstat_hello", "cmdstat_select"}
    assert {name: calls[name] for name in calls.keys() - of_connections} == {"cmdstat_set": 1}


def test_an_invalid_redis_url_stops_the_start(store: S3Store) -> None:
    """An invalid address is refused at the start, without its password in the message."""
    with pytest.raises(SettingError, match="progress"):
        RedisPresence("redis://:secret@host:port-not-a-number/0", "p", ObjectPool(store, "p").presence)
