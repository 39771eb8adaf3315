"""Both kinds of attachments in an object store: they do not depend on folders."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import webtest

from fileupload import SessionAttachments
from fileupload.deploy import RecordAttachments
from fileupload.pool.s3.store import S3Store
from tests.support.rest_app import RestApp
from tests.support.stores.fixtures import Place


@pytest.fixture
def place(any_place: Place) -> dict[str, Any]:
    """Return the settings of an empty pool."""
    return {"pool": f"s3://{any_place.store.s3_bucket}/{uuid.uuid4().hex}", **any_place.access}


@pytest.fixture
def store(any_place: Place) -> S3Store:
    """Return the store of that pool."""
    return any_place.store


def left_over(store: S3Store, place: dict[str, Any]) -> list[str]:
    """Return the keys of all objects in the pool, except its key, its leases and its refusals."""
    prefix = place["pool"].rpartition("/")[2]
    keys = [each.key.removeprefix(prefix + "/") for each in store.list(prefix)]
    return [key for key in keys if key != ".upload_key" and not key.startswith(("turns/", "refused/"))]


def test_attachments_of_a_session_are_kept_in_a_store(store: S3Store, place: dict[str, Any]) -> None:
    """Attachments are added, listed, replaced, read and removed, and then nothing of them is in the store."""
    client = webtest.TestApp(SessionAttachments(None, **place))
    answer = client.post("/attachments/b/", upload_files=[("a", "ä.txt", b"one"), ("b", "b.txt", b"two")])
    assert [each["name"] for each in answer.json] == ["ä.txt", "b.txt"]
    client.post("/attachments/b/", upload_files=[("a", "ä.txt", b"three")])
    assert [each["size"] for each in client.get("/attachments/b/").json] == [3, 5]
    assert client.get("/attachments/b/%C3%A4.txt/").body == b"three"
    assert client.post("/attachments/b/b.txt/delete/").json == [True]
    assert client.post("/attachments/b/delete/").json == [[True]]
    assert left_over(store, place) == []


def test_conditions_in_a_store(store: S3Store, place: dict[str, Any]) -> None:
    """Conditional requests are refused with 412 in an object store too, and leave nothing."""
    client = webtest.TestApp(SessionAttachments(None, **place))
    tag = client.put("/attachments/b/a.txt/", b"one").headers["ETag"]
    assert client.put("/attachments/b/a.txt/", b"two", headers={"If-Match": tag}).status_int == 200
    for headers in ({"If-Match": tag}, {"If-None-Match": "*"}):
        assert client.put("/attachments/b/a.txt/", b"lost", headers=headers, expect_errors=True).status_int == 412
    assert client.delete("/attachments/b/a.txt/", headers={"If-Match": tag}, expect_errors=True).status_int == 412
    assert client.get("/attachments/b/a.txt/").body == b"two"
    assert client.delete("/attachments/b/a.txt/", headers={"If-Match": "*"}).json == [True]
    assert left_over(store, place) == []


def test_an_attachment_of_a_record_is_kept_in_a_store(store: S3Store, place: dict[str, Any]) -> None:
    """The file of a record is attached, served in byte ranges, replaced, and removed with its record."""
    settings = {"record_url": "/api/{kind}/{id}", "base_url": "/files/", "serve_files": True, "folder": "{kind}"}
    client = webtest.TestApp(RecordAttachments(RestApp(), **settings, **place))
    for content, status in ((b"old", 201), (b"new", 200)):
        answer = client.post("/api/pictures/a/attachment", upload_files=[("attachment", "a.png", content)])
        assert answer.status_int == status
    location = answer.json["location"]
    assert client.get(location).body == b"new"
    assert client.get(location, headers={"Range": "bytes=1-"}).body == b"ew"
    assert client.get("/api/pictures/a").json["attachment"]["location"] == location
    assert len([key for key in left_over(store, place) if "/f/" in key]) == 1
    client.delete("/api/pictures/a")
    assert left_over(store, place) == []
