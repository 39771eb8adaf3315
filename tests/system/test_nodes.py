"""Two nodes that share only an object store and a Redis."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from fileupload.manager import UploadManager
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3.store import S3Store, make_client
from fileupload.settings import Settings
from tests.support.stores import swift
from tests.support.stores.fixtures import SWIFT_KEYS, Place, access
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.conftest import Redis
    from tests.system.conftest import Serve

MEBIBYTE = 1 << 20
SLICE = 64 << 10
SWIFT = Path(swift.__file__)


# Valkey is installed from PyPI, and is available wherever the tests run.
pytestmark = pytest.mark.full_with(redis_server="redis-server")


@pytest.fixture
def prefix() -> str:
    return f"nodes/{uuid.uuid4().hex}"


def options(store_settings: dict[str, str], s3_bucket: str, prefix: str, **more: str) -> list[str]:
    """Return the command-line options of a pool in a store, with the settings of that store."""
    values = {"pool": f"s3://{s3_bucket}/{prefix}", **store_settings, **more}
    return [argument for name, value in values.items() for argument in ("--set", f"{name}={value}")]


def test_another_node_accepts_a_retry_after_a_node_was_killed(
    serve: Serve,
    any_place: Place,
    redis_server: Redis,
    prefix: str,
) -> None:
    """The other node sees the progress of an upload live, and accepts a retry when the first node is killed."""
    store = any_place.store
    shared = options(any_place.access, store.s3_bucket, prefix, progress=redis_server.url)
    here, there = serve(*shared), serve(*shared)
    pool = ObjectPool(store, prefix)
    identifier = UploadManager(pool, Settings()).create_identifier()
    content = os.urandom(20 * MEBIBYTE)
    upload = here.begin(identifier, len(content))
    seen = []
    for at in range(0, 18 * MEBIBYTE, SLICE):
        upload.send(content[at : at + SLICE])
        if at % MEBIBYTE == 0:
            seen.append(there.status(identifier).get("received", 0))
    wait_until(lambda: there.status(identifier)["received"] > 16 * MEBIBYTE)
    assert seen == sorted(seen)
    here.kill()
    upload.close()
    assert there.put(identifier, content).status_code == 200
    done = there.status(identifier)
    assert (done["state"], done["sha256"]) == ("done", hashlib.sha256(content).hexdigest())
    with pool.bucket(identifier.partition(".")[0]).open() as file:
        assert file.read() == content
    # Nothing of the first attempt is left, including its parts.
    assert len([each for each in store.list(prefix) if "/f/" in each.key]) == 1
    assert list(store.list_multipart_uploads(prefix)) == []


def test_a_retry_at_another_node_ends_the_first(
    serve: Serve, any_place: Place, redis_server: Redis, prefix: str
) -> None:
    """An upload that is retried at another node is done there, and the first node's attempt ends with a reason."""
    store = any_place.store
    shared = options(any_place.access, store.s3_bucket, prefix, progress=redis_server.url)
    here, there = serve(*shared), serve(*shared)
    pool = ObjectPool(store, prefix)
    identifier = UploadManager(pool, Settings()).create_identifier()
    content = os.urandom(4 * MEBIBYTE)
    upload = here.begin(identifier, len(content))
    upload.send(content[: 2 * MEBIBYTE])
    wait_until(lambda: there.status(identifier).get("received", 0) > MEBIBYTE)
    assert there.put(identifier, content[::-1]).status_code == 200
    with suppress(OSError):  # the request has been answered, and its body is no longer read
        upload.send(content[2 * MEBIBYTE :])
    answer = upload.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (409, "superseded")
    upload.close()
    with pool.bucket(identifier.partition(".")[0]).open() as file:
        assert file.read() == content[::-1]


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_an_upload_continues_during_a_redis_outage(
    serve: Serve, any_place: Place, redis_server: Redis, prefix: str, fault: signal.Signals
) -> None:
    """If Redis goes away, both nodes continue without it: the upload runs, its progress is visible, and it is done."""
    store = any_place.store
    shared = options(any_place.access, store.s3_bucket, prefix, progress=redis_server.url)
    here, there = serve(*shared), serve(*shared)
    identifier = UploadManager(ObjectPool(store, prefix), Settings()).create_identifier()
    content = os.urandom(4 * MEBIBYTE)
    upload = here.begin(identifier, len(content))
    upload.send(content[:MEBIBYTE])
    wait_until(lambda: there.status(identifier).get("received", 0) > MEBIBYTE // 2)
    assert redis_server.process is not None
    redis_server.process.send_signal(fault)
    assert there.status(identifier)["state"] in {"starting", "uploading"}  # the last progress that was seen may be lost
    upload.send(content[MEBIBYTE : 3 * MEBIBYTE])
    wait_until(lambda: there.status(identifier).get("received", 0) > 2 * MEBIBYTE)
    upload.send(content[3 * MEBIBYTE :])
    answer = upload.getresponse()
    assert (answer.status, json.loads(answer.read())["sha256"]) == (200, hashlib.sha256(content).hexdigest())
    upload.close()
    assert there.status(identifier)["state"] == "done"


@pytest.fixture
def own_swift(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Provide a Swift that the test may stop, with its process."""
    process = subprocess.Popen(
        [sys.executable, str(SWIFT), str(tmp_path / "swift")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    yield process.stdout.readline().strip(), process
    process.stdin.close()
    process.wait(PATIENCE)
    process.stdout.close()


def test_a_store_outage_during_an_upload_is_answered_in_bounded_time(
    serve: Serve, own_swift: tuple[str, subprocess.Popen[str]], prefix: str
) -> None:
    """If the store goes away, the client gets a readable error in bounded time, and the server keeps running."""
    endpoint, process = own_swift
    client = make_client(endpoint_url=endpoint, region="us-east-1", key_id="tester:tester", secret="testing")
    client.create_bucket(Bucket="pool-of-nodes")
    node = serve(*options(access(endpoint, SWIFT_KEYS), "pool-of-nodes", prefix))
    pool = ObjectPool(S3Store(lambda: client, "pool-of-nodes"), prefix)
    identifier = UploadManager(pool, Settings()).create_identifier()
    content = bytes(30 * MEBIBYTE)
    upload = node.begin(identifier, len(content))
    upload.send(content[: 4 * MEBIBYTE])
    assert process.stdin is not None
    assert process.stdout is not None
    print("kill", file=process.stdin, flush=True)
    assert process.stdout.readline() == "killed\n"
    answers: list[Any] = []

    def finish() -> None:
        try:
            upload.send(content[4 * MEBIBYTE :])
        except OSError as error:  # the server has answered, and no longer reads
            answers.append(error)
        answer = upload.getresponse()
        answers.append((answer.status, answer.read().decode()))

    client.close()
    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    thread.join(120)
    upload.close()
    assert answers, "no answer in two minutes"
    status, text = answers[-1]
    assert status == 500
    assert "storage-failed" in text
    assert "Traceback" not in text
    assert requests.get(node.url.removesuffix("upload"), timeout=PATIENCE).status_code == 200
