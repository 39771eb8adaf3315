"""Removal of files: a file is removed with the record that refers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.records.kinto_harness import MAT, RECORD, Kinto

BUCKET = "/v1/buckets/fennec"
COLLECTION = f"{BUCKET}/collections/fonts"
RECORDS = f"{COLLECTION}/records"


def attach_several(kinto: Kinto) -> dict[str, str]:
    """Attach a file to each of three records, with numbers; return their locations by the records' ids."""
    kinto.make_collection("fennec", "icons")
    paths = {"one": f"{RECORDS}/one", "two": f"{RECORDS}/two", "icon": f"{BUCKET}/collections/icons/records/icon"}
    return {
        name: kinto.attached(path, (f"{name}.txt", name.encode()), data=f'{{"number": {number}}}')["location"]
        for number, (name, path) in enumerate(paths.items(), 1)
    }


def check_left(kinto: Kinto, *names: str) -> None:
    """Check that the files of these records are left, and none of the others."""
    assert kinto.contents() == sorted(name.encode() for name in names)
    if not names:
        assert kinto.left() == set()


def test_a_replaced_file_is_removed(kinto: Kinto) -> None:
    """A new attachment replaces the old one, whose location is then not found."""
    first = kinto.attached()
    second = kinto.attached(RECORD, ("other.jpg", b"other"))
    assert first["location"] != second["location"]
    assert kinto.fetch(first["location"]).status_code == 404
    assert kinto.contents() == [b"other"]
    kinto.request("DELETE", RECORD)
    check_left(kinto)


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (f"{RECORDS}/one", ["two", "icon"]),
        (f"{RECORDS}/one/", ["two", "icon"]),
        (RECORDS, ["icon"]),
        (f"{RECORDS}?number=2", ["one", "icon"]),
        (f"{RECORDS}?number=2&_fields=number", ["one", "icon"]),
        (f"{RECORDS}?number=9", ["one", "two", "icon"]),
        (f"{RECORDS}?_limit=1&_sort=number", ["two", "icon"]),
        (COLLECTION, ["icon"]),
        (f"{BUCKET}/collections", []),
        (f"{BUCKET}/collections?id=fonts", ["icon"]),
        (BUCKET, []),
        ("/v1/buckets", []),
        ("/v1/buckets?id=fennec", []),
        ("/v1/buckets?id=other", ["one", "two", "icon"]),
        (f"{BUCKET}/groups", ["one", "two", "icon"]),
        (f"{RECORDS}/none", ["one", "two", "icon"]),
    ],
)
def test_deleting_records_or_their_parents_removes_their_files(kinto: Kinto, path: str, left: list[str]) -> None:
    """Deleting a record, a list of them, a collection or a bucket removes their files, and no others."""
    attach_several(kinto)
    kinto.request("DELETE", path)
    check_left(kinto, *left)


@pytest.mark.parametrize("path", [f"{RECORDS}/one", RECORDS, BUCKET], ids=["record", "records", "bucket"])
def test_a_refused_deletion_removes_nothing(kinto: Kinto, path: str) -> None:
    """If the app refuses a deletion, by its permissions or by a precondition, all files stay."""
    attach_several(kinto)
    assert kinto.request("DELETE", path, headers={}).status_code == 401
    assert kinto.request("DELETE", path, headers={**MAT, "If-Match": '"1234567890123"'}).status_code == 412
    check_left(kinto, "one", "two", "icon")


def test_replacing_a_record_without_its_attachment_removes_the_file(kinto: Kinto) -> None:
    """Replacing a record by one without the attachment removes the file."""
    kinto.attached()
    assert kinto.request("PUT", RECORD, json={"data": {"family": "x"}}).status_code == 200
    check_left(kinto)


