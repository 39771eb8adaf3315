"""Limits of upload, bundle and session: at each limit, one past it, and with concurrent uploads."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from fileupload.apps.session_attachments.bundle_index import SESSIONS
from fileupload.errors import Interrupted
from fileupload.pool.base import Bucket
from fileupload.status import State, UploadStatus, timestamp
from tests.support.session_client import Answer, SessionClient, SessionSite, entries_of
from tests.support.waiting import PATIENCE
from tests.support.wsgi_client import Stream

KB = 1024


@contextmanager
def running(client: SessionClient, bundle: str, name: str, size: int) -> Iterator[Callable[[], Answer]]:
    """Hold an upload after its first half; yield a function that completes it and returns the response."""
    begun, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield bytes(size // 2)
        begun.set()
        assert go_on.wait(PATIENCE)
        yield bytes(size - size // 2)

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(client.put, bundle, name, Stream(pieces()), CONTENT_LENGTH=str(size))
        assert begun.wait(PATIENCE)
        time.sleep(0.01)  # uploads are ordered by milliseconds

        def finish() -> Answer:
            go_on.set()
            return future.result(PATIENCE)

        try:
            yield finish
        finally:
            go_on.set()


@pytest.mark.parametrize("how", ["form", "plain"])
def test_an_upload_above_max_size_is_refused(make_site: Callable[..., SessionSite], how: str) -> None:
    """An upload of max_size bytes is accepted; one more byte is refused and leaves nothing."""
    site = make_site(max_size="64K")
    client = site.client()

    def send(size: int) -> Answer:
        return client.post("b", ("a", bytes(size))) if how == "form" else client.put("b", "a", bytes(size))

    assert send(64 * KB).status == 200
    answer = send(64 * KB + 1)
    assert answer.outcome == (413, "too-large")
    assert "64 KB" in answer.json["detail"]
    assert client.get("b").json[0]["size"] == 64 * KB
    site.check_tidy()


def test_a_file_above_max_file_size_is_refused(make_site: Callable[..., SessionSite]) -> None:
    """A file of max_file_size bytes is accepted; a larger one is refused with its whole form."""
    site = make_site(max_file_size="8K")
    client = site.client()
    assert client.post("b", ("a", bytes(8 * KB)), ("b", bytes(8 * KB))).status == 200
    assert client.post("b", ("c", b"1"), ("d", bytes(8 * KB + 1))).outcome == (413, "too-large")
    assert client.get("b").names == ["a", "b"]
    site.check_tidy()


def test_the_default_limit_is_one_of_each_file(make_site: Callable[..., SessionSite]) -> None:
    """By default a file may have 50 MB, and a request several of them, up to the quota of the bundle."""
    site = make_site(checksum="none")
    client = site.client()
    assert client.post("b", ("a", bytes(30 * KB * KB)), ("b", bytes(30 * KB * KB))).status == 200
    answer = client.put("b", "c", Stream(iter([])), CONTENT_LENGTH=str(50 * KB * KB + 1))
    assert answer.outcome == (413, "too-large")
    assert "50 MB" in answer.json["detail"]
    assert client.put("b", "c", Stream(iter([])), CONTENT_LENGTH=str(50 * KB * KB)).outcome == (400, "incomplete")
    site.check_tidy()


def test_a_plain_body_without_a_length_counts_as_one_file(make_site: Callable[..., SessionSite]) -> None:
    """Beside running uploads, a chunked PUT reserves max_file_size; a chunked form, which may bring several, more."""
    site = make_site(max_session_size="10K", max_file_size="2K")
    client = site.client()
    chunked: dict[str, Any] = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    with running(client, "b", "1", 2 * KB) as finish:
        answer = client.put("b", "2", Stream(iter([b"x"])), **chunked)
        assert answer.status == 200, answer.json
        assert finish().status == 200


@pytest.mark.parametrize(
    ("settings", "bundle", "code", "word"),
    [
        ({"max_bundle_size": "10K"}, "b", "too-large", "A bundle may hold at most"),
        ({"max_bundle_files": 2}, "b", "limit-exceeded", "A bundle may hold at most"),
        ({"max_session_size": "10K"}, "other", "too-large", "All bundles together may hold at most"),
        ({"max_session_files": 2}, "other", "limit-exceeded", "All bundles together may hold at most"),
    ],
)
def test_bundles_and_sessions_have_size_limits(
    make_site: Callable[..., SessionSite], settings: dict[str, str], bundle: str, code: str, word: str
) -> None:
    """Stored bytes may reach the limit and not exceed it; other bundles and sessions have separate limits."""
    site = make_site(**settings)
    client = site.client()
    assert client.post("b", ("1", bytes(5 * KB))).status == 200
    assert client.post(bundle, ("2", bytes(5 * KB))).status == 200
    answer = client.post(bundle, ("3", b"x"))
    assert answer.outcome == (413, code)
    assert word in answer.json["detail"]
    assert "nothing of this upload was kept" in answer.json["detail"]
    assert [*client.get("b").names, *(client.get("other").names if bundle == "other" else [])] == ["1", "2"]
    assert site.client().post("b", ("3", b"x")).status == 200
    if bundle == "b":
        assert client.post("other", ("3", b"x")).status == 200
    assert client.delete(bundle, "2").json == [True]
    assert client.post(bundle, ("3", b"x")).status == 200
    site.check_tidy()


def test_an_empty_file_counts_towards_the_number_of_files(make_site: Callable[..., SessionSite]) -> None:
    """Empty files count towards the number of files."""
    client = make_site(max_bundle_files=2).client()
    assert client.post("b", ("1", b""), ("2", b""), ("3", b"")).outcome == (413, "limit-exceeded")
    assert client.post("b", ("1", b""), ("2", b"")).names == ["1", "2"]


def test_a_replaced_file_does_not_count_towards_the_limit(make_site: Callable[..., SessionSite]) -> None:
    """A full bundle accepts a new version of one of its files that is not larger."""
    site = make_site(max_bundle_size="10K", max_bundle_files=2, max_session_size="10K", max_session_files=2)
    client = site.client()
    assert client.post("b", ("1", bytes(5 * KB)), ("2", bytes(5 * KB))).status == 200
    for _ in range(3):
        assert client.post("b", ("1", b"1" * 5 * KB)).status == 200
    assert client.post("b", ("1", bytes(5 * KB + 1))).outcome == (413, "too-large")
    assert client.contents("b") == {"2": bytes(5 * KB), "1": b"1" * 5 * KB}
    assert client.post("b", ("2", b"x"), ("1", b"z")).names == ["2", "1"]
    site.check_tidy()


def test_a_purged_upload_does_not_count_towards_the_limit(make_site: Callable[..., SessionSite]) -> None:
    """Uploads removed by a purge do not count, even in a bundle that was not accessed since."""
    site = make_site(max_session_size="10K")
    client = site.client()
    assert client.post("b", ("1", bytes(10 * KB))).status == 200
    for bucket in list(site.pool.buckets()):
        bucket.clear_upload()
    assert client.post("other", ("1", bytes(10 * KB))).status == 200
    site.check_tidy()


def test_zero_is_no_limit(make_site: Callable[..., SessionSite]) -> None:
    """A size of 0 means no limit."""
    site = make_site(max_size=0, max_bundle_size=0, max_session_size=0)
    assert site.client().post("b", ("1", bytes(200 * KB))).status == 200


@pytest.mark.parametrize(
    ("settings", "bundles"),
    [({"max_bundle_size": "30K"}, 1), ({"max_bundle_files": 3}, 1), ({"max_session_files": 3}, 3)],
)
def test_parallel_uploads_are_kept_up_to_the_limit(
    make_site: Callable[..., SessionSite], settings: dict[str, object], bundles: int
) -> None:
    """Of eight uploads that end at the same time, exactly as many are kept as the limit allows."""
    site = make_site(**settings)
    client = site.client()
    client.get("0")
    together = threading.Barrier(8)

    def gated() -> Iterator[bytes]:
        yield bytes(9 * KB)
        together.wait(PATIENCE)
        yield bytes(KB)

    def send(number: int) -> int:
        return client.put(str(number % bundles), f"{number}", Stream(gated()), CONTENT_LENGTH=str(10 * KB)).status

    for _ in range(4):
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(send, range(8)))
        kept = [name for bundle in range(bundles) for name in client.get(str(bundle)).names]
        assert len(kept) == 3
        assert sorted(statuses) == [200] * 3 + [413] * 5
        site.check_tidy()
        for bundle in range(bundles):
            client.delete(str(bundle))


def test_parallel_uploads_do_not_exceed_the_limit_of_the_session(make_site: Callable[..., SessionSite]) -> None:
    """Eight uploads that begin at the same time do not exceed the session's limit, and the kept ones are complete."""
    site = make_site(max_session_size="30K")
    client = site.client()
    client.get("0")

    def send(number: int) -> int:
        return client.put(str(number % 3), f"{number}", bytes(10 * KB)).status

    for _ in range(4):
        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(send, range(8)))
        kept = [size for bundle in range(3) for size in client.get(str(bundle)).json]
        assert 1 <= len(kept) == statuses.count(200) <= 3
        assert {attachment["size"] for attachment in kept} == {10 * KB}
        site.check_tidy()
        for bundle in range(3):
            client.delete(str(bundle))


