"""A server with few file descriptors refuses the uploads for which none are left, and the others finish."""

from __future__ import annotations

import http.client
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from webob import Response

from fileupload.apps.record_attachments.api_adapters import KintoApi
from fileupload.apps.record_attachments.urls import KINTO_RECORD, RecordTemplate
from fileupload.apps.s3fileup import app as s3fileup_app
from fileupload.deploy import make_manager
from fileupload.errors import ServerBusy, UploadError, storage_error
from fileupload.identifiers import new_id
from fileupload.manager import UploadManager
from fileupload.pool.base import Attempt
from fileupload.pool.directory import descriptor_limits as descriptors
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3.store import S3Store, open_store
from fileupload.settings import Settings
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from fileupload.wsgi.pipeline import Pipeline
from fileupload.wsgi.request import Request
from fileupload.wsgi.responses import problem
from tests.support.folders import files_in
from tests.support.processes import kill_group, start_group, wait_for_line
from tests.support.stores.fixtures import SWIFT_KEYS, access
from tests.support.waiting import PATIENCE, wait_until

SCRIPT = Path(__file__).with_name("few_descriptors.py")
KEY = "a key that the server and the test have"
UPLOADS = 40
CONTENT = b"x" * 100_000


@dataclass
class LimitedServer:
    """A server with 64 descriptors, and its pool."""

    port: int
    manager: UploadManager
    log: Path

    def begin(self, identifier: str) -> http.client.HTTPConnection:
        """Send the head of an upload, and half of its bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest("PUT", "/upload?" + urlencode({"X-Progress-ID": identifier, "filename": "a"}))
        connection.putheader("Content-Length", str(len(CONTENT)))
        connection.endheaders()
        connection.send(CONTENT[: len(CONTENT) // 2])
        return connection

    def upload(self, identifier: str) -> int:
        """Send a whole upload; return the status of its answer."""
        with closing(self.begin(identifier)) as connection:
            return self.end(connection)[0]

    @staticmethod
    def end(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
        """Send the other half; return the status of the answer and its Retry-After in seconds."""
        with suppress(ConnectionError):  # the upload was refused, and the answer has arrived
            connection.send(CONTENT[len(CONTENT) // 2 :])
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"]

    @property
    def attempts(self) -> list[Path]:
        """Return the folders of attempts in the pool."""
        shards = [path for path in Path(self.manager.settings.directory).iterdir() if len(path.name) == 2]
        below = [path for shard in shards for path in files_in(shard, folders=True) if path.is_dir()]
        return [path for path in below if len(path.name) == 16]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LimitedServer]:
    pool, log = tmp_path / "pool", tmp_path / "log"
    process = start_group([sys.executable, str(SCRIPT), str(pool), "64", KEY], log)
    try:
        (port,) = wait_for_line(process, log, r"port (\d+)")
        manager = make_manager(Settings.parse({"directory": str(pool), "upload_key": KEY}))
        yield LimitedServer(int(port), manager, log)
        assert process.poll() is None, log.read_text()
    finally:
        kill_group(process)


@contextmanager
def few_left(count: int) -> Iterator[Callable[[int], None]]:
    """Leave only *count* free file descriptors in this process; provide a function that frees more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    descriptors._limit.cache_clear()
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))

        def free(more: int) -> None:
            for _ in range(more):
                os.close(taken.pop())

        free(count)
        yield free
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        descriptors._limit.cache_clear()


def begin(pool: DirectoryPool) -> Attempt:
    """Begin an upload under a new id."""
    return pool.begin(new_id(), UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp()))


def end(attempt: Attempt) -> None:
    """Write a file, and finish the upload."""
    writer = attempt.create_file()
    writer.write(b"x")
    writer.close()
    file = UploadedFile(field="", filename="a", content_type="text/plain", size=1)
    attempt.finish(attempt.status.done((file,), {}))


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "quick"])
def test_no_upload_begins_while_few_descriptors_are_left(tmp_path: Path, durable: bool) -> None:
    """No upload begins or leaves files while only a dozen descriptors are left, and running uploads finish."""
    pool = DirectoryPool(str(tmp_path / "pool"), durable=durable)
    running = [begin(pool) for _ in range(3)]
    with few_left(12):
        with pytest.raises(ServerBusy):
            begin(pool)
        assert len(list(pool.buckets())) == len(running)
        for attempt in running:
            attempt.publish(attempt.status)
            end(attempt)
    with few_left(30):
        end(begin(pool))
    assert [bucket.get_status().state for bucket in pool.buckets()] == [State.DONE] * 4


