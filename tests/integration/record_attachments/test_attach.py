"""Attaching a file to a record of Kinto."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath

import pytest

from tests.support.records.kinto_harness import IMAGE, MAT, RECORD, Kinto


def test_a_new_record_gets_the_file(kinto: Kinto) -> None:
    """The answer is 201 with the attachment, the record has it as its attribute, and the bytes are at its location."""
    answer = kinto.attach()
    attachment = answer.json()
    assert answer.status_code == 201
    assert attachment == {
        "filename": "image.jpg",
        "hash": hashlib.sha256(b"--fake--").hexdigest(),
        "location": attachment["location"],
        "mimetype": "image/jpeg",
        "size": 8,
    }
    assert kinto.attachment() == attachment
    assert kinto.fetch(attachment["location"]).content == b"--fake--"
    assert kinto.contents() == [b"--fake--"]


def test_an_existing_record_keeps_its_other_attributes(kinto: Kinto) -> None:
    """The answer for an existing record is 200, and its other attributes stay."""
    kinto.request("PUT", RECORD, json={"data": {"author": "frutiger"}})
    assert kinto.attach(data='{"family": "sans"}').status_code == 200
    data = kinto.get(RECORD)["data"]
    assert (data["author"], data["family"], data["attachment"]["size"]) == ("frutiger", "sans", 8)


def test_the_location_header_names_the_record(kinto: Kinto) -> None:
    """The answer has the address of the record, and the headers for conditional requests."""
    answer = kinto.attach()
    assert answer.headers["Location"] == kinto.url + RECORD
    assert answer.headers["ETag"] == kinto.request("GET", RECORD).headers["ETag"]
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("files", [[IMAGE], [("virus.exe", b"x")]], ids=["taken", "refused"])
def test_answers_of_the_filter_have_the_cors_headers_of_kinto(kinto: Kinto, files: list[tuple[str, bytes]]) -> None:
    """Kinto's CORS headers are on the filter's answers too, refusals included."""
    answer = kinto.attach(RECORD, *files, headers={**MAT, "Origin": "http://localhost:9999"})
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "http://localhost:9999"}


def test_a_preflight_is_answered_by_the_app(kinto: Kinto) -> None:
    """The app answers the preflight of a page that posts a file with headers of its own."""
    asked = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    headers = {**asked, "Access-Control-Request-Headers": "X-Progress-ID"}
    answer = kinto.request("OPTIONS", f"{RECORD}/attachment", headers=headers)
    assert answer.status_code == 200
    assert {"POST", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(","))
    assert "X-Progress-ID" in answer.headers["Access-Control-Allow-Headers"]


def test_attributes_and_permissions_are_written_with_the_file(kinto: Kinto) -> None:
    """The fields data and permissions are written with the file, and the client keeps write access to the record."""
    kinto.attach(data='{"family": "sans"}', permissions='{"read": ["system.Everyone"]}')
    record = kinto.get(RECORD)
    assert record["data"]["family"] == "sans"
    assert record["permissions"]["read"] == ["system.Everyone"]
    assert len(record["permissions"]["write"]) == 1


def test_attributes_are_in_utf_8(kinto: Kinto) -> None:
    """Attributes and filenames in other scripts arrive as they were sent."""
    kinto.attach(RECORD, ("Γραμματοσειρά.jpg", b"x"), data=json.dumps({"family": "Ελληνικά"}, ensure_ascii=False))
    data = kinto.get(RECORD)["data"]
    assert (data["family"], data["attachment"]["filename"]) == ("Ελληνικά", "Γραμματοσειρά.jpg")
    assert data["attachment"]["location"].endswith(".jpg")


def test_the_name_of_the_location_is_random(kinto: Kinto) -> None:
    """The location is in the folder, has the extension of the file's name, and reveals nothing else of the name."""
    location = kinto.attached(RECORD, ("my-report.PDF", b"--binary--"))["location"]
    path = PurePosixPath(location.removeprefix(kinto.url + "/files"))
    assert (path.parent, path.suffix) == (PurePosixPath("/fennec/fonts"), ".pdf")
    assert "report" not in location


def test_a_type_of_the_client_is_kept(kinto: Kinto) -> None:
    """The media type is the client's; without one, that of the name; a known better type replaces it."""
    assert kinto.attached(RECORD, ("a.txt", b"x", "application/pdf"))["mimetype"] == "application/pdf"
    assert kinto.attached(RECORD, ("a.csv", b"x"))["mimetype"] == "text/csv"


