"""Files of records in public storage of a real object store, while the pool is a folder or in that store too."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import webtest

from fileupload.apps.record_attachments.garbage_collection import RecordGarbage
from fileupload.apps.record_attachments.ledger import RecordLedger
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import attachment_of
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.deploy import RecordAttachments, make_manager, make_pool
from fileupload.errors import FileMissing, SettingError
from fileupload.identifiers import new_id
from fileupload.pool.base import Pool
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE
from fileupload.pool.s3 import store as s3
from fileupload.pool.s3.store import S3Store, make_client
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.kinto_site import CommandLine
from tests.support.public_places import public_storage_settings
from tests.support.rest_app import RestApp, record_server
from tests.support.stores.fixtures import CEPH_KEYS, SWIFT_KEYS
from tests.support.waiting import PATIENCE

CRASHING = Path(__file__).with_name("crashing.py")
RECORD = "/api/pictures/one"


@dataclass
class PublicStorageSite:
    """A REST app behind record attachments, and its public storage.

    :ivar store: the one with the public storage.
    """

    store: S3Store
    settings: dict[str, Any]
    app: RestApp = field(default_factory=RestApp)

    def __post_init__(self) -> None:
        self.client = webtest.TestApp(RecordAttachments(self.app, **self.settings))

    @property
    def parsed(self) -> RecordSettings:
        """Return the settings, converted."""
        return RecordSettings.parse(self.settings)

    @property
    def prefix(self) -> str:
        """Return the prefix of locations in the keys of objects."""
        return str(self.settings["base_path"]).split("/", 3)[3] + "/"

    def attach(self, content: bytes, filename: str = "a.png", *, query: str = "") -> str:
        """Attach a file; return its location."""
        files = [("attachment", filename, content)]
        return str(self.client.post(f"{RECORD}/attachment{query}", upload_files=files).json["location"])

    def public(self) -> dict[str, bytes]:
        """Return the files in the public storage."""
        keys = [each.key for each in self.store.list(self.prefix)]
        return {key.removeprefix(self.prefix): self.store.get(key) for key in keys}

    def head(self, location: str) -> dict[str, Any]:
        """Return the store's answer to HEAD for a public file."""
        key = self.prefix + location.rpartition(self.prefix)[2]
        answer: dict[str, Any] = self.store.client.head_object(Bucket=self.store.s3_bucket, Key=key)
        return answer

    def collect(self) -> None:
        """Run the garbage collection for uploads of any age."""

        def ask(path: str) -> tuple[int, Any]:
            record = self.app.records.get(path)
            return (404, None) if record is None else (200, record)

        storage = make_storage(make_pool(self.parsed), self.parsed)
        list(RecordGarbage(storage, self.parsed, ask, older_than=-1).collect())

    def assert_empty(self) -> None:
        """Check that nothing is left, neither in the pool nor in the public storage."""
        pool = make_pool(self.parsed)
        assert [*self.store.list(self.prefix), *self.store.list_multipart_uploads(self.prefix)] == []
        assert [*pool.buckets(), *pool.index.keys(())] == []


pytestmark = [pytest.mark.full_with(make_site="swift"), pytest.mark.full_with(make_site="ceph")]


@pytest.fixture(params=["swift", "ceph", "swift, pool in a folder", "ceph, pool in a folder"])
def make_site(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., PublicStorageSite]:
    """Make a site whose pool is a folder, or in another ``s3_bucket`` than the public storage."""
    name, keys = ("ceph_store", CEPH_KEYS) if "ceph" in request.param else ("store", SWIFT_KEYS)
    store = request.getfixturevalue(name)

    def make(**more: Any) -> PublicStorageSite:
        settings = {
            "record_url": "/api/{kind}/{id}",
            "min_free_space": 0,
            **public_storage_settings(store, keys),
            **more,
        }
        if "folder" in request.param:
            return PublicStorageSite(store, {"directory": str(tmp_path / "pool"), **settings})
        other = f"other-{uuid.uuid4().hex[:12]}"
        store.client.create_bucket(Bucket=other)
        return PublicStorageSite(store, {"pool": f"s3://{other}/pool", **settings})

    return make


@pytest.fixture
def site(make_site: Callable[..., PublicStorageSite]) -> PublicStorageSite:
    """Return a site with the settings as they are."""
    return make_site()


def test_a_file_is_removed_when_it_is_replaced_and_with_its_record(site: PublicStorageSite) -> None:
    """A record has the store's own address; a file is removed when it is replaced, and with its record."""
    site.attach(b"old")
    location = site.attach(b"new")
    assert list(site.public().values()) == [b"new"]
    address = f"{site.settings['s3_endpoint_url']}/{site.store.s3_bucket}/{site.prefix}"
    assert location == address + next(iter(site.public()))
    assert site.client.get(RECORD).json["attachment"]["location"] == location
    assert list(make_pool(site.parsed).buckets()) == []
    site.client.delete(RECORD)
    site.assert_empty()


