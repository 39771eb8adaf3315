"""Protection of the attribute: an attachment is changed by uploads alone, never by a request to the app."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.support.records.kinto_harness import MAT, RECORD, Kinto

# The place of the files makes no difference to records.
pytestmark = pytest.mark.parametrize("kinto", ["pool"], indirect=True)

COLLECTION = "/v1/buckets/fennec/collections/fonts"
FORGED = {"location": "http://evil.example/a.exe", "filename": "a.exe", "hash": "0", "mimetype": "a/b", "size": 1}
JSON, MERGE, PATCH = "application/json", "application/merge-patch+json", "application/json-patch+json"


def send(kinto: Kinto, method: str, path: str, body: bytes, kind: str = JSON, **headers: str) -> requests.Response:
    return kinto.request(method, path, data=body, headers={**MAT, "Content-Type": kind, **headers})


def check_refused(kinto: Kinto, answer: requests.Response, before: Any) -> None:
    """Check that the change was refused with a message that names the right way, and that the record is unchanged."""
    data = answer.json()
    assert (answer.status_code, data["code"], data["errno"]) == (400, 400, 109), data
    assert "Attachment metadata cannot be modified" in data["message"]
    check_unchanged(kinto, before)


def check_unchanged(kinto: Kinto, before: Any) -> None:
    """Check that the record refers to the same file as before, and that the file exists."""
    assert kinto.attachment() == before
    assert len(kinto.contents()) == (before is not None)


def changes() -> list[Any]:
    """Return ways to write the attribute: a method, a content type, a body."""
    nested = {**FORGED, "size": 2}
    rows: list[tuple[str, str, str, Any]] = [
        ("patched", "PATCH", JSON, {"data": {"attachment": FORGED}}),
        ("patched in part", "PATCH", JSON, {"data": {"attachment": {"size": 3}}}),
        ("patched away", "PATCH", JSON, {"data": {"attachment": None}}),
        ("patched with others", "PATCH", JSON, {"data": {"family": "x", "attachment": nested}}),
        ("patched to a text", "PATCH", JSON, {"data": {"attachment": "x"}}),
        ("put", "PUT", JSON, {"data": {"attachment": FORGED}}),
        ("put as null", "PUT", JSON, {"data": {"attachment": None}}),
        ("merged away", "PATCH", MERGE, {"data": {"attachment": None}}),
        ("merged in part", "PATCH", MERGE, {"data": {"attachment": {"size": 3}}}),
        ("added", "PATCH", PATCH, [{"op": "add", "path": "/data/attachment", "value": FORGED}]),
        ("replaced", "PATCH", PATCH, [{"op": "replace", "path": "/data/attachment/location", "value": "x"}]),
        ("removed", "PATCH", PATCH, [{"op": "remove", "path": "/data/attachment"}]),
        ("moved away", "PATCH", PATCH, [{"op": "move", "from": "/data/attachment", "path": "/data/old"}]),
        ("moved there", "PATCH", PATCH, [{"op": "move", "from": "/data/family", "path": "/data/attachment"}]),
        ("copied there", "PATCH", PATCH, [{"op": "copy", "from": "/data/family", "path": "/data/attachment"}]),
        ("all replaced", "PATCH", PATCH, [{"op": "replace", "path": "/data", "value": {"attachment": FORGED}}]),
        ("everything replaced", "PATCH", PATCH, [{"op": "replace", "path": "", "value": {"data": {}}}]),
    ]
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("method", "kind", "body"), changes())
def test_the_attribute_cannot_be_changed(kinto: Kinto, method: str, kind: str, body: Any) -> None:
    """Each way to write the attribute is refused, and the record and its file stay."""
    before = kinto.attached(data='{"family": "sans"}')
    check_refused(kinto, send(kinto, method, RECORD, json.dumps(body).encode(), kind), before)


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "If-Unmodified-Since"])
def test_a_precondition_does_not_bypass_the_guard(kinto: Kinto, name: str) -> None:
    """A change that the app would make under a condition is refused like any other."""
    before = kinto.attached()
    tag = {"If-Match": kinto.request("GET", RECORD).headers["ETag"], "If-None-Match": '"1234567890123"'}.get(name, "x")
    check_refused(kinto, send(kinto, "PATCH", RECORD, json.dumps(WANTED).encode(), **{name: tag}), before)


@pytest.mark.parametrize("trick", ["slash", "query", "encoded", "lower case", "parameters", "default bucket"])
def test_the_guard_recognizes_variants_of_address_and_method(kinto: Kinto, trick: str) -> None:
    """The attribute is guarded however the address or the method of a change is written."""
    record, method, kind = RECORD, "PATCH", JSON
    before = kinto.attached()
    path = {
        "slash": record + "/",
        "query": record + "?_fields=id",
        "encoded": record.replace("records", "%72ecords").replace("logo", "l%6Fgo"),
    }.get(trick, record)
    method = "patch" if trick == "lower case" else method
    kind = "Application/JSON;charset=UTF-8 ; a=b" if trick == "parameters" else kind
    if trick == "default bucket":
        path = "/v1/buckets/default/collections/pix/records/q"
        kinto.attached(path)
    answer = send(kinto, method, path, json.dumps({"data": {"attachment": FORGED}}).encode(), kind)
    assert 300 <= answer.status_code < 500, answer.text
    assert kinto.attachment() == before
    assert kinto.attachment(RECORD if path != "/v1/buckets/default/collections/pix/records/q" else path) != FORGED


WANTED = {"data": {"attachment": FORGED}}
BODY = json.dumps(WANTED)
ENCODED = [
    ("utf-16", BODY.encode("utf-16"), "application/json; charset=utf-16"),
    ("utf-7", BODY.replace('"attachment"', '"+AGE-ttachment"').encode(), "application/json; charset=utf-7"),
    ("utf-32 unannounced", BODY.encode("utf-32"), "application/json"),
    ("escaped", BODY.replace('"attachment"', '"\\u0061ttachment"').encode(), "application/json"),
    ("latin-1", BODY.replace("evil", "\xe9vil").encode("latin-1"), "application/json; charset=latin-1"),
    ("byte order mark", b"\xef\xbb\xbf" + BODY.encode(), "application/json"),
    ("a long number", BODY.replace("1}", "1" * 5000 + "}").encode(), "application/json"),
    ("deep", BODY.replace('"data": {', '"data": {"x": ' + "[" * 5000 + "]" * 5000 + ", ").encode(), "application/json"),
    ("not a number", BODY.replace("1}", "NaN}").encode(), "application/json"),
    ("twice", BODY.replace('{"data"', '{"data": {}, "data"').encode(), "application/json"),
    ("twice, the other first", BODY[:-1].encode() + b', "data": {"family": "x"}}', "application/json"),
    ("a comment", b"/**/" + BODY.encode(), "application/json"),
    ("a trailing comma", BODY[:-1].encode() + b",}", "application/json"),
    ("no type", BODY.encode(), ""),
    ("another kind of JSON", BODY.encode(), "application/vnd.api+json"),
]


@pytest.mark.parametrize(("body", "kind"), [row[1:] for row in ENCODED], ids=[row[0] for row in ENCODED])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_ambiguous_body_changes_no_attachment(kinto: Kinto, method: str, body: bytes, kind: str) -> None:
    """A body that the app might read differently from the filter changes no attachment."""
    before = kinto.attached()
    answer = send(kinto, method, RECORD, body, kind)
    assert 400 <= answer.status_code < 500 or "FORGED" not in answer.text, answer.text
    now = kinto.attachment()
    assert now == before or (answer.ok and now is None)


def test_a_record_may_be_written_back(kinto: Kinto) -> None:
    """A client may read a record, change another attribute and write the record back."""
    before = kinto.attached()
    record = kinto.get(RECORD)
    record["data"]["family"] = "serif"
    for method in ("PUT", "PATCH"):
        assert kinto.request(method, RECORD, json=record).status_code == 200
    check_unchanged(kinto, before)


def test_other_attributes_may_be_changed(kinto: Kinto) -> None:
    """Changes that do not include the attachment pass, and leave it."""
    before = kinto.attached()
    for kind, body in (
        (JSON, {"data": {"family": "x"}}),
        (MERGE, {"data": {"family": None}}),
        (PATCH, [{"op": "add", "path": "/data/attachments", "value": 1}]),
        (PATCH, [{"op": "test", "path": "/data/attachment/size", "value": 8}]),
        (PATCH, [{"op": "copy", "from": "/data/attachment", "path": "/data/copy"}]),
        (PATCH, [{"op": "add", "path": "/permissions/read/system.Everyone"}]),
    ):
        answer = send(kinto, "PATCH", RECORD, json.dumps(body).encode(), kind)
        assert answer.status_code == 200, answer.text
        check_unchanged(kinto, before)


def test_an_old_version_cannot_be_written_back(kinto: Kinto) -> None:
    """Writing back a record as it was before its file was replaced is refused."""
    kinto.attached()
    old = kinto.get(RECORD)
    before = kinto.attached(RECORD, ("new.jpg", b"new"))
    check_refused(kinto, kinto.request("PUT", RECORD, json=old), before)


@pytest.mark.parametrize("body", [{"attachment": FORGED}, {"id": "logo", "attachment": FORGED}], ids=["new", "named"])
@pytest.mark.parametrize("there", [False, True], ids=["empty", "there"])
def test_no_record_is_made_with_an_attachment(kinto: Kinto, body: Any, there: bool) -> None:
    """Neither PUT nor POST makes a record that refers to a file that it does not have."""
    before = kinto.attached() if there else None
    answer = kinto.request("POST", f"{COLLECTION}/records", json={"data": body})
    assert (answer.status_code, answer.json()["errno"]) == (400, 109)
    if not there:
        assert kinto.request("PUT", RECORD, json={"data": {**body, "id": "logo"}}).status_code == 400
        assert kinto.request("GET", RECORD).status_code == 404
    else:
        check_unchanged(kinto, before)


def batch(kinto: Kinto, *requests_: dict[str, Any], **defaults: Any) -> Any:
    body = {"requests": list(requests_)} | ({"defaults": defaults} if defaults else {})
    return kinto.request("POST", "/v1/batch", json=body)


def test_a_change_of_the_attribute_in_a_batch_is_refused(kinto: Kinto) -> None:
    """In a batch, a change of the attribute is refused in its place, and the other requests are carried out."""
    before = kinto.attached()
    other = RECORD.replace("logo", "other")
    answers = batch(
        kinto,
        {"method": "PATCH", "path": RECORD, "body": {"data": {"family": "first"}}},
        {"method": "PATCH", "path": RECORD.removeprefix("/v1"), "body": {"data": {"attachment": FORGED}}},
        {"method": "PUT", "path": other, "body": {"data": {"family": "last"}}},
    ).json()["responses"]
    assert [answer["status"] for answer in answers] == [200, 400, 201]
    assert answers[1]["path"] == RECORD
    assert "Attachment metadata cannot be modified" in answers[1]["body"]["message"]
    assert kinto.get(RECORD)["data"]["family"] == "first"
    check_unchanged(kinto, before)


BATCHES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("all refused", {"method": "PATCH", "path": RECORD, "body": WANTED}, {}),
    ("by default", {"path": RECORD}, {"method": "PATCH", "body": WANTED}),
    ("merged", {"path": RECORD, "body": {"data": {"family": "x"}}}, {"method": "PATCH", "body": WANTED}),
    ("partly merged", {"method": "PUT", "path": RECORD, "body": {"data": {"family": "x"}}}, {"body": WANTED}),
    ("slash", {"method": "PATCH", "path": RECORD + "/", "body": WANTED}, {}),
    ("encoded", {"method": "PATCH", "path": RECORD.replace("records", "r%65cords"), "body": WANTED}, {}),
    ("encoded prefix", {"method": "PATCH", "path": RECORD.replace("/v1/b", "/%62"), "body": WANTED}, {}),
    ("query", {"method": "PATCH", "path": RECORD + "?a=/", "body": WANTED}, {}),
    ("posted", {"method": "POST", "path": RECORD.removesuffix("/logo"), "body": WANTED}, {}),
]


@pytest.mark.parametrize(("request_", "defaults"), [row[1:] for row in BATCHES], ids=[row[0] for row in BATCHES])
def test_a_disguised_change_in_a_batch_is_refused(
    kinto: Kinto, request_: dict[str, Any], defaults: dict[str, Any]
) -> None:
    """A change of the attribute is refused however it is written in a batch."""
    before = kinto.attached()
    answer = batch(kinto, request_, **defaults)
    assert answer.status_code == 200, answer.text
    assert [each["status"] for each in answer.json()["responses"]] == [400]
    check_unchanged(kinto, before)
    records = kinto.get(RECORD.removesuffix("/logo"))["data"]
    assert [record["id"] for record in records] == ["logo"]


@pytest.mark.parametrize("path", ["/batch", "/v1/batch", "/b%61tch", "/v1/%62atch/", "/batch?x"])
def test_a_batch_in_a_batch_is_refused(kinto: Kinto, path: str) -> None:
    """A batch within a batch is refused."""
    before = kinto.attached()
    inner = {"requests": [{"method": "PATCH", "path": RECORD, "body": WANTED}]}
    answer = batch(kinto, {"method": "POST", "path": path, "body": inner})
    assert 400 in {answer.status_code, *(each["status"] for each in answer.json().get("responses", ()))}
    check_unchanged(kinto, before)


def test_a_record_deleted_in_a_batch_cannot_be_restored_with_its_file(kinto: Kinto) -> None:
    """In a batch, writing an attachment again after the deletion of its record is refused."""
    attachment = kinto.attached()
    for gone in (RECORD, RECORD.removesuffix("/logo"), RECORD.replace("fennec", "default")):
        answers = batch(
            kinto,
            {"method": "DELETE", "path": gone},
            {"method": "PUT", "path": RECORD, "body": {"data": {"attachment": attachment}}},
        ).json()["responses"]
        if answers[0]["status"] == 200:
            assert answers[1]["status"] == 400
            assert kinto.left() == set()
        kinto.request("DELETE", RECORD)
        attachment = kinto.attached()


def test_a_batch_that_the_app_refuses_changes_nothing(kinto: Kinto) -> None:
    """Batches with too many requests, and invalid ones, get the app's own answer."""
    before = kinto.attached()
    many = [{"method": "PATCH", "path": RECORD, "body": WANTED}] * 26
    bodies: list[Any] = [{"requests": many}, {"requests": 1}, {"requests": [1]}, {"requests": [{"path": 3}]}, [], {}]
    for body in bodies:
        answer = kinto.request("POST", "/v1/batch", json=body)
        assert answer.status_code in {400, 500}, answer.text  # Kinto does not handle all of them
    assert send(kinto, "POST", "/v1/batch", b"{>").status_code == 400
    check_unchanged(kinto, before)


def test_a_method_cannot_be_overridden(kinto: Kinto) -> None:
    """A header that names another method does not bypass the guard."""
    before = kinto.attached()
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        send(kinto, "POST", RECORD, json.dumps(WANTED).encode(), **{header: "PATCH"})
        kinto.attach(RECORD, ("a.exe", b"x"), headers={**MAT, header: "DELETE"})
        check_unchanged(kinto, before)
