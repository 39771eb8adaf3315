"""Heartbeats of attempts in an object store end with the attempt."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fileupload.errors import Incomplete
from fileupload.pool.base import Attempt
from fileupload.pool.object import attempt as object_attempt
from fileupload.pool.object import heartbeat as heartbeat
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3.store import S3Store
from fileupload.status import State, UploadStatus, timestamp
from tests.support.waiting import PATIENCE, wait_until

ID = "0123456789abcdef" * 2
ENDS: dict[str, tuple[str, Callable[[Attempt], None]]] = {
    "suspended": ("uploading", lambda attempt: attempt.suspend(attempt.status)),
    "failed": ("error", lambda attempt: attempt.fail(attempt.status.failed(Incomplete("gone")))),
}


class SlowHeartbeats:
    """Holds a heartbeat back on its way to the store until it is released."""

    def __init__(self, publish: Callable[..., bool]) -> None:
        self._publish = publish
        self.in_flight = threading.Event()
        self.may_arrive = threading.Event()

    def publish(self, *arguments: Any) -> bool:
        """Wait, and publish it."""
        self.in_flight.set()
        assert self.may_arrive.wait(PATIENCE)
        return self._publish(*arguments)


@pytest.fixture
def pool(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> ObjectPool:
    monkeypatch.setattr(heartbeat, "_CHECK_INTERVAL", 0.01)
    return ObjectPool(store, f"signs/{uuid.uuid4().hex}")


@pytest.fixture
def slow(pool: ObjectPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowHeartbeats]:
    """Delay the heartbeats of the pool."""
    slow = SlowHeartbeats(pool.presence.publish)
    monkeypatch.setattr(pool.presence, "publish", slow.publish)
    yield slow
    slow.may_arrive.set()


@pytest.mark.parametrize("end", ENDS)
def test_a_late_heartbeat_does_not_overwrite_the_end_of_its_attempt(
    pool: ObjectPool, slow: SlowHeartbeats, end: str
) -> None:
    """A heartbeat that is in flight when an attempt ends does not make the attempt look alive again."""
    state, run = ENDS[end]
    status = UploadStatus(state=State.UPLOADING, size=9, started=timestamp(), updated=timestamp())
    attempt = pool.begin(ID, replace(status, resumable=True))
    assert slow.in_flight.wait(PATIENCE)
    thread = threading.Thread(target=run, args=(attempt,))
    thread.start()
    thread.join(2)  # it ends too early here, or it waits; neither takes long
    slow.may_arrive.set()
    thread.join(PATIENCE)
    found = pool.bucket(ID).get_status()
    assert (found.state, found.running) == (state, False)


def test_a_late_heartbeat_in_a_cleared_bucket_is_removed(
    pool: ObjectPool, slow: SlowHeartbeats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat that arrives after its bucket was cleared is removed again, even if the attempt is idle."""
    monkeypatch.setattr(object_attempt, "_HEARTBEAT_INTERVAL", 0.01)
    attempt = pool.begin(ID, UploadStatus(state=State.UPLOADING, started=timestamp(), updated=timestamp()))
    assert slow.in_flight.wait(PATIENCE)
    assert pool.clear(ID)
    slow.may_arrive.set()
    wait_until(lambda: list(pool.store.list(pool.prefix)) == [])
    attempt.fail(attempt.status.failed(Incomplete("gone")))