def test_declared_lengths_of_running_uploads_count_towards_the_limit(make_site: Callable[..., SessionSite]) -> None:
    """Declared lengths of a session's running uploads count towards max_session_size, before the first byte."""
    site = make_site(max_session_size="10K")
    client = site.client()
    client.post("a", ("x", b""))
    with running(client, "a", "1", 6 * KB) as finish:
        refused = client.put("b", "2", bytes(4 * KB + 1))
        assert refused.outcome == (413, "too-large")
        assert "at the same time" in refused.json["detail"]
        assert site.client().put("b", "2", bytes(4 * KB + 1)).status == 200
        assert client.put("b", "2", bytes(4 * KB)).status == 200
        assert finish().status == 200
    site.check_tidy()


def test_a_chunked_upload_counts_as_max_size(make_site: Callable[..., SessionSite]) -> None:
    """A chunked upload counts as max_size beside the running uploads."""
    site = make_site(max_session_size="10K", max_size="5K")
    client = site.client()
    client.post("a", ("x", b""))
    with running(client, "a", "1", 5 * KB) as finish:
        chunked = client.put("b", "2", Stream([b"x"]))
        assert chunked.status == 200
        assert finish().status == 200
    with running(client, "a", "1", 5 * KB) as finish, running(client, "a", "2", KB) as finish_other:
        assert client.put("b", "2", Stream([b"x"])).outcome == (413, "too-large")
        assert finish_other().status == 200
        assert finish().status == 200
    site.check_tidy()


