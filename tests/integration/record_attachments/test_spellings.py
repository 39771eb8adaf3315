"""Requests in unusual spellings: each is read as the app reads it, or refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.records.kinto_harness import ALICE, JEAN, MAT, RECORD, THING, Kinto, Rest
from tests.support.records.raw_http import Answer, send_raw

FORGED = {"location": "/files/things/forged", "filename": "a.exe", "hash": "0", "mimetype": "a/b", "size": 1}
WANTED = json.dumps({"data": {"attachment": FORGED}}).encode()
PLAIN = json.dumps({"attachment": FORGED}).encode()
JSON = {"Content-Type": "application/json"}
GOOD = {"data": {"family": "y"}}
in_pool = pytest.mark.parametrize("kinto", ["pool"], indirect=True)  # the place of the files makes no difference here


def change(kinto: Kinto, method: str, target: str, body: bytes = WANTED, **headers: str) -> Answer:
    return send_raw(kinto.url, method, target, body, {**MAT, **JSON, **headers})


def ask(rest: Rest, method: str, target: str, body: bytes = PLAIN, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send_raw(rest.url, method, target, body, {**ALICE, **JSON, **named})


def attach(rest: Rest) -> Any:
    """Attach a file to the record; return the attachment."""
    answer = rest.attach(data='{"color": "red"}')
    assert answer.status_code == 201, answer.text
    return answer.json()


def check(rest: Rest, attachment: Any) -> None:
    """Check that the one record has this attachment, and its file is there."""
    assert [record.get("attachment") for record in rest.records()] == [attachment]
    rest.check_whole()


CHARSETS = [
    "application/json; xcharset=utf-8; charset=utf-7",
    "application/json; charset=utf-7",
    'application/json; charset="utf-7"',
    'application/json; a="; charset=utf-7"',
    "application/json; charset=utf-8; charset=utf-7",
    "application/json; charset*=utf-8''utf-7",
    "application/json; charset=utf-8, application/json; charset=utf-7",
    "application/json;\tcharset=utf-7",
    "application/json; CHARSET=UTF-7",
    "application/json; charset=u7",
    "application/json; charset=unicode-1-1-utf-7",
]
UTF7 = json.dumps({"data": {"+AGE-ttachment": FORGED}})


@in_pool
@pytest.mark.parametrize("kind", CHARSETS)
def test_a_utf_7_body_is_refused_in_any_spelling_of_content_type(kinto: Kinto, kind: str) -> None:
    """A body in UTF-7 is refused with any spelling of Content-Type, alone, in a batch, and in a batch's own headers."""
    before = kinto.attached()
    assert change(kinto, "PATCH", RECORD, UTF7.encode(), **{"Content-Type": kind}).status == 415
    request = {"method": "PATCH", "path": RECORD, "body": json.loads(UTF7)}
    outer = json.dumps({"requests": [request]}).replace("+AGE", "+ACs-AGE")
    assert change(kinto, "POST", "/v1/batch", outer.encode(), **{"Content-Type": kind}).status == 415
    for name in ("content-type", "CONTENT-TYPE", "Content-Type"):
        inner = json.dumps({"requests": [{**request, "headers": {name: kind}}]}).encode()
        answer = change(kinto, "POST", "/v1/batch", inner)
        assert [each["status"] for each in answer.json()["responses"]] == [415]
    assert kinto.attachment() == before


@in_pool
@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=UTF-8", 'application/json;charset="utf8"']
)
def test_charsets_of_real_clients_are_accepted(kinto: Kinto, kind: str) -> None:
    """The charsets that real clients declare for JSON in UTF-8 are accepted, alone and in a batch."""
    before = kinto.attached()
    body = {"data": {"family": "é"}}
    text = json.dumps(body, ensure_ascii=False).encode()
    assert change(kinto, "PATCH", RECORD, text, **{"Content-Type": kind}).status == 200
    request = {"method": "PATCH", "path": RECORD, "body": body, "headers": {"Content-Type": kind}}
    answer = change(kinto, "POST", "/v1/batch", json.dumps({"requests": [request]}).encode(), **{"Content-Type": kind})
    assert [each["status"] for each in answer.json()["responses"]] == [200]
    assert kinto.attachment() == before