def test_an_object_has_a_media_type_and_a_content_disposition(site: PublicStorageSite) -> None:
    """The object has the media type, and a Content-Disposition that shows safe types and saves all others by name."""
    head = site.head(site.attach(b"picture", "ä.png"))
    assert head["ContentType"] == "image/png"
    assert "CacheControl" not in head
    assert head["ContentDisposition"] == "inline; filename=\"_.png\"; filename*=UTF-8''%C3%A4.png"
    head = site.head(site.attach(b"<script>", "a.svg"))
    assert head["ContentType"] == "image/svg+xml"
    assert head["ContentDisposition"].startswith('attachment; filename="a.svg"')


def test_a_large_file_is_stored_in_parts_and_served(site: PublicStorageSite) -> None:
    """A file of several parts is stored and served like a small one."""
    content = bytes(range(256)) * (DEFAULT_PART_SIZE // 256) + b"some more"
    location = site.attach(content)
    assert list(site.public().values()) == [content]
    assert site.head(location)["ContentType"] == "image/png"
    site.client.delete(RECORD)
    site.assert_empty()


def test_an_empty_file_is_stored(site: PublicStorageSite) -> None:
    """A file of no bytes is stored like any other."""
    site.attach(b"")
    assert list(site.public().values()) == [b""]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the requests to the store from now on, by new clients: operations and paths."""
    sent: list[tuple[str, str]] = []

    def make(**options: Any) -> Any:
        client = make_client(**options)
        client.meta.events.register("before-call.s3", note)
        return client

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:
        sent.append((model.name, urlsplit(params["url"]).path))

    monkeypatch.setattr(s3, "make_client", make)
    return sent


def test_a_file_is_copied_by_the_store_where_possible(
    sent: list[tuple[str, str]], make_site: Callable[..., PublicStorageSite]
) -> None:
    """From a pool in the same store a file is copied there; from a folder it is sent in parts."""
    site = make_site()
    sent.clear()
    site.attach(bytes(DEFAULT_PART_SIZE + 1))
    done = [operation for operation, path in sent if path.startswith(f"/{site.store.s3_bucket}/{site.prefix}")]
    read = [path for operation, path in sent if operation == "GetObject" and "/f/" in path]
    assert read == []
    if "pool" in site.settings:
        assert done == ["HeadObject", "CopyObject"]
    else:
        parts = ["UploadPart", "UploadPart"]
        assert done == ["HeadObject", "CreateMultipartUpload", *parts, "CompleteMultipartUpload"]


def test_the_status_stays_done_after_the_file_was_published(site: PublicStorageSite) -> None:
    """The status of the upload stays done for its identifier, while its bytes are in the public storage alone."""
    identifier = make_manager(site.parsed).create_identifier()
    site.attach(b"content", query=f"?X-Progress-ID={identifier}")
    bucket = make_manager(site.parsed).access_upload_bucket(identifier)
    assert bucket is not None
    assert bucket.is_complete()
    with pytest.raises(FileMissing):
        bucket.open()
    assert list(site.public().values()) == [b"content"]


def test_the_settings_determine_folder_and_names_of_files(make_site: Callable[..., PublicStorageSite]) -> None:
    """Folder and names follow the settings, and no existing object is overwritten."""
    site = make_site(folder="{kind}", randomize=False, filename_pattern="{rid}-{filename}")
    site.store.put(site.prefix + "pictures/one-a.png", b"of somebody else")
    assert site.attach(b"content").endswith("/pictures/one-a-1.png")
    assert site.public() == {"pictures/one-a.png": b"of somebody else", "pictures/one-a-1.png": b"content"}
    site.client.delete(RECORD)
    assert list(site.public()) == ["pictures/one-a.png"]


def test_old_files_are_kept(make_site: Callable[..., PublicStorageSite]) -> None:
    """With keep_old_files, a file stays when it is replaced, and when its record is deleted."""
    site = make_site(keep_old_files=True)
    site.attach(b"old")
    site.attach(b"new")
    site.client.delete(RECORD)
    assert sorted(site.public().values()) == [b"new", b"old"]


def test_a_refused_file_leaves_nothing(make_site: Callable[..., PublicStorageSite]) -> None:
    """A file that is too large, or that the app refuses, leaves nothing."""
    site = make_site(max_size_bytes=10)
    files = [("attachment", "a.png", b"x" * 11)]
    assert site.client.post(f"{RECORD}/attachment", upload_files=files, expect_errors=True).status_int == 400
    site.app.refuses = True
    files = [("attachment", "a.png", b"x")]
    assert site.client.post(f"{RECORD}/attachment", upload_files=files, expect_errors=True).status_int == 403
    site.assert_empty()


@pytest.mark.parametrize(
    ("settings", "location"),
    [
        ({"base_url": "https://cdn.example.com/files"}, "https://cdn.example.com/files/"),
        ({"extra_base_url": "https://cdn.example.com/files"}, ""),
        ({"s3_public_url": "https://s3.example.com"}, "https://s3.example.com/{s3_bucket}/{prefix}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_settings_determine_the_prefix_of_locations(
    make_site: Callable[..., PublicStorageSite], settings: dict[str, str], location: str
) -> None:
    """The prefix of a location is base_url, or empty, or the store's public address."""
    site = make_site(**settings)
    before = location.format(s3_bucket=site.store.s3_bucket, prefix=site.prefix)
    assert site.attach(b"content") == before + next(iter(site.public()))


def test_the_filter_serves_files_of_the_store(make_site: Callable[..., PublicStorageSite]) -> None:
    """With serve_files, the filter serves a file of the store, whole and in ranges; a removed file is not found."""
    site = make_site(base_url="/files/", serve_files=True)
    location = site.attach(b"content")
    assert site.client.get(location).body == b"content"
    assert site.client.get(location, headers={"Range": "bytes=3-"}).body == b"tent"
    site.store.delete([site.prefix + next(iter(site.public()))])
    assert site.client.get(location, status=404).status_int == 404


@pytest.fixture
def removable_site(make_site: Callable[..., PublicStorageSite]) -> PublicStorageSite:
    """Return a site with public storage in an ``s3_bucket`` of its own, which a test may delete."""
    store = make_site().store
    lost = S3Store(lambda: store.client, f"lost-{uuid.uuid4().hex[:12]}")
    store.client.create_bucket(Bucket=lost.s3_bucket)
    site = make_site(base_path=f"s3://{lost.s3_bucket}/public")
    site.store = lost
    return site


def test_the_heartbeat_writes_and_removes_an_object(
    sent: list[tuple[str, str]], removable_site: PublicStorageSite
) -> None:
    """The heartbeat succeeds as long as the store accepts files, and leaves nothing in it."""
    removable_site.app.records["/__heartbeat__"] = {}
    sent.clear()
    assert removable_site.client.get("/__heartbeat__").json == {"attachments": True}
    assert [operation for operation, _ in sent] == ["PutObject", "DeleteObject"]
    assert removable_site.public() == {}
    removable_site.store.client.delete_bucket(Bucket=removable_site.store.s3_bucket)
    assert removable_site.client.get("/__heartbeat__", status=503).json == {"attachments": False}


def test_an_upload_to_failing_storage_is_answered_500(removable_site: PublicStorageSite) -> None:
    """If no file can be stored, an upload is answered 500, no record is made, and nothing of it remains."""
    removable_site.store.client.delete_bucket(Bucket=removable_site.store.s3_bucket)
    files = [("attachment", "a.png", b"content")]
    answer = removable_site.client.post(f"{RECORD}/attachment", upload_files=files, status=500)
    assert removable_site.store.s3_bucket not in answer.text
    assert removable_site.app.records == {}
    removable_site.store.client.create_bucket(Bucket=removable_site.store.s3_bucket)
    removable_site.collect()
    removable_site.assert_empty()


def test_the_remains_of_a_crash_at_any_request_are_collected(site: PublicStorageSite) -> None:
    """After a crash at any request to the public storage, the collection leaves nothing of the upload."""
    for number in range(1, 20):
        command = [sys.executable, str(CRASHING), json.dumps(site.settings), str(number), str(DEFAULT_PART_SIZE + 1)]
        code = subprocess.run(command, timeout=PATIENCE, check=False).returncode
        site.collect()
        site.assert_empty()
        if code == 0:
            break
        assert code == 9
    assert number > 5


def test_the_collection_removes_the_pools_copy_of_a_linked_file(site: PublicStorageSite) -> None:
    """The collection finds that the file is in its record, and removes the bytes that are still in the pool."""
    manager = make_manager(site.parsed)
    record = RecordTemplate(site.parsed.record_url).record(RECORD)
    assert record is not None
    bucket_id = complete(manager.pool, b"content")
    files = RecordLedger(make_storage(manager.pool, site.parsed), site.parsed)
    files.begin(record, bucket_id)
    bucket = manager.pool.bucket(bucket_id)
    stored = files.place(record, bucket, bucket.files[0], site.parsed)
    site.app.records[RECORD] = {"attachment": attachment_of(stored, "")}
    assert bucket.is_complete()
    site.collect()
    with pytest.raises(FileMissing):
        bucket.open()
    assert list(site.public().values()) == [b"content"]
    site.client.delete(RECORD)
    site.assert_empty()


def complete(pool: Pool, content: bytes) -> str:
    """Fill a bucket; return its id."""
    bucket_id, moment = new_id(), timestamp()
    status = UploadStatus(state=State.STARTING, started=moment, updated=moment)
    attempt = pool.begin(bucket_id, status)
    writer = attempt.create_file()
    writer.write(content)
    writer.close()
    file = UploadedFile(field="attachment", filename="a.png", content_type="image/png", size=len(content), sha256="00")
    attempt.finish(status.done((file,), {}))
    return bucket_id


def test_records_gc_accepts_a_folder_or_a_store(site: PublicStorageSite, tmp_path: Path) -> None:
    """``records gc`` accepts the pool and the public storage as settings, in a folder or in a store."""
    site.attach(b"content")
    options = [f"{name}={value}" for name, value in site.settings.items()]
    with record_server(RestApp()) as address:
        run = CommandLine(tmp_path)
        arguments = ("gc", "--server", address, "--all-gone", *(f"--set={option}" for option in options))
        dry = run(*arguments, "--dry-run")
        assert (dry.returncode, "1 would be removed" in dry.stdout) == (0, True), dry.stderr
        assert list(site.public().values()) == [b"content"]
        assert run(*arguments).returncode == 0
    site.assert_empty()


def place(**changed: Any) -> RecordSettings:
    """Return settings of a pool in a store, and of public storage beside it."""
    values = {"pool": "s3://pool/some/prefix", "base_path": "s3://public"}
    return RecordSettings.parse({**values, **changed})


@pytest.mark.parametrize(
    "base_path", ["s3://pool/some/prefix", "s3://pool/some", "s3://pool/", "s3://pool//some/prefix/b/"]
)
def test_the_pool_and_the_public_storage_must_be_separate(base_path: str) -> None:
    """The pool and the public storage must be separate: a location could be the name of an upload."""
    with pytest.raises(SettingError, match=r"setting 'base_path' cannot be .*: it overlaps setting 'pool'"):
        place(base_path=base_path)
    assert place(base_path="s3://pool/some/prefix2").is_in_store


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"base_path": "s3:/public"}, "setting 'base_path' cannot be"),
        ({"base_path": "s3://public?x"}, "setting 'base_path' cannot be"),
        ({"base_acl": "everybody"}, "setting 'base_acl' cannot be .* public-read"),
        ({"base_acl": "public-read", "base_path": "/srv/public"}, "setting 'base_acl' is for files in an object store"),
    ],
)
def test_wrong_settings_are_named(changed: dict[str, str], problem: str) -> None:
    """An invalid value is refused with the setting's name."""
    with pytest.raises(SettingError, match=problem):
        place(**changed)