def test_an_entry_left_by_a_crash_reserves_nothing(make_site: Callable[..., SessionSite]) -> None:
    """An entry that a crash left reserves no bytes, since its upload does not run."""
    site = make_site(max_session_size="10K")
    client = site.client()
    with running(client, "a", "1", 6 * KB) as finish:
        ((place, entry),) = entries_of(site.pool)
        assert site.pool.clear(entry.bucket_id)
        assert finish().outcome == (409, "superseded")
    site.pool.index.put(place.key, entry.name)
    status = UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp())
    site.pool.record_refusal(entry.bucket_id, status.failed(Interrupted()))
    assert client.put("b", "2", bytes(10 * KB)).status == 200


@pytest.mark.parametrize("age", [60, 7200])
def test_a_finished_upload_that_is_not_accepted_counts_for_an_hour(
    make_site: Callable[..., SessionSite], age: int
) -> None:
    """A finished upload that is not accepted counts for an hour, and no longer."""
    site = make_site(max_bundle_files=1)
    client = site.client()
    client.put("b", "1", b"x")
    ((place, entry),) = entries_of(site.pool)
    assert entry.acceptance is not None
    site.pool.index.remove(place.key, entry.acceptance_name(entry.acceptance))
    path = site.directory / entry.bucket_id[:2] / entry.bucket_id / "status.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "finished": timestamp(time.time() - age)}))
    assert client.put("b", "2", b"x").status == (413 if age == 60 else 200)


@pytest.mark.parametrize("given", [True, False], ids=["identifier", "no identifier"])
@pytest.mark.parametrize("how", ["too many", "too large", "broken"])
def test_a_refused_upload_leaves_its_status_only(make_site: Callable[..., SessionSite], how: str, given: bool) -> None:
    """A refusal leaves a status if the client gave an identifier, and otherwise nothing."""
    site = make_site(max_bundle_files=1, max_size="2K")
    client = site.client()
    assert client.post("b", ("1", b"first")).status == 200
    identifier = site.manager.create_identifier() if given else ""
    body, length = {
        "too many": (b"x", "1"),
        "too large": (bytes(3 * KB), str(3 * KB)),
        "broken": (b"x", "9"),
    }[how]
    answer = client.put("b", "2", io.BytesIO(body), identifier, CONTENT_LENGTH=length)
    assert answer.status == {"too many": 413, "too large": 413, "broken": 400}[how]
    assert client.contents("b") == {"1": b"first"}
    # Only a failed attempt has its own bucket; a refusal has none.
    assert len(list(site.pool.buckets())) == (2 if given and how == "broken" else 1)
    if given:
        status = client.send("GET", "/attachments/b/", f"status&X-Progress-ID={identifier}")
        assert (status.json["state"], status.json["code"]) == ("error", answer.json["code"])
        assert site.manager.clear_upload_bucket(identifier)
        for key in list(site.pool.index.keys((SESSIONS,))):
            if len(key) == 2:
                (name,) = site.pool.index.names(key)
                assert identifier[:32] in name
                site.pool.index.remove(key, name)
    site.check_tidy()


def test_an_upload_reads_only_the_statuses_of_its_own_bundle(
    make_site: Callable[..., SessionSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload reads the statuses of its own bundle; for the session's other bundles it uses the names only."""
    site = make_site()
    client = site.client()
    for number in range(60):
        assert client.put(str(number // 20), str(number), b"x").status == 200
    asked: list[str] = []
    handle = site.pool.bucket

    def count(bucket_id: str) -> Bucket:
        asked.append(bucket_id)
        return handle(bucket_id)

    monkeypatch.setattr(site.pool, "bucket", count)
    assert client.put("new", "x", b"x").status == 200
    assert len(set(asked)) == 1