KINTO_PATHS = [
    RECORD.replace("/logo", "/logo%0A"),
    RECORD.replace("/fonts/", "/fonts//"),
    RECORD.replace("/fonts/", "/./fonts/"),
    RECORD.replace("/fonts/", "/x/../fonts/"),
    RECORD.replace("records", "rec%FFords"),
    RECORD.replace("records", "%2572ecords"),
    RECORD.replace("records", "records%20"),
    RECORD.replace("records", "Records"),
    RECORD.replace("/records", "/records;a=1"),
    RECORD.replace("/records", "%5Crecords"),
    RECORD.replace("fennec", "%FF"),
    RECORD + "//",
]


@in_pool
@pytest.mark.parametrize("path", KINTO_PATHS)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_ambiguous_paths_of_kinto_are_refused(kinto: Kinto, path: str, method: str) -> None:
    """A path that some servers read as that of a record is refused with a reason, alone and in a batch."""
    before = kinto.attached()
    answer = change(kinto, method, path)
    assert answer.status == 400, answer.body
    assert "ambiguous" in answer.json()["message"]
    inner = json.dumps({"requests": [{"method": method, "path": path, "body": json.loads(WANTED)}]}).encode()
    statuses = [each["status"] for each in change(kinto, "POST", "/v1/batch", inner).json()["responses"]]
    assert statuses == [400]
    assert kinto.attachment() == before
    assert kinto.contents() == [b"--fake--"]


@in_pool
@pytest.mark.parametrize("path", ["/v1/batch%0A", "/v1//batch", "/v1/x/../batch", "/v1/batch%20", "/V1/Batch"])
def test_ambiguous_paths_of_a_batch_are_refused(kinto: Kinto, path: str) -> None:
    """A path of a batch with a final line feed, which Pyramid's routes match, is refused, as are others like it."""
    before = kinto.attached()
    body = json.dumps({"requests": [{"method": "PATCH", "path": RECORD, "body": json.loads(WANTED)}]}).encode()
    assert change(kinto, "POST", path, body).status == 400
    assert kinto.attachment() == before


@in_pool
@pytest.mark.parametrize("path", ["/v1/__flush__%0A", "/v1//__flush__", "/v1/__flush__%00", "/v1/./__flush__"])
def test_ambiguous_paths_of_a_flush_are_refused(kinto: Kinto, path: str) -> None:
    """A flush by another spelling, which would leave all files, is refused, alone and in a batch."""
    before = kinto.attached()
    assert change(kinto, "POST", path, b"").status == 400
    inner = json.dumps({"requests": [{"method": "POST", "path": path}]}).encode()
    answer = change(kinto, "POST", "/v1/batch", inner)
    assert [each["status"] for each in answer.json()["responses"]] == [400]
    assert kinto.attachment() == before
    assert kinto.fetch(before["location"]).status_code == 200


