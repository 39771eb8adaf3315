"""Invalid requests: errors have Kinto's format, and nothing is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.support.records.kinto_harness import IMAGE, MAT, RECORD, Kinto, form

# The errors of a form do not depend on the place of its file.
pytestmark = pytest.mark.parametrize("kinto", ["pool"], indirect=True)

INVALID_PARAMETERS, INVALID_POSTED_DATA = 107, 109
ENDPOINT = f"{RECORD}/attachment"


def send(kinto: Kinto, body: bytes, content_type: str = "multipart/form-data; boundary=limes") -> requests.Response:
    return kinto.request("POST", ENDPOINT, data=body, headers={**MAT, "Content-Type": content_type})


def check(kinto: Kinto, answer: requests.Response, status: int, errno: int, message: str) -> None:
    """Check an error in Kinto's format, and that nothing is left behind."""
    data = answer.json()
    assert (answer.status_code, data["code"], data["errno"]) == (status, status, errno), data
    assert isinstance(data["error"], str)
    assert message in data["message"]
    assert kinto.left() == set()
    assert kinto.request("GET", RECORD).status_code == 404


PARTS: list[tuple[str, list[tuple[str, Any]], int, str]] = [
    ("no file", [("data", (None, "{}"))], INVALID_POSTED_DATA, "Attachment missing."),
    ("wrong field", [("fichierjoint", IMAGE)], INVALID_POSTED_DATA, "Attachment missing."),
    ("text for a file", [("attachment", (None, "--fake--"))], INVALID_PARAMETERS, "body: Filename is required."),
    ("empty filename", [("attachment", ("", b"--fake--"))], INVALID_PARAMETERS, "body: Filename is required."),
    ("dots for a filename", [("attachment", ("..", b"x"))], INVALID_PARAMETERS, "body: Filename is required."),
    ("extension", [("attachment", ("a.exe", b"x"))], INVALID_PARAMETERS, "body: File extension is not allowed."),
    ("hidden extension", [("attachment", ("a.jpg.exe", b"x"))], INVALID_PARAMETERS, "File extension is not allowed."),
    ("no extension", [("attachment", ("jpg", b"x"))], INVALID_PARAMETERS, "body: File extension is not allowed."),
    ("two files", [("attachment", IMAGE), ("attachment", IMAGE)], INVALID_POSTED_DATA, "body: only one file"),
    ("broken data", [("attachment", IMAGE), ("data", (None, "{>author: 12}"))], 109, "body: data is not valid JSON"),
    ("deep data", [("attachment", IMAGE), ("data", (None, "[" * 99_999))], 109, "body: data is not valid JSON"),
    ("data is a list", [("attachment", IMAGE), ("data", (None, "[]"))], 109, "body: data must be a JSON object"),
    ("data is empty", [("attachment", IMAGE), ("data", (None, ""))], 109, "body: data is not valid JSON"),
    ("data twice", [("attachment", IMAGE), *2 * [("data", (None, "{}"))]], 109, "body: 'data' is given twice"),
    ("permissions", [("attachment", IMAGE), ("permissions", (None, '{"r": >}'))], 109, "permissions is not valid JSON"),
    ("permissions list", [("attachment", IMAGE), ("permissions", (None, "[]"))], 109, "permissions must be a JSON"),
    (
        "data as a file",
        [("attachment", IMAGE), ("data", ("data", b"{}"))],
        109,
        "body: 'data' field should be passed as form data, not files",
    ),
    (
        "permissions as a file",
        [("permissions", ("p", b"{}")), ("attachment", IMAGE)],
        109,
        "body: 'permissions' field should be passed as form data, not files",
    ),
    (
        "unknown field",
        [("attachment", IMAGE), ("my_field", (None, "a_value"))],
        INVALID_POSTED_DATA,
        "body: 'my_field' not in ('data', 'permissions')",
    ),
    ("unknown file", [("attachment", IMAGE), ("other", IMAGE)], 109, "body: 'other' not in ('data', 'permissions')"),
    ("schema", [("attachment", IMAGE), ("data", (None, '{"author": 12}'))], 107, "author in body: 12 is not of type"),
    ("another id", [("attachment", IMAGE), ("data", (None, '{"id": "other"}'))], 107, "id"),
    ("bad permission", [("attachment", IMAGE), ("permissions", (None, '{"fly": ["a"]}'))], 107, "fly"),
]


