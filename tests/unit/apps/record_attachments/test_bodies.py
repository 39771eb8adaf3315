"""Unit tests of how the bodies of record requests are read for the attribute."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from fileupload.apps.record_attachments.attribute import ABSENT, CHANGED, AttributeReader, is_same_json
from fileupload.apps.record_attachments.bodies import RecordBody, parse_content_type, read_body
from fileupload.apps.record_attachments.errors import RecordError, UnsupportedBody
from fileupload.deploy import RecordAttachments

REST, KINTO = AttributeReader(()), AttributeReader(("data",))


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("", ""),
        ("application/json", "application/json"),
        ("Application/JSON;charset=UTF-8", "application/json"),
        ('application/json ; charset="us-ascii";', "application/json"),
        ("application/merge-patch+json; version=1; profile=a", "application/merge-patch+json"),
        ("multipart/form-data; boundary=----a_b", "multipart/form-data"),
    ],
)
def test_content_types_of_real_clients_are_read(header: str, kind: str) -> None:
    """A content type that all parsers read alike gives the media type."""
    assert parse_content_type(header)[0] == kind


@pytest.mark.parametrize(
    "header",
    [
        "json",
        "application/json, text/plain",
        "application/json charset=utf-7",
        "application/json; a=1; a=2",
        "application/json; a",
        "application/json; a =1",
        r'application/json; a="\""',
        'application/json; charset="',
        "application/json; charset=",
        "application/json; charset=utf\xad-8",
        "application/json; mycharset=utf-8",
        "application/json; a=charset",
        "application/json\n; charset=utf-8",
    ],
)
def test_other_content_types_are_refused(header: str) -> None:
    """A content type that is malformed, or in which a parser may find another charset, is refused."""
    with pytest.raises(UnsupportedBody):
        parse_content_type(header)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "image/png", "application/msgpack"])
def test_only_json_and_forms_are_read(kind: str) -> None:
    """A body of another type must be JSON, since it may set the attribute in a way that is not understood."""
    with pytest.raises(UnsupportedBody, match="Send the record as JSON"):
        read_body(b"<attachment/>", kind)
    assert read_body(b'{"a": 1}', kind) == RecordBody({"a": 1})


def test_a_json_string_is_refused() -> None:
    """A JSON string is refused, since an app may decode it once more."""
    with pytest.raises(RecordError, match="not a text"):
        read_body(b'"{\\"attachment\\": 1}"', "application/json")


def test_a_form_with_too_many_fields_is_refused() -> None:
    """A form with too many fields is refused before the fields are examined."""
    with pytest.raises(RecordError, match="at most"):
        read_body(b"a&" * 20_000, "application/x-www-form-urlencoded")
    part = b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--x'
    with pytest.raises(RecordError, match="malformed"):
        read_body(b"--x" + part * 20_000 + b"--", "multipart/form-data; boundary=x")


def test_method_overrides_in_bodies_are_detected() -> None:
    """Forms and JSON may override the method of the request."""
    assert read_body(b"_method=+patch&a=1", "application/x-www-form-urlencoded").methods == ["PATCH"]
    assert read_body(b'{"_method": "delete"}', "application/json").methods == ["DELETE"]
    part = b'--x\r\nContent-Disposition: form-data; name="_method"\r\n\r\nput\r\n--x--'
    assert read_body(part, "multipart/form-data; boundary=x").methods == ["PUT"]
    assert read_body(b"[]", "application/json").methods == []


@pytest.mark.parametrize(
    "body", [{"data": {"a": 1}}, {"permissions": {}}, {}, [], None, 1, [{"data": {"a": 1}}]], ids=str
)
def test_a_body_without_the_attribute_leaves_it_unchanged(body: Any) -> None:
    """A body that does not name the attribute leaves it unchanged."""
    assert KINTO.in_json(body) is ABSENT


@pytest.mark.parametrize(
    "body",
    [
        {"data.attachment": 1},
        {"data[attachment]": 1},
        {"data": {"attachment.size": 1}},
        {"data": {"attachment__size": 1}},
        {"data": {" attachment ": 1}},
        {"data": {"%61ttachment": 1}},
        [{"data": {"attachment": 1}}],
        [{"op": "add", "path": "/data", "value": {}}],
        [{"op": "add", "path": "/x", "value": {}, "attachment": 1}],
        [{"op": "add", "path": "//data//attachment", "value": 1}],
        [{"op": "add", "path": "/%64ata/attachment", "value": 1}],
        [{"op": "remove", "path": "/"}],
    ],
    ids=str,
)
def test_a_change_of_the_attribute_by_path_or_list_is_detected(body: Any) -> None:
    """A body that reaches the attribute by a path, or in a list, changes it."""
    assert KINTO.in_json(body) is CHANGED


@pytest.mark.parametrize(
    "body",
    [
        {"data": [["attachment", 1]]},
        {"data": "x"},
        [["attachment", 1]],
        [{"op": 1, "path": "/a"}],
        [{"op": ["add"], "path": "/a"}],
        [{"op": "merge", "path": "/a"}],
        [{"op": "add", "path": ["/data"]}],
        [{"op": "add"}],
        [{"op": "add", "path": "data/attachment"}],
        [{"op": "add", "path": "/a~2"}],
        [{"op": "move", "path": "/a"}],
        [{"op": "copy", "path": "/a", "from": 1}],
    ],
    ids=str,
)
def test_a_body_that_is_neither_a_record_nor_a_json_patch_is_refused(body: Any) -> None:
    """A body that is neither a record nor a JSON Patch is refused."""
    with pytest.raises(RecordError):
        KINTO.in_json(body)


def test_the_envelope_depends_on_the_app() -> None:
    """A key that is the envelope of one app is an attribute in another app."""
    assert REST.in_json({"data": {"attachment": 1}}) is ABSENT
    assert REST.in_json([{"op": "replace", "path": "/data", "value": 1}]) is ABSENT
    assert REST.in_json({"attachment": 1}) == 1


def test_json_is_compared_as_json() -> None:
    """Values that Python calls equal may differ as JSON; the order of keys does not matter."""
    assert is_same_json({"a": 1, "b": [None]}, {"b": [None], "a": 1})
    assert not is_same_json(1, True)
    assert not is_same_json(1, 1.0)
    assert not is_same_json([0], [False])


class Reader:
    """An app that reads and keeps its whole body."""

    def __init__(self) -> None:
        self.body = b""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            self.body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]


@pytest.mark.parametrize("terminated", [True, False])
def test_a_body_without_a_length_is_checked(tmp_path: Path, terminated: bool) -> None:
    """A body without a length, as over HTTP/2, is checked; the app reads only checked bytes."""
    app = Reader()
    settings = {"directory": str(tmp_path), "record_url": "/r/{id}", "min_free_space": 0, "durable": False}
    records = RecordAttachments(app, **settings)
    environ = {
        "REQUEST_METHOD": "PATCH",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/r/a",
        "QUERY_STRING": "",
        "SERVER_NAME": "a",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/2",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b'{"attachment": 1}'),
        "CONTENT_TYPE": "application/json",
        **({"wsgi.input_terminated": True} if terminated else {}),
    }
    statuses: list[str] = []
    start: Any = lambda status, headers, exc_info=None: statuses.append(status)  # noqa: E731
    b"".join(records(environ, start))
    assert statuses == ["400 Bad Request" if terminated else "200 OK"]
    assert app.body == b""