def test_deletions_in_a_batch_remove_their_files(kinto: Kinto) -> None:
    """In a batch, each deletion that succeeds removes its files."""
    attach_several(kinto)
    body = {
        "defaults": {"method": "DELETE", "headers": {"Accept": "application/json"}},
        "requests": [
            {"path": f"{RECORDS}/one"},
            {"path": "/buckets/fennec/collections/fonts/records?number=2"},
            {"path": f"{RECORDS}/none"},
            {"path": f"{BUCKET}/collections/%69cons", "headers": {"If-Match": '"1234567890123"'}},
        ],
    }
    answers = kinto.request("POST", "/v1/batch", json=body).json()["responses"]
    assert [answer["status"] for answer in answers] == [200, 200, 404, 412]
    check_left(kinto, "icon")


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/batch/"])
def test_replacing_a_record_in_a_batch_removes_its_file(kinto: Kinto, path: str) -> None:
    """A record that a batch replaces loses its file; a percent-encoded path makes no difference."""
    attach_several(kinto)
    body = {
        "requests": [
            {"method": "PUT", "path": f"{RECORDS}/one", "body": {"data": {}}},
            {"method": "DELETE", "path": f"{BUCKET}/c%6Fllections/icons"},
        ]
    }
    kinto.request("POST", path, json=body)
    check_left(kinto, "two")


def test_flushing_removes_all(kinto: Kinto) -> None:
    """Flushing the server removes the files of all records."""
    attach_several(kinto)
    kinto.attached("/v1/buckets/default/collections/pix/records/q")
    assert kinto.request("POST", "/v1/__flush__").status_code == 202
    check_left(kinto)


@pytest.mark.parametrize("path", ["/__flush__", "/v1/__flush__", "/__fl%75sh__"])
def test_flushing_in_a_batch_removes_all(kinto: Kinto, path: str) -> None:
    """A batch may flush the server, too."""
    attach_several(kinto)
    answer = kinto.request("POST", "/v1/batch", json={"requests": [{"method": "POST", "path": path}]})
    assert answer.json()["responses"][0]["status"] == 202
    check_left(kinto)


def test_the_default_bucket_is_deleted_under_both_names(kinto: Kinto) -> None:
    """A deletion removes the files of the default bucket under either of the bucket's names."""
    bucket = kinto.get("/v1/")["user"]["bucket"]
    for made, deleted in (("default", bucket), (bucket, "default"), ("default", "default")):
        kinto.attached(f"/v1/buckets/{made}/collections/fonts/records/q") if made == "default" else _put(kinto, made)
        assert kinto.request("DELETE", f"/v1/buckets/{deleted}").status_code == 200
        check_left(kinto)


def _put(kinto: Kinto, bucket: str) -> None:
    kinto.make_collection(bucket, "fonts")
    kinto.attached(f"/v1/buckets/{bucket}/collections/fonts/records/q")


@pytest.mark.parametrize("way", ["replaced", "taken off", "record", "collection", "bucket", "flushed", "batch"])
def test_old_files_are_kept(kinto: Kinto, way: str) -> None:
    """With keep_old_files, no request removes a file; it stays where it was."""
    kinto.make_collection("keeping", "fonts")
    record = RECORD.replace("fennec", "keeping")
    location = kinto.attached(record)["location"]
    delete: dict[str, Any] = {"requests": [{"method": "DELETE", "path": record}]}
    ways: dict[str, Callable[[], object]] = {
        "replaced": lambda: kinto.attach(record, ("other.jpg", b"other")),
        "taken off": lambda: kinto.request("DELETE", f"{record}/attachment"),
        "record": lambda: kinto.request("DELETE", record),
        "collection": lambda: kinto.request("DELETE", "/v1/buckets/keeping/collections/fonts"),
        "bucket": lambda: kinto.request("DELETE", "/v1/buckets/keeping"),
        "flushed": lambda: kinto.request("POST", "/v1/__flush__"),
        "batch": lambda: kinto.request("POST", "/v1/batch", json=delete),
    }
    ways[way]()
    assert kinto.fetch(location).content == b"--fake--"
    assert (b"other" in kinto.contents()) == (way == "replaced")


def test_changes_of_groups_remove_no_files(kinto: Kinto) -> None:
    """Creating and deleting groups changes no files."""
    group = "/v1/buckets/default/groups/admins"
    assert kinto.request("PUT", group, json={"data": {"members": ["them"]}}).status_code == 201
    assert kinto.request("DELETE", group).status_code == 200
    check_left(kinto)
