"""Uploads of other applications: an index entry that names a bucket does not permit removing another's upload in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.validate import validator

import pytest
import webtest

from fileupload import SessionAttachments
from fileupload.apps.record_attachments.garbage_collection import RecordGarbage
from fileupload.apps.record_attachments.ledger import RecordLedger, record_owner
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import StoredFile
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.apps.s3fileup.app import S3Fileup
from fileupload.apps.s3fileup.errors import UnknownKey
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.s3fileup.uploads import FileUploads, UploadHandle
from fileupload.apps.session_attachments.bundle_index import (
    ABANDONED_AFTER,
    SESSIONS,
    Acceptance,
    BundleEntry,
    BundleIndex,
    session_owner,
)
from fileupload.apps.session_attachments.bundles import Bundle, remove_outdated
from fileupload.deploy import RecordAttachments, make_manager
from fileupload.errors import Interrupted, Superseded, TooLarge
from fileupload.manager import UploadManager
from fileupload.pool.base import STALLED_AFTER, Attempt, Pool
from fileupload.settings import Settings
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.rest_app import RestApp
from tests.support.session_client import SessionClient
from tests.support.stores.fixtures import Place
from tests.support.waiting import wait_until
from tests.support.wsgi_client import FORM_TYPE, Stream, field_part, file_part, form

CONTENT = b"another application's"
RECORD = "/api/pages/one"
RECORDS = {"record_url": "/api/{kind}/{id}", "extensions": "any", "api": "rest"}
SESSION = "f" * 40


@pytest.fixture(params=["directory", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an empty pool, in a folder or in an object store."""
    if request.param == "directory":
        return {"directory": str(tmp_path / "pool"), "durable": False, "min_free_space": 0}
    place: Place = request.getfixturevalue("any_place")
    return {"pool": f"s3://{place.store.s3_bucket}/{uuid.uuid4().hex}", **place.access}


@pytest.fixture
def manager(place: dict[str, Any]) -> UploadManager:
    """Return the upload manager of the other application."""
    return make_manager(Settings.parse(place))


def starting(owner: str = "", **values: Any) -> UploadStatus:
    """Return the first status of an upload."""
    return UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp(), owner=owner, **values)


def fill(attempt: Attempt, status: UploadStatus, content: bytes = CONTENT) -> UploadStatus:
    """Let an attempt finish; return its last status."""
    writer = attempt.create_file()
    writer.write(content)
    writer.close()
    file = UploadedFile(field="", filename="a.txt", content_type="text/plain", size=len(content), sha256="0" * 64)
    done = status.done((file,), {})
    attempt.finish(done)
    return done


def make_finished(pool: Pool, bucket_id: str, owner: str) -> None:
    """Finish an upload."""
    fill(pool.begin(bucket_id, starting(owner)), starting(owner))


def make_kept(pool: Pool, bucket_id: str, owner: str) -> None:
    """Finish an upload, and mark it as kept."""
    make_finished(pool, bucket_id, owner)
    pool.bucket(bucket_id).keep()


def make_failed(pool: Pool, bucket_id: str, owner: str) -> None:
    """Let an upload fail after it began, long ago."""
    attempt = pool.begin(bucket_id, starting(owner))
    attempt.fail(starting(owner).failed(TooLarge("their reason"), at=timestamp(time.time() - 2 * ABANDONED_AFTER)))


def make_suspended(pool: Pool, bucket_id: str, owner: str) -> None:
    """Suspend a resumable upload, long ago."""
    long_ago = timestamp(time.time() - 2 * ABANDONED_AFTER)
    attempt = pool.begin(bucket_id, replace(starting(owner, resumable=True), started=long_ago, updated=long_ago))
    attempt.create_file().write(CONTENT)
    attempt.suspend(replace(attempt.status, received=len(CONTENT)))


KINDS = {"finished": make_finished, "kept": make_kept, "failed": make_failed, "suspended": make_suspended}


# Owners are the middleware, and other sessions, records and applications than those whose entries are tested.
OWNED = [
    ("finished", ""),
    ("kept", ""),
    ("failed", ""),
    ("suspended", ""),
    ("finished", session_owner("e" * 40)),
    ("kept", record_owner(("api", "pages", "two"))),
    ("failed", session_owner("e" * 40)),
    ("suspended", "s3fileup"),
]


