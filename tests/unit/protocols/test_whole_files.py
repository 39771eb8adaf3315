"""Requests that hold a piece of a file, or an envelope around one, are refused on every way in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from fileupload import RecordAttachments, SessionAttachments
from tests.support.wsgi_client import (
    FORM_TYPE,
    NOTHING,
    ONLY_STATUS,
    Answer,
    UploadSite,
    call,
    field_part,
    file_part,
    form,
    make_environ,
    part,
)

REFUSED = (415, "unsupported-request")

# The second of three pieces, as each client marks it.
PIECES = {
    "Dropzone": {"dzuuid": "7", "dzchunkindex": "1", "dztotalfilesize": "3", "dztotalchunkcount": "3"},
    "Resumable.js": {"resumableChunkNumber": "2", "resumableTotalChunks": "3"},
    "flow.js": {"flowChunkNumber": "2", "flowTotalChunks": "3"},
    "Plupload": {"name": "a.txt", "chunk": "1", "chunks": "3"},
    "Fine Uploader": {"qqpartindex": "1", "qqtotalparts": "3"},
    "simple-uploader.js": {"chunkNumber": "2", "totalChunks": "3"},
}
FIRST_PIECES = {
    "Dropzone": {"dzchunkindex": "0", "dztotalchunkcount": "3"},
    "Resumable.js": {"resumableChunkNumber": "1", "resumableTotalChunks": "3"},
    "flow.js": {"flowTotalChunks": "3"},
    "Plupload": {"chunks": "3", "chunk": "0"},
    "Fine Uploader": {"qqtotalparts": "2"},
    "simple-uploader.js": {"chunkNumber": "1", "totalChunks": "3"},
}
WHOLE = {
    "Dropzone": {"dzchunkindex": "0", "dztotalchunkcount": "1"},
    "Resumable.js": {"resumableChunkNumber": "1", "resumableTotalChunks": "1"},
    "flow.js": {"flowChunkNumber": "1", "flowTotalChunks": "1"},
    "Plupload": {"chunk": "0", "chunks": "1"},
    "Plupload without chunks": {"chunk": "0", "chunks": "0"},
    "Fine Uploader": {"qqpartindex": "0", "qqtotalparts": "1"},
    "a field of another meaning": {"chunk": "large", "chunks": "3"},
    "one of two generic fields": {"chunks": "3", "totalChunks": "3"},
    "numbers that are none": {"chunk": "-1", "chunks": "٣", "dzchunkindex": ""},
}
HEADERS = {
    "Content-Range": {"HTTP_CONTENT_RANGE": "bytes 100-199/300"},
    "Content-Range of the whole": {"HTTP_CONTENT_RANGE": "bytes 0-0/1"},
    "tus": {"HTTP_TUS_RESUMABLE": "1.0.0", "HTTP_UPLOAD_OFFSET": "100"},
    "FilePond": {"HTTP_UPLOAD_LENGTH": "300"},
    "IETF": {"HTTP_UPLOAD_COMPLETE": "?0"},
    "an early draft of IETF": {"HTTP_UPLOAD_INCOMPLETE": "?1"},
}


def fields(values: dict[str, str]) -> list[bytes]:
    return [field_part(name, value) for name, value in values.items()]


def assert_refused(answer: Answer) -> None:
    assert answer.outcome == REFUSED
    assert "tus" in answer.json["detail"]
    assert "whole files" in answer.json["detail"]


@pytest.mark.parametrize("pieces", [PIECES, FIRST_PIECES], ids=["second", "first"])
@pytest.mark.parametrize("client", PIECES)
@pytest.mark.parametrize("place", ["before", "after", "query"])
def test_a_piece_that_is_marked_by_fields_is_refused(
    site: UploadSite, client: str, pieces: dict[str, dict[str, str]], place: str
) -> None:
    """A form is refused with all its files, whether the fields come before the file, after it or in the query."""
    identifier, marks = site.identifier(), pieces[client]
    extra = marks if place == "query" else {}
    parts = {
        "before": [*fields(marks), file_part("x")],
        "after": [file_part("x"), *fields(marks)],
        "query": [file_part("x")],
    }[place]
    query = urlencode({"X-Progress-ID": identifier, **extra})
    answer = site.send("POST", query=query, body=form(*parts), CONTENT_TYPE=FORM_TYPE)
    assert_refused(answer)
    assert client in answer.json["detail"]
    assert site.names(identifier) == (NOTHING if place == "query" else ONLY_STATUS)
    assert site.status(identifier)["code"] == "unsupported-request"
    assert site.app_environ == {} or "fileupload.bucket" not in site.app_environ


@pytest.mark.parametrize("client", PIECES)
def test_a_piece_in_a_plain_body_is_refused(site: UploadSite, client: str) -> None:
    """PUT is refused by the marks in its query."""
    identifier = site.identifier()
    query = urlencode({"X-Progress-ID": identifier, "filename": "a.txt", **PIECES[client]})
    assert_refused(site.send("PUT", query=query, body=b"x"))
    assert site.names(identifier) == NOTHING


def test_marks_in_the_query_and_in_the_form(site: UploadSite) -> None:
    """Resumable.js sends its marks twice; those of a file in one piece are accepted, and stay in the fields."""
    marks = WHOLE["Resumable.js"]
    query = urlencode({"X-Progress-ID": site.identifier(), **marks})
    answer = site.send("POST", query=query, body=form(*fields(marks), file_part("x")), CONTENT_TYPE=FORM_TYPE)
    assert answer.json["fields"] == {name: [value] for name, value in marks.items()}


@pytest.mark.parametrize("marks", WHOLE.values(), ids=WHOLE)
def test_a_file_in_one_piece_is_accepted(site: UploadSite, marks: dict[str, str]) -> None:
    """One piece of one, and fields that only resemble marks, are accepted before and after the file."""
    for parts in ([*fields(marks), file_part("x")], [file_part("x"), *fields(marks)]):
        answer = site.post(form(*parts))
        assert (answer.status, answer.json["size"]) == (200, 1)


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_a_piece_that_is_marked_by_a_header_is_refused(site: UploadSite, headers: dict[str, str]) -> None:
    """A form whose headers say that it is only a part is refused unread, and the status has the reason."""
    identifier = site.identifier()
    assert_refused(site.post(form(file_part("x")), identifier, **headers))
    assert site.names(identifier) == NOTHING
    assert site.status(identifier)["code"] == "unsupported-request"


def test_a_part_of_a_form_with_a_content_range_is_refused(site: UploadSite) -> None:
    """A file part whose own header says that it is only a part is refused."""
    identifier = site.identifier()
    headers = 'Content-Disposition: form-data; name="f"; filename="a"\nContent-Range: bytes 0-0/9'
    assert_refused(site.post(form(file_part("x"), part(headers, "y")), identifier))
    assert site.names(identifier) == ONLY_STATUS


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_whole_file_of_a_resumable_client_is_accepted(site: UploadSite, method: str) -> None:
    """A client of IETF resumable uploads that sends the whole file in its first request is served as any other."""
    headers = {"HTTP_UPLOAD_COMPLETE": "?1", "HTTP_UPLOAD_LENGTH": "1", "HTTP_UPLOAD_DRAFT_INTEROP_VERSION": "6"}
    answer = site.post(form(file_part("x")), **headers) if method == "POST" else site.put(b"x", **headers)
    assert answer.json["size"] == 1


def direct_part(site: UploadSite, method: str) -> tuple[str, str]:
    """Begin a direct upload of one byte; return its identifier, and the query of its address."""
    identifier = site.identifier()
    body = json.dumps({"filename": "a.txt", "size": 1, "method": method}).encode()
    begun = site.send("POST", "/upload/direct", urlencode({"X-Progress-ID": identifier}), body)
    return identifier, urlsplit(begun.json["url"]).query


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_piece_at_a_direct_address_is_refused(site: UploadSite, method: str, headers: dict[str, str]) -> None:
    """A signed address takes its whole part, or a whole form, only."""
    identifier, query = direct_part(site, method)
    body, kind = (b"x", "") if method == "PUT" else (form(file_part("x")), FORM_TYPE)
    if "HTTP_UPLOAD_LENGTH" not in headers or method == "POST":
        assert_refused(site.send(method, "/upload/direct/part", query, body, CONTENT_TYPE=kind, **headers))
    marked = form(*fields(PIECES["Plupload"]), file_part("x"))
    if method == "POST":
        assert_refused(site.send(method, "/upload/direct/part", query, marked, CONTENT_TYPE=FORM_TYPE))
    assert site.status(identifier)["received"] == 0
    assert site.send(method, "/upload/direct/part", query, body, CONTENT_TYPE=kind).status in {200, 201}
    done = site.send("POST", "/upload/direct/complete", urlencode({"X-Progress-ID": identifier}))
    assert done.json["size"] == 1


class RecordApp:
    """A REST app with one record."""

    def __init__(self) -> None:
        self.changed = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.changed |= environ["REQUEST_METHOD"] != "GET"
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]


@pytest.mark.parametrize("how", [*HEADERS, "field"])
def test_a_piece_for_a_record_is_refused(tmp_path: Path, how: str) -> None:
    """A record is not linked to a piece of a file."""
    app = RecordApp()
    component = RecordAttachments(app, directory=str(tmp_path), record_url="/api/{kind}/{id}", durable=False)
    parts = fields({"dzchunkindex": "1"} if how == "field" else {})
    environ = make_environ(
        "POST",
        "/api/a/1/attachment",
        "",
        form(*parts, file_part("x", name="attachment")),
        {"CONTENT_TYPE": FORM_TYPE, **HEADERS.get(how, {})},
    )
    status, _, body = call(component, environ)
    assert status == 415
    assert b"tus" in body
    assert not app.changed
    assert list(component.manager.pool.buckets()) == []


@pytest.mark.parametrize("how", [*HEADERS, *PIECES])
def test_a_piece_for_a_session_is_refused(tmp_path: Path, how: str) -> None:
    """A bundle keeps no piece of a file."""
    component = SessionAttachments(None, directory=str(tmp_path), durable=False)
    body = form(file_part("x"), *fields(PIECES.get(how, {})))
    given = {"CONTENT_TYPE": FORM_TYPE, **HEADERS.get(how, {})}
    status, _, answer = call(component, make_environ("POST", "/attachments/letter/", "", body, given))
    assert (status, json.loads(answer)["code"]) == REFUSED
    assert list(component.manager.pool.buckets()) == []


def send_put(site: UploadSite, body: bytes, kind: str) -> tuple[str, Answer]:
    identifier = site.identifier()
    return identifier, site.put(body, identifier, "named.txt", CONTENT_TYPE=kind)


def test_a_form_by_put_is_read_as_a_form(site: UploadSite) -> None:
    """PUT with multipart/form-data is received as by POST; its own names count, not the one in the query."""
    body = form(field_part("title", "x"), file_part("one", "1.txt"), file_part("two", "2.txt"))
    identifier, answer = send_put(site, body, FORM_TYPE)
    assert [file["filename"] for file in answer.json["files"]] == ["1.txt", "2.txt"]
    assert answer.json["fields"] == {"title": ["x"]}
    assert site.contents(identifier) == [b"one", b"two"]
    assert site.app_environ["fileupload.request_method"] == "PUT"


def test_a_malformed_form_by_put_is_refused(site: UploadSite) -> None:
    """A form by PUT that cannot be read is no file."""
    assert send_put(site, b"hello", "multipart/form-data")[1].outcome == (400, "malformed-form")
    assert send_put(site, b"hello", "Multipart/Form-Data; boundary=x")[1].outcome == (400, "incomplete")


ENVELOPES = ["mixed", "related", "alternative", "byteranges", "x-mixed-replace", "form-data-else"]


@pytest.mark.parametrize("kind", ENVELOPES)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_other_envelopes_are_refused(site: UploadSite, kind: str, method: str) -> None:
    """Other multipart types are refused unread: their boundaries would become part of the file."""
    identifier = site.identifier()
    query = urlencode({"X-Progress-ID": identifier})
    given = f"Multipart/{kind}; boundary=----gap5"
    answer = site.send(method, query=query, body=form(file_part("x")), CONTENT_TYPE=given)
    assert answer.outcome == REFUSED
    assert site.names(identifier) == NOTHING


@pytest.mark.parametrize("kind", ["message/rfc822", "message/partial; id=x; number=1", "multipart/related"])
def test_types_of_files_that_hold_others_are_accepted(site: UploadSite, kind: str) -> None:
    """A mail is a file, and so is a saved web page (.mhtml), whose type browsers send without a boundary."""
    identifier, answer = send_put(site, b"hello", kind)
    assert answer.json["content-type"] == kind.partition(";")[0]
    assert site.contents(identifier) == [b"hello"]


@pytest.mark.parametrize("kind", [FORM_TYPE, "multipart/mixed; boundary=x", "multipart/related; boundary=x"])
def test_an_envelope_as_a_direct_part_is_refused(site: UploadSite, kind: str) -> None:
    """The address of a part takes the bytes of the part only."""
    identifier, query = direct_part(site, "PUT")
    assert site.send("PUT", "/upload/direct/part", query, b"x", CONTENT_TYPE=kind).outcome == REFUSED
    assert site.status(identifier)["received"] == 0
    assert site.send("PUT", "/upload/direct/part", query, b"x", CONTENT_TYPE="text/plain").status == 200


def test_forms_by_put_in_a_bundle(tmp_path: Path) -> None:
    """A bundle reads a form by PUT; the address of one file takes its plain bytes only."""
    component = SessionAttachments(None, directory=str(tmp_path), durable=False)
    body = form(file_part("one", "1.txt"), file_part("two", "2.txt"))
    given = {"CONTENT_TYPE": FORM_TYPE}
    status, headers, answer = call(component, make_environ("PUT", "/attachments/b/", "filename=x.txt", body, given))
    assert (status, [each["name"] for each in json.loads(answer)]) == (200, ["1.txt", "2.txt"])
    given["HTTP_COOKIE"] = dict(headers)["Set-Cookie"].partition(";")[0]
    status, _, answer = call(component, make_environ("PUT", "/attachments/b/1.txt/", "", body, given))
    assert (status, json.loads(answer)["code"]) == REFUSED
    given["CONTENT_TYPE"] = "multipart/mixed; boundary=x"
    assert call(component, make_environ("PUT", "/attachments/b/", "filename=x.txt", body, given))[0] == 415
    assert call(component, make_environ("GET", "/attachments/b/1.txt/", "", b"", given))[2] == b"one"
