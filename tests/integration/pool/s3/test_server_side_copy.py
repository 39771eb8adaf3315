"""Server-side copies, on real stores."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from fileupload.pool.s3 import server_side_copy as s3_copy
from fileupload.pool.s3.store import S3Store

PART = 5 << 20  # bytes; the smallest that stores accept


@pytest.fixture(params=["store", "ceph_store"])
def any_store(request: pytest.FixtureRequest) -> S3Store:
    """Return a real store, of each kind."""
    store: S3Store = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def folder() -> str:
    """Return an unused prefix of keys."""
    return uuid.uuid4().hex + "/"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let objects above the size of one part be copied in parts."""
    monkeypatch.setattr(s3_copy, "_MAX_AT_ONCE", PART)
    monkeypatch.setattr(s3_copy, "_MIN_COPY_PART_SIZE", PART)


def put_in_parts(store: S3Store, key: str, content_type: str = "image/png") -> bytes:
    """Store an object of two parts; return its bytes."""
    upload = store.create_multipart_upload(key, content_type)
    contents = [b"a" * PART, b"b" * 1000]
    store.complete_multipart_upload(
        key, upload, [store.put_part(key, upload, number, content) for number, content in enumerate(contents, 1)]
    )
    return b"".join(contents)


def type_of(store: S3Store, key: str) -> str:
    """Return the Content-Type in the answer of a store."""
    return str(store.client.head_object(Bucket=store.s3_bucket, Key=key)["ContentType"])


def test_a_copy_has_the_bytes_and_the_type_of_its_source(any_store: S3Store, folder: str) -> None:
    """A copy has the bytes and the type of its source, or another type, and stays when the source is deleted."""
    content = put_in_parts(any_store, folder + "source")
    any_store.copy(folder + "source", folder + "same")
    any_store.copy(folder + "source", folder + "other", content_type="text/plain")
    any_store.delete([folder + "source"])
    assert any_store.get(folder + "same") == any_store.get(folder + "other") == content
    assert (type_of(any_store, folder + "same"), type_of(any_store, folder + "other")) == ("image/png", "text/plain")


@pytest.mark.usefixtures("small_parts")
def test_a_large_object_is_copied_in_parts(any_store: S3Store, folder: str) -> None:
    """An object too large for one request is copied in parts, with the same bytes and the same type."""
    content = put_in_parts(any_store, folder + "source")
    any_store.copy(folder + "source", folder + "same", etag=any_store.stat(folder + "source").etag)
    any_store.copy(folder + "source", folder + "other", content_type="text/plain")
    assert any_store.get(folder + "same") == any_store.get(folder + "other") == content
    assert (type_of(any_store, folder + "same"), type_of(any_store, folder + "other")) == ("image/png", "text/plain")


def test_an_object_is_copied_only_with_the_given_etag(any_store: S3Store, folder: str) -> None:
    """With an ETag, an object is copied only while it has that ETag; a missing object is not copied."""
    any_store.put(folder + "source", b"first")
    etag = any_store.stat(folder + "source").etag
    any_store.copy(folder + "source", folder + "copy", etag=etag)
    any_store.put(folder + "source", b"second")
    with pytest.raises(FileNotFoundError):
        any_store.copy(folder + "source", folder + "copy", etag=etag)
    with pytest.raises(FileNotFoundError):
        any_store.copy(folder + "absent", folder + "copy")
    assert any_store.get(folder + "copy") == b"first"


@pytest.fixture
def late_change(any_store: S3Store, folder: str) -> Iterator[None]:
    """Change *source* after it was inspected, and before it is copied."""
    events = any_store.client.meta.events
    own_thread = threading.get_ident()

    def change(**_: Any) -> None:
        if threading.get_ident() != own_thread:  # a heartbeat of an earlier test, which uses the same client
            return
        events.unregister("after-call.s3.HeadObject", change)
        any_store.put(folder + "source", b"c" * (PART + 1000))

    events.register("after-call.s3.HeadObject", change)
    yield
    events.unregister("after-call.s3.HeadObject", change)


@pytest.mark.usefixtures("late_change")
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_a_source_replaced_during_the_copy_is_not_copied(
    any_store: S3Store, folder: str, request: pytest.FixtureRequest, parts: bool
) -> None:
    """A source that is replaced during the copy results in no copy and leaves no parts."""
    if parts:
        request.getfixturevalue("small_parts")
    put_in_parts(any_store, folder + "source")
    with pytest.raises(FileNotFoundError):
        any_store.copy(folder + "source", folder + "copy")
    with pytest.raises(FileNotFoundError):
        any_store.stat(folder + "copy")
    assert list(any_store.list_multipart_uploads(folder)) == []


@pytest.mark.usefixtures("small_parts")
def test_a_copy_that_fails_leaves_nothing(any_store: S3Store, folder: str) -> None:
    """If the store fails in the middle, neither an object nor a part of it is left."""
    put_in_parts(any_store, folder + "source")
    events = any_store.client.meta.events

    def fail(params: dict[str, Any], **_: Any) -> None:
        if params["query_string"]["partNumber"] == 2:
            raise OSError("the line is cut")

    events.register("before-call.s3.UploadPartCopy", fail)
    try:
        with pytest.raises(OSError, match="cut"):
            any_store.copy(folder + "source", folder + "copy")
    finally:
        events.unregister("before-call.s3.UploadPartCopy", fail)
    assert [each.key for each in any_store.list(folder)] == [folder + "source"]
    assert list(any_store.list_multipart_uploads(folder)) == []


def test_objects_are_copied_between_buckets_of_one_store(any_store: S3Store, folder: str) -> None:
    """A store copies from any of its buckets, with the headers to serve the copy with; never from another store."""
    other = S3Store(lambda: any_store.client, f"other-{uuid.uuid4().hex[:12]}")
    other.client.create_bucket(Bucket=other.s3_bucket)
    any_store.put(folder + "source", b"content")
    served = other.with_object_headers("text/plain", disposition='inline; filename="a.txt"')
    assert served.copy_from(any_store, folder + "source", "copy")
    answer = other.client.get_object(Bucket=other.s3_bucket, Key="copy")
    assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/plain", 'inline; filename="a.txt"')
    assert answer["Body"].read() == b"content"
    with pytest.raises(FileNotFoundError):
        served.copy_from(any_store, folder + "absent", "copy")


def test_objects_are_not_copied_between_two_stores(store: S3Store, ceph_store: S3Store) -> None:
    """Nothing is copied between two stores: neither can read the other."""
    assert not ceph_store.copy_from(store, "source", "copy")