@pytest.mark.parametrize(("parts", "errno", "message"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_a_malformed_form_is_refused(kinto: Kinto, parts: list[tuple[str, Any]], errno: int, message: str) -> None:
    """Each mistake in a form is answered with 400 and a message that names it."""
    check(kinto, kinto.request("POST", ENDPOINT, files=parts), 400, errno, message)


BODIES = [
    ("json", b"{}", "application/json", "Content-Type should be multipart/form-data"),
    ("urlencoded", b"a=b", "application/x-www-form-urlencoded", "Content-Type should be multipart/form-data"),
    ("no type", b"x", "", "Content-Type should be multipart/form-data"),
    ("no boundary", b"x", "multipart/form-data", "Invalid boundary in multipart form: ''"),
    ("long boundary", b"x", f"multipart/form-data; boundary={'x' * 71}", "boundary"),
    ("two boundaries", b"x", "multipart/form-data; boundary=a; boundary=b", "Content-Type"),
    ("another boundary", b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=limes", "form"),
    ("empty form", b"--limes--\r\n", "multipart/form-data; boundary=limes", "Attachment missing."),
]


@pytest.mark.parametrize(("body", "kind", "message"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_body_that_is_no_form_is_refused(kinto: Kinto, body: bytes, kind: str, message: str) -> None:
    """A body that is no form is answered with 400 and a message that says so."""
    answer = send(kinto, body, kind)
    errno = INVALID_POSTED_DATA if message == "Attachment missing." else INVALID_PARAMETERS
    check(kinto, answer, 400, errno, message)


def part(disposition: str, content: bytes = b"--fake--") -> bytes:
    return f"--limes\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def test_a_form_that_is_cut_off_is_refused(kinto: Kinto) -> None:
    """A form without its closing boundary is refused, wherever it was cut off."""
    answer = send(kinto, part('name="attachment"; filename="a.jpg"'))
    check(kinto, answer, 400, INVALID_PARAMETERS, "closing boundary")


def test_a_text_field_above_the_limit_is_refused(kinto: Kinto) -> None:
    """Attributes of a mebibyte are accepted, and one byte more is refused as too large."""
    limit = 1 << 20
    at_limit = json.dumps({"family": "x" * (limit - len('{"family": ""}'))})
    assert kinto.attach(data=at_limit).status_code == 201
    kinto.request("DELETE", RECORD)
    check(kinto, kinto.attach(data=at_limit + " "), 413, 113, "text field 'data'")


def test_a_filename_cannot_add_headers(kinto: Kinto) -> None:
    """Control characters in a filename get neither into the record nor into a header."""
    name = "a\r\nSet-Cookie: x=1\x00\x1b.jpg"
    body = part(f'name="attachment"; filename="{name}"') + b"--limes--\r\n"
    answer = send(kinto, body)
    if answer.status_code == 400:  # the form parser itself refuses the line break
        check(kinto, answer, 400, INVALID_PARAMETERS, "")
    answer = send(kinto, part('name="attachment"; filename="a%0D%0ASet-Cookie: x=1\x1b\x7f.jpg"') + b"--limes--\r\n")
    attachment = answer.json()
    assert attachment["filename"].isprintable()
    assert "Set-Cookie" not in kinto.fetch(attachment["location"]).headers


@pytest.mark.parametrize(
    "name", ["../../etc/a.jpg", "..\\..\\a.jpg", "/etc/a.jpg", "C:\\a.jpg", "a.jpg/", "....//a.jpg"], ids=repr
)
def test_folders_in_a_filename_are_removed(kinto: Kinto, name: str) -> None:
    """Folders in a filename are removed, for all systems, or the file is refused."""
    parts = form([("attachment", (name, b"x"))])
    answer = kinto.request("POST", ENDPOINT, files=parts)
    if answer.status_code == 400:
        check(kinto, answer, 400, INVALID_PARAMETERS, "Filename is required.")
    else:
        assert answer.json()["filename"] == "a.jpg"


@pytest.mark.parametrize("name", ["%20", "a b", "é", "a%2Fb", "%00"], ids=ascii)
def test_an_invalid_record_address_is_refused(kinto: Kinto, name: str) -> None:
    """An address that Kinto does not accept as a record's gets Kinto's own answer, and no file is stored."""
    answer = kinto.attach(RECORD.replace("logo", name))
    assert answer.status_code in {400, 404}, answer.text
    assert answer.json()["code"] == answer.status_code
    assert kinto.left() == set()


@pytest.mark.parametrize(
    "path",
    [
        "/v1//buckets/fennec/collections/fonts/records/logo/attachment",
        "/v1/buckets/fennec/collections/fonts/records//attachment",
        "/v1/buckets/fennec/collections/../fonts/records/logo/attachment",
        "/v1/buckets/fennec/collections/fonts/records/..%2F..%2Flogo/attachment",
        "/v1/buckets/fennec/collections/fonts/records/logo/attachment/attachment",
        "/v1/buckets/fennec/attachment",
    ],
)
def test_other_paths_are_left_to_the_app(kinto: Kinto, path: str) -> None:
    """Kinto answers an address that is not exactly that of an attachment; nothing is stored."""
    prepared = requests.Request("POST", kinto.url, headers=MAT, files=[("attachment", IMAGE)]).prepare()
    prepared.url = kinto.url + path  # sent as it is, without the client's own normalization
    with requests.Session() as session:
        answer = session.send(prepared, allow_redirects=False, timeout=30)
    assert answer.status_code in {307, 308, 400, 404, 405}, answer.text
    assert kinto.left() == set()