class ForeignUpload:
    """An upload of the other application, and its state before the test."""

    def __init__(self, manager: UploadManager, kind: str, owner: str = "") -> None:
        self.pool = manager.pool
        self.identifier = manager.create_identifier()
        self.id = self.identifier[:32]
        KINDS[kind](self.pool, self.id, owner)
        self.before = self.snapshot()

    def snapshot(self) -> tuple[UploadStatus, bytes]:
        """Return its current status and bytes."""
        bucket = self.pool.bucket(self.id)
        status = bucket.get_status()
        if status.state is not State.DONE:
            return status, b""
        with bucket.open() as file:
            return status, file.read()

    def check(self) -> None:
        """Check that the upload is unchanged, and can be resumed if it could before."""
        assert self.snapshot() == self.before
        if self.before[0].suspended:
            _, stored = self.pool.resume(self.id).append_file()
            assert stored in {0, len(CONTENT)}  # a store may have stored less than a part


@pytest.fixture(params=KINDS)
def foreign_upload(request: pytest.FixtureRequest, manager: UploadManager) -> ForeignUpload:
    """Return an upload to the middleware, whose owner is empty, as is that of old uploads."""
    return ForeignUpload(manager, request.param)


def visit(place: dict[str, Any], **settings: Any) -> tuple[SessionAttachments, SessionClient]:
    """Return session attachments in the same pool, and a client for them."""
    component = SessionAttachments(None, **{**place, "expire_after": 0, "drain_size": 0, **settings})
    return component, SessionClient(SimpleNamespace(as_server=validator(component)))  # type: ignore[arg-type]


# Ways to refuse a request before its attempt begins.
BODY = form(file_part(b"mine"))
REFUSED: dict[str, tuple[int, Callable[[SessionClient, str], Any]]] = {
    "no form": (
        415,
        lambda client, query: client.send("POST", "/attachments/b/", query, b"x", CONTENT_TYPE="a/b"),
    ),
    "no boundary": (
        400,
        lambda client, query: client.send(
            "POST", "/attachments/b/", query, BODY, CONTENT_TYPE="multipart/form-data; boundary="
        ),
    ),
    "too large": (413, lambda client, query: client.send("PUT", "/attachments/b/a/", query, b"x" * 101)),
    "a part": (
        415,
        lambda client, query: client.send("PUT", "/attachments/b/a/", query, b"x", HTTP_CONTENT_RANGE="bytes 0-0/9"),
    ),
    "no length": (
        411,
        lambda client, query: client.send("PUT", "/attachments/b/a/", query, Stream([b"x"]), SERVER_SOFTWARE="Granian"),
    ),
    "no name": (400, lambda client, query: client.send("PUT", "/attachments/b/", query, b"x")),
    "broken before the first byte": (
        400,
        lambda client, query: client.send("PUT", "/attachments/b/a/", query, Stream([]), CONTENT_LENGTH="1"),
    ),
    "an empty form": (
        400,
        lambda client, query: client.send("POST", "/attachments/b/", query, b"", CONTENT_TYPE=FORM_TYPE),
    ),
}


def expire(pool: Pool, session: str = "") -> None:
    """Run all code that removes uploads of sessions because of the index."""
    time.sleep(0.005)
    list(remove_outdated(pool, 0))
    for key in list(pool.index.keys((SESSIONS,))):
        if len(key) == 3:
            BundleIndex(pool, key).files()
    list(remove_outdated(pool, 0))


def test_a_refused_attachment_leaves_a_foreign_upload_unchanged(
    place: dict[str, Any], foreign_upload: ForeignUpload
) -> None:
    """A refused attachment leaves the upload under its identifier unchanged, without an entry; so does expiry."""
    _, client = visit(place, max_size="100B")
    for way, (status, send) in REFUSED.items():
        answer = send(client, f"X-Progress-ID={foreign_upload.identifier}")
        done = foreign_upload.before[0].state is State.DONE and way in {"broken before the first byte", "an empty form"}
        assert answer.status == (409 if done else status), (way, answer.body)
        assert list(foreign_upload.pool.index.keys((SESSIONS,))) == [], way
        expire(foreign_upload.pool)
        assert foreign_upload.snapshot() == foreign_upload.before, way
    foreign_upload.check()