@pytest.mark.parametrize("end_with", ["finish", "fail", "suspend"])
def test_an_upload_waits_for_descriptors(tmp_path: Path, end_with: str) -> None:
    """An upload without free descriptors ends once others are closed; its progress is published later."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    attempt = begin(pool)
    with few_left(0) as free, ThreadPoolExecutor(1) as threads:
        attempt.publish(attempt.status)
        failed = attempt.status.failed(ServerBusy())
        operations = {
            "finish": lambda: end(attempt),
            "fail": lambda: attempt.fail(failed),
            "suspend": lambda: attempt.suspend(replace(attempt.status, resumable=True)),
        }
        waiting = threads.submit(operations[end_with])
        assert wait([waiting], timeout=0.3).not_done
        free(8)
        waiting.result(PATIENCE)
    found = [path.name for path in files_in(tmp_path / "pool", folders=True) if path.name == attempt.token]
    assert len(found) == (0 if end_with == "fail" else 1)


def test_a_missing_descriptor_for_a_store_is_answered_busy(store: S3Store) -> None:
    """Without a descriptor for a connection to a store, the server answers busy and does not report a store failure."""
    settings = Settings.parse(access(store.client.meta.endpoint_url, SWIFT_KEYS))
    new, _ = open_store(settings, f"s3://{store.s3_bucket}")
    pool = ObjectPool(new, "descriptors")
    assert pool.bucket(new_id()).get_status().state is State.UNKNOWN
    new.client.close()  # the connections; all files that are needed have been read
    with few_left(0), pytest.raises(OSError, match="cannot be reached") as caught:
        pool.bucket(new_id()).get_status()
    assert isinstance(storage_error(caught.value), ServerBusy)
    assert pool.bucket(new_id()).get_status().state is State.UNKNOWN
    new.client.close()


def answer_busy(render: Callable[[UploadError, dict[str, Any]], Response], **environ: str) -> Response:
    """Return the pipeline's answer to a request that is refused for lack of descriptors."""
    refused: dict[str, Any] = {"REQUEST_METHOD": "GET", **environ}
    return Pipeline(Settings(), render_error=render)._render(ServerBusy(), Request(refused))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: answer_busy(problem),
        lambda: answer_busy(problem, HTTP_ACCEPT="text/html"),
        lambda: answer_busy(KintoApi(RecordTemplate(KINTO_RECORD)).problem),
        lambda: answer_busy(s3fileup_app._render_error),
    ],
    ids=["problem", "page", "Kinto", "s3fileup"],
)
def test_each_format_of_an_error_has_retry_after(answer: Callable[[], Response]) -> None:
    """Every format of the error answer has Retry-After."""
    response = answer()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_uploads_without_descriptors_are_refused_with_retry_after(server: LimitedServer) -> None:
    """Of forty slow uploads at once, those without descriptors are refused with 503 and Retry-After.

    The others finish, the pool holds only them, and afterwards all descriptors are free again.
    """
    identifiers = [server.manager.create_identifier() for _ in range(UPLOADS)]
    with ExitStack() as stack, ThreadPoolExecutor(UPLOADS) as threads:
        connections = [stack.enter_context(closing(server.begin(identifier))) for identifier in identifiers]
        wait_until(lambda: server.attempts)
        answers = list(threads.map(server.end, connections))
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 503}, (statuses, server.log.read_text()[-3000:])
    assert {after for status, after in answers if status == 503} == {"5"}
    done = [identifier for identifier, (status, _) in zip(identifiers, answers, strict=True) if status == 200]
    assert sorted(path.parent.name for path in server.attempts) == sorted(identifier[:32] for identifier in done)
    assert {bucket.id for bucket in server.manager.pool.buckets()} == {identifier[:32] for identifier in done}
    for identifier in done:
        bucket = server.manager.access_upload_bucket(identifier)
        assert bucket is not None
        with bucket.open() as file:
            assert file.read() == CONTENT
    refused = [identifier for identifier in identifiers if identifier not in done]
    assert [server.upload(identifier) for identifier in refused] == [200] * len(refused)