def test_unusable_public_storage_stops_the_start(make_site: Callable[..., PublicStorageSite]) -> None:
    """Missing public storage stops the start with the setting's name, and the store's own answer."""
    with pytest.raises(SettingError, match=r"setting 'base_path' cannot be 's3://no-such-bucket': .*NoSuchBucket"):
        make_site(base_path="s3://no-such-bucket/public")
    assert make_site().public() == {}


# Swift has no ACLs in this setup.
@pytest.mark.parametrize(
    "make_site", ["ceph, pool in a folder"], indirect=True
)  # Swift's S3 interface has no ACLs in this setup
def test_a_public_acl_allows_reading_without_a_signature(make_site: Callable[..., PublicStorageSite]) -> None:
    """With public-read, a file can be read at its location without a signature; without an ACL it cannot."""
    site = make_site(base_acl="public-read")
    large = bytes(DEFAULT_PART_SIZE + 1)
    for content in (b"content", large):
        answer = requests.get(site.attach(content), timeout=PATIENCE)
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"].startswith('inline; filename="a.png"')
    assert requests.get(make_site().attach(b"content"), timeout=PATIENCE).status_code == 403


@pytest.mark.parametrize("size", [5, DEFAULT_PART_SIZE + 1], ids=["at once", "in parts"])
def test_an_object_has_the_cache_control_of_the_settings(
    make_site: Callable[..., PublicStorageSite], size: int
) -> None:
    """The header is stored with each object, so that the store and any CDN send it."""
    site = make_site(cache_control="public, max-age=31536000, immutable")
    location = site.attach(b"x" * size)
    assert site.head(location)["CacheControl"] == "public, max-age=31536000, immutable"
    answer = requests.get(location, timeout=PATIENCE, stream=True)
    if answer.status_code == 200:  # Swift ignores the ACL
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    answer.close()