def test_a_full_session_leaves_a_foreign_upload_unchanged(place: dict[str, Any], manager: UploadManager) -> None:
    """An upload above the limit beside running ones is refused before it begins, and expiry finds no entry."""
    component, client = visit(place, max_session_size="100B", max_size="60B")
    foreign_upload = ForeignUpload(manager, "failed")

    def pieces() -> Iterator[bytes]:
        yield b"x"
        query = f"X-Progress-ID={foreign_upload.identifier}"
        assert client.send("PUT", "/attachments/b/2/", query, b"x" * 60).outcome == (413, "too-large")
        yield b"x" * 59

    client.get("b")
    assert client.put("b", "1", Stream(pieces()), CONTENT_LENGTH="60").status == 200
    assert all(len(key) == 3 for key in component.manager.pool.index.keys((SESSIONS,)))
    expire(manager.pool)
    foreign_upload.check()


def entries_for(bucket_id: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the entries that a crash, or an earlier version, may have left in the index for a bucket."""
    old = int((time.time() - 3 * ABANDONED_AFTER) * 1000)
    entry = BundleEntry(order=old, declared=9, bucket_id=bucket_id)
    yield (SESSIONS, SESSION, "b"), [entry.name]
    yield (SESSIONS, SESSION), [entry.name]
    yield (SESSIONS, SESSION, "b"), [entry.name, entry.acceptance_name(Acceptance(old, 1, 4))]
    yield (SESSIONS, SESSION, "b"), [entry.name, entry.acceptance_name(Acceptance(old, 2, 4))]


@pytest.mark.parametrize(("kind", "owner"), OWNED)
def test_an_entry_of_a_session_leaves_a_foreign_upload_unchanged(manager: UploadManager, kind: str, owner: str) -> None:
    """Expiry removes an entry that a crash has left in the index, and keeps the upload of another that it names."""
    foreign_upload = ForeignUpload(manager, kind, owner)
    pool = manager.pool
    for key, names in entries_for(foreign_upload.id):
        place = BundleIndex(pool, key)
        for sweep in (lambda: Bundle(pool, SESSION, "b").clear(), partial(expire, pool)):
            for name in names:
                pool.index.put(key, name)
            sweep()
            assert foreign_upload.snapshot() == foreign_upload.before, names
        assert place.entries() == []
        for name in names:
            pool.index.put(key, name)
        (left,) = place.entries()
        assert place.remove(left) is False
        assert place.remove_file(left, 0, 4) is False
        assert foreign_upload.snapshot() == foreign_upload.before, names
        place.forget(left)
    foreign_upload.check()


def test_expiry_removes_the_uploads_of_the_session(place: dict[str, Any], manager: UploadManager) -> None:
    """Expiry removes the session's own uploads: accepted, failed, and done before a crash."""
    _, client = visit(place)
    assert client.put("b", "a", b"1").status == 200
    identifier = manager.create_identifier()
    assert client.put("b", "b", Stream([b"1"]), identifier, CONTENT_LENGTH="9").status == 400
    assert [len(key) for key in sorted(manager.pool.index.keys((SESSIONS,)))] == [2, 3]
    bucket_id = "a" * 32
    manager.pool.index.put((SESSIONS, SESSION, "b"), BundleEntry(order=1, declared=9, bucket_id=bucket_id).name)
    make_finished(manager.pool, bucket_id, session_owner(SESSION))
    assert len(list(manager.pool.buckets())) == 3
    expire(manager.pool)
    assert list(manager.pool.buckets()) == []
    assert list(manager.pool.index.keys((SESSIONS,))) == []


def test_expiry_removes_uploads_of_an_earlier_version(manager: UploadManager) -> None:
    """An upload without an owner belongs to the session that has accepted it."""
    pool, bucket_id = manager.pool, "a" * 32
    place = BundleIndex(pool, (SESSIONS, SESSION, "b"))
    entry = place.announce(bucket_id, 9)
    place.accept(entry, fill(pool.begin(bucket_id, starting()), starting()))
    assert [attachment.name for attachment in Bundle(pool, SESSION, "b")] == ["a.txt"]
    expire(pool)
    assert list(pool.buckets()) == []


def test_a_stalled_attachment_is_outdated(manager: UploadManager) -> None:
    """A running upload is kept while it has heartbeats, and removed with its entry after a day without one."""
    pool, bucket_id = manager.pool, "a" * 32
    place = BundleIndex(pool, (SESSIONS, SESSION, "b"))
    sweeps: tuple[Callable[[], Any], ...] = (lambda: list(remove_outdated(pool, 0)), place.files)
    for (seconds, left), sweep in product(((STALLED_AFTER - 60, 1), (STALLED_AFTER + 60, 0)), sweeps):
        status = replace(starting(session_owner(SESSION)), updated=timestamp(time.time() - seconds))
        pool.index.put(place.key, BundleEntry(order=1, declared=9, bucket_id=bucket_id).name)
        attempt = pool.begin(bucket_id, status)
        assert list(remove_outdated(pool, STALLED_AFTER + 3600)) == []
        sweep()
        # A heartbeat that was in flight to the store is removed by the next one.
        wait_until(lambda: (len(list(pool.buckets())), len(place.entries())) == (left, left))  # noqa: B023
        attempt.fail(status.failed(Superseded()))
        pool.clear(bucket_id)


def test_an_attachment_kept_by_the_application_is_not_removed(manager: UploadManager) -> None:
    """An attachment that the application keeps is not removed; its entry in the index is."""
    pool, bucket_id = manager.pool, "a" * 32
    place = BundleIndex(pool, (SESSIONS, SESSION, "b"))
    owner = session_owner(SESSION)
    place.accept(place.announce(bucket_id, 9), fill(pool.begin(bucket_id, starting(owner)), starting(owner)))
    pool.bucket(bucket_id).keep()
    expire(pool)
    assert pool.bucket(bucket_id).is_complete()
    assert place.entries() == []


@pytest.fixture
def garbage(place: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> RecordGarbage:
    """Return the garbage collection with a server that reports each record as deleted."""
    public = str(tmp_path / "public") if getattr(request, "param", "pool") == "folder" else ""
    settings = RecordSettings.parse({**place, **RECORDS, "base_path": public})
    storage = make_storage(make_manager(settings).pool, settings)
    return RecordGarbage(storage, settings, lambda path: (404, None), older_than=-600)


def files_of(garbage: RecordGarbage) -> RecordLedger:
    """Return the ledger of the garbage collection."""
    return garbage._ledger


@pytest.mark.parametrize("garbage", ["pool", "folder"], indirect=True)
@pytest.mark.parametrize(("kind", "owner"), OWNED)
def test_an_entry_of_a_record_leaves_a_foreign_upload_unchanged(
    manager: UploadManager, garbage: RecordGarbage, kind: str, owner: str
) -> None:
    """The garbage collection and the removal of a record remove an entry, but not a foreign upload that it names."""
    foreign_upload = ForeignUpload(manager, kind, owner)
    files = files_of(garbage)
    address = RecordTemplate(RECORDS["record_url"]).record(RECORD)
    assert address is not None

    def drop() -> list[None]:
        for entry in list(files.entries(())):
            files.delete(entry)
        return []

    for registered, remove in product((False, True), (garbage.collect, drop)):
        files.begin(address, foreign_upload.id)
        if registered:
            file = StoredFile(
                location="a.txt", bucket_id=foreign_upload.id, filename="a", mimetype="x/y", size=4, hash="1" * 64
            )
            files._write(address, foreign_upload.id, file.location)
            assert files.storage.register(file)
        list(remove())
        assert list(files.entries(())) == []
        assert files.storage.find("a.txt") is None
        assert foreign_upload.snapshot() == foreign_upload.before
    foreign_upload.check()


@pytest.mark.parametrize("garbage", ["pool", "folder"], indirect=True)
def test_removing_a_file_leaves_a_foreign_upload_of_the_same_bytes(
    manager: UploadManager, garbage: RecordGarbage
) -> None:
    """Removing a registered file does not remove another's upload of the same bytes, but one without an owner."""
    storage = files_of(garbage).storage
    for owner, left in ((session_owner(SESSION), True), ("s3fileup", True), ("", False)):
        foreign_upload = ForeignUpload(manager, "finished", owner)
        file = StoredFile(
            location="a.txt",
            bucket_id=foreign_upload.id,
            filename="a",
            mimetype="x/y",
            size=len(CONTENT),
            hash=foreign_upload.before[0].files[0].sha256 or "",
        )
        assert storage.register(file)
        storage.remove(file)
        assert manager.pool.bucket(foreign_upload.id).is_complete() is left


def test_the_collection_removes_the_uploads_of_the_record(manager: UploadManager, garbage: RecordGarbage) -> None:
    """The garbage collection removes the record's own uploads: failed, done, and stalled ones."""
    files, pool = files_of(garbage), manager.pool
    address = RecordTemplate(RECORDS["record_url"]).record(RECORD)
    assert address is not None
    owner = record_owner(address.segments)
    for number, make in enumerate((make_finished, make_failed)):
        files.begin(address, str(number) * 32)
        make(pool, str(number) * 32, owner)
    files.begin(address, "a" * 32)
    stalled = replace(starting(owner), updated=timestamp(time.time() - STALLED_AFTER - 60))
    attempt = pool.begin("a" * 32, stalled)
    files.begin(address, "b" * 32)
    running = pool.begin("b" * 32, starting(owner))
    list(garbage.collect())
    assert [bucket.id for bucket in pool.buckets()] == ["b" * 32]
    running.fail(starting(owner).failed(Interrupted()))
    attempt.fail(stalled.failed(Superseded()))
    list(garbage.collect())
    assert list(pool.buckets()) == []


# Requests to attach a file to a record: a body and its type.
SENT = {
    "no form": (b"x", "text/css"),
    "no byte": (b"", FORM_TYPE),
    "no file": (form(field_part("data", "{}")), FORM_TYPE),
    "two files": (form(file_part(b"1", name="attachment"), file_part(b"2", name="attachment")), FORM_TYPE),
    "wrong field": (form(file_part(b"1", name="other")), FORM_TYPE),
    "extension": (form(file_part(b"1", "a.exe", "attachment")), FORM_TYPE),
    "too large": (form(file_part(bytes(4 << 20), name="attachment")), FORM_TYPE),
    "what is right": (form(file_part(b"1", name="attachment")), FORM_TYPE),
}


@pytest.mark.parametrize("kind", ["finished", "kept"])
def test_a_file_for_a_record_leaves_a_foreign_upload_unchanged(
    place: dict[str, Any], garbage: RecordGarbage, manager: UploadManager, kind: str
) -> None:
    """Attaching a file to a record under the identifier of another's finished upload leaves that upload unchanged."""
    app = RecordAttachments(RestApp(), **{**place, **RECORDS, "extensions": "txt", "max_size": "2K"})
    client = webtest.TestApp(app)
    foreign_upload = ForeignUpload(manager, kind)
    headers = {"X-Progress-ID": foreign_upload.identifier}
    for way, (body, content_type) in SENT.items():
        answer = client.post(
            f"{RECORD}/attachment", body, content_type=content_type, headers=headers, expect_errors=True
        )
        assert HTTPStatus.BAD_REQUEST <= answer.status_int < HTTPStatus.INTERNAL_SERVER_ERROR, way
        assert list(files_of(garbage).entries(())) == [], way
        client.delete(RECORD, expect_errors=True)
        list(garbage.collect())
        assert foreign_upload.snapshot() == foreign_upload.before, way
    foreign_upload.check()


def test_s3fileup_leaves_a_foreign_upload_unchanged(place: dict[str, Any], manager: UploadManager) -> None:
    """s3fileup does not find the key of an upload that another application owns, and cancels none."""
    settings = S3FileupSettings.parse({**place, "anonymous": True})
    app = S3Fileup.from_manager(manager, settings)
    uploads: FileUploads = app._uploads
    for kind in KINDS:
        foreign_upload = ForeignUpload(manager, kind, session_owner(SESSION))
        with pytest.raises(UnknownKey):
            uploads.find(foreign_upload.identifier)
        if kind not in {"finished", "kept"}:
            uploads.cancel(UploadHandle(foreign_upload.identifier, foreign_upload.id, foreign_upload.before[0], ""))
        foreign_upload.check()


def test_s3fileup_sends_no_webhook_for_a_foreign_upload(
    place: dict[str, Any], manager: UploadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook is repeated only while the bucket holds an upload that s3fileup began."""
    settings = S3FileupSettings.parse({**place, "anonymous": True, "callback_url": "http://127.0.0.1:9/"})
    callback = S3Fileup.from_manager(manager, settings)._uploads._webhook
    told: list[str] = []
    monkeypatch.setattr(callback, "deliver", lambda bucket_id, descriptor: told.append(bucket_id))
    foreign_upload, own = (
        ForeignUpload(manager, "finished", session_owner(SESSION)),
        ForeignUpload(manager, "finished", "s3fileup"),
    )
    for each in (foreign_upload, own):
        manager.pool.index.put(("s3fileup", "untold"), each.id, each.identifier)
    callback._retry()
    assert told == [own.id]
    assert manager.pool.index.names(("s3fileup", "untold")) == []