def test_an_empty_file_is_attached(kinto: Kinto) -> None:
    """A file of no bytes is attached like any other."""
    attachment = kinto.attached(RECORD, ("empty.txt", b""))
    assert attachment["size"] == 0
    assert attachment["hash"] == hashlib.sha256().hexdigest()
    assert kinto.fetch(attachment["location"]).content == b""


def test_the_file_replaces_an_attachment_among_the_attributes(kinto: Kinto) -> None:
    """The attachment of the file replaces one among the attributes sent with it."""
    attachment = kinto.attached(data='{"attachment": {"location": "http://evil.example/"}, "family": "sans"}')
    assert kinto.get(RECORD)["data"]["attachment"] == attachment
    assert kinto.fetch(attachment["location"]).content == b"--fake--"


def test_the_default_bucket_is_that_of_the_user(kinto: Kinto) -> None:
    """In the default bucket, bucket and collection are made, and the answer contains their own ids."""
    answer = kinto.attach("/v1/buckets/default/collections/pix/records/q")
    bucket = kinto.get("/v1/")["user"]["bucket"]
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{kinto.url}/v1/buckets/{bucket}/collections/pix/records/q"
    assert f"/files/{bucket}/pix/" in answer.json()["location"]
    # Its own id leads to the same record.
    assert kinto.attach(f"/v1/buckets/{bucket}/collections/pix/records/q").status_code == 200
    assert len(kinto.contents()) == 1


def test_deleting_an_attachment_removes_the_file_and_the_attribute(kinto: Kinto) -> None:
    """DELETE removes the file, sets the attribute to null, leaves the other attributes, and may be repeated."""
    location = kinto.attached(data='{"family": "sans"}')["location"]
    for _ in range(2):
        answer = kinto.request("DELETE", f"{RECORD}/attachment")
        assert (answer.status_code, answer.content) == (204, b"")
    data = kinto.get(RECORD)["data"]
    # Clients of kinto-attachment read data["attachment"] is None.
    assert (data["attachment"], data["family"]) == (None, "sans")
    assert kinto.left() == set()
    assert kinto.fetch(location).status_code == 404


def test_an_attachment_that_the_schema_requires_to_be_an_object_is_removed(kinto: Kinto) -> None:
    """If the schema of the collection allows no null, the attribute is removed instead."""
    schema = {"type": "object", "properties": {"attachment": {"type": "object"}}}
    assert kinto.request("PATCH", RECORD.rpartition("/records/")[0], json={"data": {"schema": schema}}).ok
    kinto.attached()
    assert kinto.request("DELETE", f"{RECORD}/attachment").status_code == 204
    assert "attachment" not in kinto.get(RECORD)["data"]
    assert kinto.left() == set()


def test_a_record_without_its_attachment_is_changed_and_attached_to(kinto: Kinto) -> None:
    """A record whose attribute is null may be read, changed and written back, and gets another file."""
    kinto.attached()
    assert kinto.request("DELETE", f"{RECORD}/attachment").status_code == 204
    data = {**kinto.get(RECORD)["data"], "family": "serif"}
    assert data["attachment"] is None
    assert kinto.request("PUT", RECORD, json={"data": data}).status_code == 200
    assert kinto.attach(RECORD, ("b.txt", b"b")).status_code == 200
    assert kinto.contents() == [b"b"]


def test_deleting_the_attachment_of_a_missing_record_is_refused(kinto: Kinto) -> None:
    """The client gets the app's answer to the removal too."""
    answer = kinto.request("DELETE", f"{RECORD}/attachment")
    assert (answer.status_code, answer.json()["errno"]) == (404, 110)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH"])
def test_other_methods_are_refused(kinto: Kinto, method: str) -> None:
    """The address of an attachment accepts POST, DELETE and OPTIONS, and lists them."""
    answer = kinto.request(method, f"{RECORD}/attachment")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "DELETE", "OPTIONS"}


def test_preconditions_are_evaluated_by_the_app(kinto: Kinto) -> None:
    """The app evaluates If-Match and If-None-Match; a refused file leaves nothing, an accepted one replaces another."""
    new = kinto.attach(headers={**MAT, "If-None-Match": "*"})
    assert new.status_code == 201
    for stale in ({"If-None-Match": "*"}, {"If-Match": '"1234567890123"'}):
        refused = kinto.attach(RECORD, ("other.jpg", b"other"), headers={**MAT, **stale})
        assert (refused.status_code, refused.json()["errno"]) == (412, 114)
    assert kinto.contents() == [b"--fake--"]
    changed = kinto.attach(RECORD, ("other.jpg", b"other"), headers={**MAT, "If-Match": new.headers["ETag"]})
    assert changed.status_code == 200
    assert kinto.contents() == [b"other"]
