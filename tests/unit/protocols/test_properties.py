"""Properties of forms: any form, in any chunks, with any corrupt bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileupload.wsgi.headers import clean_filename
from tests.support.wsgi_client import BOUNDARY, ONLY_STATUS, Answer, Stream, UploadSite, field_part, file_part, form

# The site exists for the whole module, and the time of an upload depends on the disk.
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

REFUSED = {400, 408, 409, 411, 413, 415}

# Names as browsers write them, without percent-encoded characters and names that are empty after cleaning.
names = st.text(
    st.characters(codec="utf-8", exclude_characters='"%\\/\r\n', exclude_categories=["Cc"]),
    min_size=1,
    max_size=20,
)
filenames = names.filter(lambda name: clean_filename(name) == name)
# Content that resembles the syntax around it.
pieces = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", BOUNDARY.encode(), b"\r\n--" + BOUNDARY.encode()[:-1], b"x", b"\0"]
)
contents = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=12).map(b"".join)).filter(
    lambda data: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + data
)


@dataclass(frozen=True)
class Part:
    """A part of a generated form."""

    name: str
    filename: str | None
    data: bytes

    def encoded(self) -> bytes:
        if self.filename is None:
            return field_part(self.name, self.data)
        return file_part(self.data, self.filename, self.name, "application/x-test")


files = st.builds(Part, name=names, filename=filenames, data=contents)
fields = st.builds(
    Part,
    name=names,
    filename=st.none(),
    data=st.text(max_size=50).map(lambda text: text.encode("utf-8", "replace")),
)
forms = st.tuples(files, st.lists(st.one_of(files, fields), max_size=6)).map(lambda pair: [pair[0], *pair[1]])


def cut(body: bytes, offsets: list[int]) -> Stream:
    """Return *body* as a stream that is cut at the *offsets*."""
    marks = sorted({0, len(body), *(offset % (len(body) + 1) for offset in offsets)})
    return Stream(body[start:end] for start, end in pairwise(marks))


@given(parts=forms, offsets=st.lists(st.integers(0, 1 << 20), max_size=30), declared=st.booleans())
@many
def test_any_form_in_any_chunks_is_stored_unchanged(
    lasting_site: UploadSite, parts: list[Part], offsets: list[int], declared: bool
) -> None:
    """Names, contents and order are kept, and the digests are correct."""
    body = form(*(each.encoded() for each in parts))
    identifier = lasting_site.identifier()
    stream = cut(body, offsets)
    length = str(len(body)) if declared else None
    found = lasting_site.post(stream, identifier, CONTENT_LENGTH=length).json
    sent = [each for each in parts if each.filename is not None]
    assert lasting_site.contents(identifier) == [each.data for each in sent]
    assert [(file["field"], file["filename"], file["sha256"]) for file in found["files"]] == [
        (each.name, each.filename, hashlib.sha256(each.data).hexdigest()) for each in sent
    ]
    expected: dict[str, list[str]] = {}
    for each in parts:
        if each.filename is None:
            expected.setdefault(each.name, []).append(each.data.decode())
    assert found["fields"] == expected


BODY = form(field_part("title", "text"), file_part(b"\r\n--\r\n", "a.bin"), file_part("b", "b.txt"))
SYNTAX = [
    b"\r\n",
    b"\r",
    b"\n",
    b"--",
    b'"',
    b";",
    b"=",
    b":",
    b"%",
    b"\\",
    b"\0",
    b"\xff",
    b" ",
    f"--{BOUNDARY}".encode(),
    b"\r\n\r\n",
]


def assert_is_answered(site: UploadSite, identifier: str, answer: Answer) -> None:
    """Check that an upload is done completely, or refused with a documented error and nothing left."""
    if answer.status == 200:
        assert answer.json["state"] == "done"
        assert len(site.contents(identifier)) == len(answer.json["files"])
    else:
        assert answer.status in REFUSED
        assert answer.json["code"]
        assert site.names(identifier) <= ONLY_STATUS


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(BODY)), st.integers(0, 12), st.sampled_from(SYNTAX) | st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    ),
    offsets=st.lists(st.integers(0, len(BODY)), max_size=5),
)
@many
def test_any_corrupted_form_is_answered(
    lasting_site: UploadSite, edits: list[tuple[int, int, bytes]], offsets: list[int]
) -> None:
    """A valid form with removed, replaced or added bytes gives only documented errors."""
    body = BODY
    for start, length, new in edits:
        body = body[:start] + new + body[start + length :]
    identifier = lasting_site.identifier()
    assert_is_answered(lasting_site, identifier, lasting_site.post(cut(body, offsets), identifier))


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([*SYNTAX, b"x", b"Content-Disposition: form-data; name=a"]), max_size=30).map(
            b"".join
        ),
    )
)
@many
def test_any_body_is_answered(lasting_site: UploadSite, body: bytes) -> None:
    """Random bytes instead of a form give only documented errors."""
    identifier = lasting_site.identifier()
    assert_is_answered(lasting_site, identifier, lasting_site.post(body, identifier))


@given(
    kind=st.text(st.sampled_from(' ;="\\\tab/-\x80') | st.characters(codec="latin-1"), max_size=60),
    prefix=st.sampled_from(["", "multipart/form-data; boundary="]),
)
@many
def test_any_content_type_is_answered(lasting_site: UploadSite, kind: str, prefix: str) -> None:
    """Any Content-Type gives only documented errors."""
    identifier = lasting_site.identifier()
    assert_is_answered(lasting_site, identifier, lasting_site.post(BODY, identifier, prefix + kind))


@given(
    query=st.text(st.sampled_from("&=%;+0aF\x80") | st.characters(codec="latin-1"), max_size=60),
    method=st.sampled_from(["POST", "PUT", "GET", "DELETE"]),
)
@many
def test_any_query_is_answered(lasting_site: UploadSite, query: str, method: str) -> None:
    """Any query with a valid identifier gives only documented errors, at each URL and by each method."""
    for path in ("/upload", "/upload/status"):
        identifier = lasting_site.identifier()
        answer = lasting_site.send(method, path, f"X-Progress-ID={identifier}&{query}", BODY, CONTENT_TYPE="text/plain")
        assert answer.status in REFUSED | {200, 404, 405}


@given(header=st.text(st.characters(codec="latin-1"), max_size=60))
@many
def test_any_disposition_of_a_request_is_answered(lasting_site: UploadSite, header: str) -> None:
    """Any Content-Disposition of a plain body gives only documented errors."""
    identifier = lasting_site.identifier()
    assert_is_answered(lasting_site, identifier, lasting_site.put(b"x", identifier, HTTP_CONTENT_DISPOSITION=header))