@in_pool
@pytest.mark.parametrize(
    "path",
    [
        "/v1/buckets/?/v1/buckets//fennec/collections/fonts/records/logo",
        "/buckets/?/v1/buckets//fennec/collections/fonts/records/logo",
        "/v1?/v1buckets/fennec/collections/fonts/records/logo",
        "/v1/buckets%2F?/v1/buckets//fennec/collections/fonts/records/logo",
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_query_used_as_a_path_by_a_redirection_in_a_batch_is_refused(kinto: Kinto, path: str, method: str) -> None:
    """A query that Kinto's own redirection within a batch would use as the path is refused."""
    before = kinto.attached()
    inner = json.dumps({"requests": [{"method": method, "path": path, "body": json.loads(WANTED)}]}).encode()
    answer = change(kinto, "POST", "/v1/batch", inner)
    assert [each["status"] for each in answer.json()["responses"]] == [400]
    assert kinto.attachment() == before
    assert kinto.contents() == [b"--fake--"]


@in_pool
def test_a_host_header_with_a_path_is_refused(kinto: Kinto) -> None:
    """A Host header that holds a path is refused: Kinto's default bucket looks for the path in the whole URL."""
    record = "/v1/buckets/default/collections/pix/records/q"
    before = kinto.attached(record)
    host = f"x{record}?"
    assert change(kinto, "PATCH", "/v1/buckets/default", Host=host).status == 400
    request = {"method": "PATCH", "path": "/buckets/default", "body": json.loads(WANTED), "headers": {"host": host}}
    answer = change(kinto, "POST", "/v1/batch", json.dumps({"requests": [request]}).encode())
    assert [each["status"] for each in answer.json()["responses"]] == [400]
    assert kinto.attachment(record) == before


@in_pool
def test_a_request_in_a_batch_is_checked_with_its_own_credentials(kinto: Kinto) -> None:
    """A request of a batch with credentials of its own is compared with the record that they give access to."""
    record = "/v1/buckets/default/collections/pix/records/q"
    mine = kinto.attached(record)
    kinto.attach(record, ("other.txt", b"other"), headers=JEAN)
    theirs = kinto.get(record, headers=JEAN)["data"]["attachment"]
    request = {"method": "PATCH", "path": record, "headers": JEAN, "body": {"data": {"attachment": mine}}}
    answer = change(kinto, "POST", "/v1/batch", json.dumps({"requests": [request]}).encode())
    assert [each["status"] for each in answer.json()["responses"]] == [400]
    assert kinto.get(record, headers=JEAN)["data"]["attachment"] == theirs
    removal = {"method": "DELETE", "path": "/buckets/default", "headers": JEAN}
    change(kinto, "POST", "/v1/batch", json.dumps({"requests": [removal]}).encode())
    assert kinto.contents() == [b"--fake--"]
    assert kinto.fetch(mine["location"]).content == b"--fake--"


@in_pool
@pytest.mark.parametrize(
    "request_",
    [
        {"path": "/v1/buckets/\ud800"},
        {"path": RECORD, "body": {"data": {"family": "\ud800"}}},
        {"path": "/v1/buckets/é"},
        {"path": "/%FF"},
        {"path": "/__flush__", "method": "POST", "headers": {"X-HTTP-Method-Override": "DELETE"}},
        {"path": RECORD, "method": "PUT", "headers": {"X-HTTP-Method": "DELETE"}},
        {
            "path": RECORD,
            "method": "POST",
            "headers": {"x-method-override": "PATCH"},
            "body": {"data": {"attachment": 1}},
        },
        {"path": "/v1/buckets/a\nb"},
        {"path": RECORD, "headers": {"content-length": "3"}, "body": GOOD},
        {"path": RECORD, "headers": {"Content-Encoding": "gzip"}, "body": GOOD},
        {"path": RECORD, "headers": {"X_A": "b"}, "body": GOOD},
        {"path": RECORD, "headers": {"X-A": "b\r\nC: d"}, "body": GOOD},
        {"path": RECORD, "headers": {"X-A": "b", "x-a": "c"}, "body": GOOD},
        {"path": RECORD, "headers": {"content-type": "text/plain"}, "body": GOOD},
        {"path": RECORD, "headers": None, "body": "x"},
        {"path": RECORD, "body": 3},
    ],
    ids=ascii,
)
def test_a_request_of_a_batch_that_kinto_cannot_read_is_refused(kinto: Kinto, request_: dict[str, Any]) -> None:
    """A request that Kinto cannot read, or can read in two ways, is refused in its place, and the others are done."""
    before = kinto.attached()
    good = {"method": "PATCH", "path": RECORD, "body": GOOD}
    defaults = {"method": "PATCH", "headers": {}, "body": {}}
    for body in (
        {"requests": [request_ | {"method": "PATCH"}, good]},
        {"requests": [request_, good], "defaults": defaults},
    ):
        answer = change(kinto, "POST", "/v1/batch", json.dumps(body).encode())
        assert answer.status == 200, answer.body
        statuses = [each["status"] for each in answer.json()["responses"]]
        assert statuses[0] in {400, 415}
        assert statuses[1] == 200
    assert kinto.attachment() == before


@in_pool
@pytest.mark.parametrize("size", [True, 1.0, "1"])
def test_the_attribute_is_compared_as_json(kinto: Kinto, size: Any) -> None:
    """Values that are equal in Python but differ in JSON are different: true and 1.0 are not 1."""
    before = kinto.attached(RECORD, ("a.txt", b"x"))
    assert before["size"] == 1
    body = json.dumps({"data": {"attachment": {**before, "size": size}}}).encode()
    answer = change(kinto, "PATCH", RECORD, body)
    assert (answer.status, answer.json()["errno"]) == (400, 109)
    assert change(kinto, "PATCH", RECORD, json.dumps({"data": {"attachment": before}}).encode()).status == 200


REST_PATHS = [
    "//api/things/one",
    "///api/things/one",
    "/api//things/one",
    "/api/things//one",
    "/api/things/one//",
    "/api/./things/one",
    "/api/x/../things/one",
    "/api/things/%2E/one",
    "/ap%FFi/things/one",
    "/api/things/one%FF",
    "/api/things/%C0%AFone",
    "/api/things/one%0A",
    "/api/things/one%00",
    "/api/things/one%20",
    "/api/things/%C2%A0one",
    "/api%3Bx/things/one",
    "/API/things/one",
    "/%2561pi/things/one",
    "/%252561pi/things/one",
    "/api%5Cthings%5Cone",
    "/api/things/one%2561/..%2Fone",
    "/api/things/one%3F/x",
    "/api/x%5C..%5Cthings/one",
    "/api/things/%2E",
    "/api/things/..",
    "/api/things/one%23/x/y",
    "/api/things/x%255C..%255C..",
    "//api/things/a%5Cb",
    "//api/things",
    "/api//things",
]


@pytest.mark.parametrize("path", REST_PATHS)
@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST", "DELETE", "patch"])
def test_ambiguous_paths_of_records_are_refused(rest: Rest, method: str, path: str) -> None:
    """A path that some apps read as that of a record, or of records, is refused for each method that may change it."""
    attachment = attach(rest)
    answer = ask(rest, method, path)
    assert answer.status == 400, answer.body
    check(rest, attachment)


@pytest.mark.parametrize(
    "path", ["//api/things/one/attachment", "/api/things/one/Attachment", "/api/things/one%2Fattachment%0A"]
)
def test_ambiguous_paths_of_an_attachment_are_refused(rest: Rest, path: str) -> None:
    """The address of an attachment in another spelling is refused, and does not reach the app."""
    attachment = attach(rest)
    assert ask(rest, "DELETE", path).status == 400
    check(rest, attachment)


@pytest.mark.parametrize("path", ["//other", "/other//x;y", "/api", "/x%FF", "/", "//"])
def test_other_paths_reach_the_app_unchanged(rest: Rest, path: str) -> None:
    """A path that concerns records in no reading reaches the app as it is."""
    assert ask(rest, "POST", path).status in {404, 405, 308}


def test_reading_is_not_guarded(rest: Rest) -> None:
    """A record may be read in any spelling that the app supports."""
    attachment = attach(rest)
    answer = ask(rest, "GET", "//api/things/one", b"")
    assert answer.status == 308 or answer.json()["attachment"] == attachment


ALIASES = [
    ("1", "01"),
    ("abc", "ABC"),
    ("8a4f23d0-0f5a-4a0c-9a55-bb1f4cbe15a8", "8A4F23D00F5A4A0C9A55BB1F4CBE15A8"),
    ("one", "one.json"),
    ("one", "one;v=1"),
    ("one", "%256Fne"),
]


@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_files_of_equivalent_ids_are_checked_after_a_removal(rest: Rest, name: str, alias: str) -> None:
    """After a removal under an id that the app may equate with another one, the files of both are checked."""
    location = rest.attach(f"/api/things/{name}").json()["location"]
    rest.request("PUT", f"/api/things/{alias}", json={})
    assert ask(rest, "DELETE", f"/api/things/{alias}", b"").status == 204
    assert rest.request("GET", location).status_code == 200  # this app does not equate the two
    rest.check_whole()
    rest.request("PUT", f"/api/things/{alias}", json={})
    rest.remove_record(name)
    assert ask(rest, "DELETE", f"/api/things/{alias}", b"").status == 204
    assert rest.request("GET", location).status_code == 404
    assert rest.left() == set()


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
TYPES = [
    *("application/json", "text/plain", "", "application/x-www-form-urlencoded", "application/octet-stream"),
    *("multipart/form-data; boundary=x", "application/merge-patch+json"),
]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_in_another_encoding_than_utf_8_is_refused(rest: Rest, encoding: str, kind: str) -> None:
    """JSON in another encoding than UTF-8, which parsers detect whatever the type is, is refused."""
    attachment = attach(rest)
    answer = ask(rest, "PATCH", THING, PLAIN.decode().encode(encoding), Content_Type=kind)
    assert answer.status in {400, 415}, answer.body
    check(rest, attachment)


OWN, OTHER = (f'Content-Disposition: form-data; name="{name}"'.encode() for name in ("attachment", "a"))
OTHER_BODIES = [
    ("form", "application/x-www-form-urlencoded", b"attachment=x"),
    ("form, nested", "application/x-www-form-urlencoded", b"attachment%5Blocation%5D=x"),
    ("form, dotted", "application/x-www-form-urlencoded", b"a=1&attachment.location=x"),
    ("form, underscores", "application/x-www-form-urlencoded", b"a=1;attachment__location=x"),
    ("form, spaces", "application/x-www-form-urlencoded", b"+attachment+=x"),
    ("form, JSON", "application/x-www-form-urlencoded", b'record={"attachment": 1}'),
    ("form, ambiguous JSON", "application/x-www-form-urlencoded", b'record={"attachment": 1, "attachment": 2}'),
    ("form, overloaded", "application/x-www-form-urlencoded", b"_content=x"),
    ("form, charset", "application/x-www-form-urlencoded", b"_charset_=utf-7&+AGE-ttachment=x"),
    ("form, no type", "", b'{"x": "&attachment=1&"}'),
    ("JSON as a form", "application/x-www-form-urlencoded", PLAIN),
    ("JSON as text", "text/plain", PLAIN),
    ("JSON without a type", "", PLAIN),
    ("XML", "application/xml", b"<attachment/>"),
    ("text", "text/plain", b"attachment: x"),
    ("MessagePack", "application/msgpack", b"\x81\xaaattachment\x01"),
    ("duplicate keys", "application/json", b'{"attachment": {}, "attachment": null}'),
    ("duplicate keys, deep", "application/json", b'{"a": {"b": 1, "b": 2}}'),
    ("NaN", "application/json", b'{"a": NaN}'),
    ("infinite", "application/json", b'{"a": -Infinity}'),
    ("too large", "application/json", b'{"a": 1e999}'),
    ("half a surrogate", "application/json", b'{"a": "\\ud800"}'),
    ("text in JSON", "application/json", json.dumps(PLAIN.decode()).encode()),
    ("pairs", "application/json", b'[["attachment", 1]]'),
    ("records", "application/json", b'[{"id": "one", "attachment": 1}]'),
    ("dotted key", "application/json", b'{"attachment.location": "x"}'),
    ("bracketed key", "application/json", b'{"attachment[location]": "x"}'),
    ("patch", "application/json-patch+json", b'[{"op": "add", "path": "/attachment", "value": 1}]'),
    ("patch, escaped", "application/json-patch+json", b'[{"op": "add", "path": "/\\u0061ttachment", "value": 1}]'),
    ("patch, percent", "application/json-patch+json", b'[{"op": "add", "path": "/%61ttachment", "value": 1}]'),
    ("patch, no slash", "application/json-patch+json", b'[{"op": "add", "path": "attachment", "value": 1}]'),
    ("patch, fragment", "application/json-patch+json", b'[{"op": "add", "path": "#/attachment", "value": 1}]'),
    ("patch, two slashes", "application/json-patch+json", b'[{"op": "add", "path": "//attachment", "value": 1}]'),
    ("patch, list", "application/json-patch+json", b'[{"op": "add", "path": ["attachment"], "value": 1}]'),
    ("patch, nested", "application/json-patch+json", b'[[{"op": "add", "path": "/attachment", "value": 1}]]'),
    ("patch, all", "application/json-patch+json", b'[{"op": "replace", "path": "", "value": {"attachment": 1}}]'),
    ("patch, copied", "application/json-patch+json", b'[{"op": "copy", "from": "/color", "path": "/attachment"}]'),
    ("patch, moved", "application/json-patch+json", b'[{"op": "move", "from": "/attachment", "path": "/x"}]'),
    ("patch, bad escape", "application/json-patch+json", b'[{"op": "add", "path": "/~2", "value": 1}]'),
    ("patch, unknown", "application/json-patch+json", b'[{"op": "merge", "path": "/a", "value": {}}]'),
    ("patch, no op", "application/json-patch+json", b'[{"op": ["add"], "path": "/attachment", "value": 1}]'),
    (
        "multipart",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="attachment"\r\n\r\n1\r\n--x--\r\n',
    ),
    (
        "multipart, within a line",
        "multipart/form-data; boundary=x",
        b"--x\r\n" + OTHER + b"\r\n\r\n1--x\r\n" + OWN + b"\r\n\r\n1\r\n--x--\r\n",
    ),
    (
        "multipart, line feeds",
        "multipart/form-data; boundary=x",
        b"--x\r\n" + OTHER + b"\r\n\r\n1\n--x\n" + OWN + b"\n\n1\r\n--x--\r\n",
    ),
    (
        "multipart, two names",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"; name="attachment"\r\n\r\n1\r\n--x--\r\n',
    ),
    (
        "multipart, a second header",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="attachment"\r\n\r\n1'
        b"\r\n--x--\r\n",
    ),
    (
        "multipart, JSON in a file",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n{"attachment": 1}\r\n--x--\r\n',
    ),
    (
        "multipart, preamble",
        "multipart/form-data; boundary=x",
        b'a\r\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
    ),
    ("multipart, two boundaries", "multipart/form-data; boundary=x; boundary=y", b"--x--\r\n"),
    ("multipart, no boundary", "multipart/form-data", b"--\r\n----\r\n"),
]


@pytest.mark.parametrize(("kind", "body"), [row[1:] for row in OTHER_BODIES], ids=[row[0] for row in OTHER_BODIES])
@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
def test_bodies_that_may_set_the_attribute_are_refused(rest: Rest, method: str, kind: str, body: bytes) -> None:
    """A body that sets the attribute, or can be read so that it does, is refused, also in a POST to the record."""
    attachment = attach(rest)
    answer = ask(rest, method, THING, body, Content_Type=kind)
    assert answer.status in {400, 415}, answer.body
    check(rest, attachment)
    if method == "POST":
        assert ask(rest, "POST", "/api/things", body, Content_Type=kind).status in {400, 415}
        check(rest, attachment)


@pytest.mark.parametrize("query", ["?attachment=x", "?a=1;attachment%5Bsize%5D=2", "?%61ttachment=x"])
def test_a_query_may_not_set_the_attribute(rest: Rest, query: str) -> None:
    """A query cannot set the attribute in apps that read attributes from it."""
    attachment = attach(rest)
    assert ask(rest, "PATCH", THING + query, b'{"color": "x"}').status == 400
    check(rest, attachment)


def test_bodies_without_the_attachment_reach_the_app(rest: Rest) -> None:
    """Forms and JSON of any JSON type that do not include the attachment reach the app."""
    attachment = attach(rest)
    part = b'--x\r\nContent-Disposition: form-data; name="color"\r\n\r\n7\r\n--x--\r\n'
    bodies = [
        ("application/json", b'{"color": "1"}'),
        ("application/json; charset=utf-8", b'{"color": "2"}'),
        ("application/merge-patch+json", b'{"color": "3"}'),
        ("application/vnd.api+json; version=1", b'{"color": "4"}'),
        ("application/json-patch+json", b'[{"op": "replace", "path": "/color", "value": "5"}]'),
        ("application/x-www-form-urlencoded", b"color=6"),
        ("multipart/form-data; boundary=x", part),
        ("", b'{"color": "8"}'),
        ("text/plain", b'{"color": "9"}'),
    ]
    for number, (kind, body) in enumerate(bodies, 1):
        method = "POST" if number % 2 else "PATCH"
        answer = ask(rest, method, THING, body, Content_Type=kind)
        assert (answer.status, answer.json()["color"]) == (200, str(number)), kind
        check(rest, attachment)


OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method"]


@pytest.mark.parametrize("value", ["PATCH", "patch", " PUT", "GET, PATCH"])
@pytest.mark.parametrize("header", OVERRIDES)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE", "OPTIONS"])
def test_a_method_override_by_header_does_not_bypass_the_guard(
    rest: Rest, method: str, header: str, value: str
) -> None:
    """Before an app that allows a header to override any method, both methods are checked."""
    attachment = attach(rest)
    answer = send_raw(rest.url, method, THING, PLAIN, {**ALICE, **JSON, header: value})
    assert answer.status == 400, answer.body
    check(rest, attachment)


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_a_method_override_by_query_does_not_bypass_the_guard(rest: Rest, method: str) -> None:
    """Both methods are checked if the query overrides the method, too."""
    attachment = attach(rest)
    for query in ("?_method=PATCH", "?a=1&_method=patch", "?%5Fmethod=PUT"):
        assert ask(rest, method, THING + query).status == 400
        check(rest, attachment)


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_delete_by_header_override_removes_the_file(rest: Rest, header: str) -> None:
    """If a header turns a POST into a DELETE in the app, the file is removed with the record."""
    attachment = attach(rest)
    answer = send_raw(rest.url, "POST", THING, b"", {**ALICE, header: "DELETE"})
    assert (answer.status, rest.records()) == (204, [])
    assert rest.request("GET", attachment["location"]).status_code == 404
    assert rest.left() == set()


@pytest.mark.parametrize("path", [THING, "/api/things"], ids=["record", "list"])
@pytest.mark.parametrize("way", ["query", "form"])
def test_a_delete_by_parameter_override_removes_the_file(rest: Rest, path: str, way: str) -> None:
    """If the query or the form turns a POST into a DELETE, the file is removed too."""
    attachment = attach(rest)
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    query, body = ("?_method=DELETE", b"") if way == "query" else ("", b"_method=DELETE")
    assert ask(rest, "POST", path + query, body, **form).status == 204
    assert rest.records() == []
    assert rest.request("GET", attachment["location"]).status_code == 404
    assert rest.left() == set()


def test_an_override_that_the_app_does_not_follow_removes_nothing(rest: Rest) -> None:
    """If a header says DELETE, but the app treats the request as a POST, the record keeps the file."""
    attachment = attach(rest)
    for path in (THING, "/api/things"):
        body = json.dumps({"id": "two", "color": "x"}).encode()
        assert ask(rest, "POST", path, body, X_Unknown_Method="DELETE").status in {200, 201}
        assert rest.request("GET", attachment["location"]).status_code == 200
    rest.check_whole()


def test_a_get_by_header_override_removes_nothing(rest: Rest) -> None:
    """If a header turns a DELETE into a GET in the app, the record and its file stay."""
    attachment = attach(rest)
    for header in OVERRIDES:
        send_raw(rest.url, "DELETE", THING, b"", {**ALICE, header: "GET"})
        check(rest, attachment)


@pytest.mark.parametrize("header", OVERRIDES)
def test_a_client_header_does_not_override_the_methods_of_the_filter(rest: Rest, header: str) -> None:
    """A file is attached and removed by the filter's own methods, which a header of the client does not change."""
    attachment = attach(rest)
    second = rest.attach(file=("b.txt", b"second"), headers={**ALICE, header: "DELETE"})
    assert second.status_code == 200
    assert second.json() != attachment
    check(rest, second.json())
    assert send_raw(rest.url, "DELETE", f"{THING}/attachment", b"", {**ALICE, header: "POST"}).status == 204
    check(rest, None)


def test_a_patch_by_header_override_changes_other_attributes(rest: Rest) -> None:
    """A POST that overrides its method with PATCH, as clients behind old proxies do, changes other attributes."""
    attachment = attach(rest)
    for header in OVERRIDES:
        answer = send_raw(rest.url, "POST", THING, b'{"color": "blue"}', {**ALICE, **JSON, header: "PATCH"})
        assert (answer.status, answer.json()["color"]) == (200, "blue")
        check(rest, attachment)


def test_compressed_bodies_are_refused(rest: Rest) -> None:
    """A body with a Content-Encoding is refused, since the app may read another body than the one checked."""
    attachment = attach(rest)
    for coding in ("gzip", "deflate", "identity, gzip"):
        assert ask(rest, "PATCH", THING, base64.b64encode(PLAIN), Content_Encoding=coding).status == 415
        check(rest, attachment)


def test_attributes_sent_with_a_file_cannot_change_the_attachment(rest: Rest) -> None:
    """The attributes sent with a file can have neither names that reach into the attachment nor duplicate names."""
    for data in ('{"attachment.location": "x"}', '{"a": 1, "a": 2}', '{"a": NaN}'):
        assert rest.attach(data=data).status_code == 400
        assert rest.left() == set()
