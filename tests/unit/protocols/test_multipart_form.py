"""Multipart forms: their contents, any split into reads, and malformed forms."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from fileupload.errors import FileMissing
from tests.support.wsgi_client import (
    BOUNDARY,
    FORM_TYPE,
    NOTHING,
    ONLY_STATUS,
    Stream,
    UploadSite,
    field_part,
    file_part,
    form,
    in_steps,
    part,
)

# Two files, two fields, and content that resembles the syntax around it.
BODY = form(
    field_part("title", "Ä \U0001f4be"),
    file_part(b"\r\n--\r\n-" + BOUNDARY.encode() + b"\r\r\n", "a.bin", kind="application/octet-stream"),
    file_part(b"--" + BOUNDARY.encode() + b"\r\n", "b.txt"),
    field_part("title", ""),
)
FILES = [b"\r\n--\r\n-" + BOUNDARY.encode() + b"\r\r\n", b"--" + BOUNDARY.encode() + b"\r\n"]


def assert_is_body(site: UploadSite, identifier: str, descriptor: dict[str, object]) -> None:
    assert descriptor["state"] == "done"
    assert descriptor["fields"] == {"title": ["Ä \U0001f4be", ""]}
    assert [file["filename"] for file in descriptor["files"]] == ["a.bin", "b.txt"]  # type: ignore[attr-defined]
    assert site.contents(identifier) == FILES


def test_files_and_fields_are_kept_in_order(site: UploadSite) -> None:
    """Files and fields are kept in the order of the form, with the first file at the top level."""
    identifier = site.identifier()
    body = form(
        field_part("tag", "1"),
        file_part("one", "1.txt", "docs"),
        field_part("other", "x"),
        file_part("", "2.txt", "docs"),
        field_part("tag", "2"),
        file_part("three", "3.png", "image", "image/png"),
    )
    found = site.post(body, identifier).json
    shown = [(file["field"], file["filename"], file["content-type"], file["size"]) for file in found["files"]]
    assert shown == [
        ("docs", "1.txt", "text/plain", 3),
        ("docs", "2.txt", "text/plain", 0),
        ("image", "3.png", "image/png", 5),
    ]
    assert list(found["fields"].items()) == [("tag", ["1", "2"]), ("other", ["x"])]
    assert (found["filename"], found["size"], found["received"]) == ("1.txt", 3, 3)
    assert site.contents(identifier) == [b"one", b"", b"three"]


def test_two_hundred_parts_of_both_kinds_interleave(site: UploadSite) -> None:
    """A long form of alternating files and fields is received completely."""
    parts = [each for n in range(100) for each in (file_part(f"f{n}", f"{n}.txt"), field_part("n", str(n)))]
    identifier = site.identifier()
    found = site.post(form(*parts), identifier).json
    assert [file["filename"] for file in found["files"]] == [f"{n}.txt" for n in range(100)]
    assert found["fields"]["n"] == [str(n) for n in range(100)]
    assert site.contents(identifier) == [f"f{n}".encode() for n in range(100)]


def test_a_form_may_arrive_byte_by_byte(site: UploadSite) -> None:
    """The form is the same when each read returns one byte."""
    identifier = site.identifier()
    answer = site.post(Stream(in_steps(BODY, 1)), identifier, CONTENT_LENGTH=str(len(BODY)))
    assert_is_body(site, identifier, answer.json)


def test_a_form_may_be_split_at_every_offset(lasting_site: UploadSite) -> None:
    """The form is the same wherever it is cut into two reads."""
    for offset in range(len(BODY) + 1):
        identifier = lasting_site.identifier()
        stream = Stream([BODY[:offset], BODY[offset:]])
        assert_is_body(lasting_site, identifier, lasting_site.post(stream, identifier).json)


@pytest.mark.parametrize("step", [2, 3, 5, 7, 19, 21, 64])
def test_a_form_may_arrive_in_small_steps(lasting_site: UploadSite, step: int) -> None:
    """The form is the same in reads that cut each delimiter in several places."""
    identifier = lasting_site.identifier()
    answer = lasting_site.post(Stream(in_steps(BODY, step)), identifier)
    assert_is_body(lasting_site, identifier, answer.json)


def test_a_form_cut_at_every_offset_is_refused(lasting_site: UploadSite) -> None:
    """A truncated form makes the upload incomplete, and leaves only its status."""
    for offset in range(len(BODY) - 2):  # the CRLF at the very end is optional
        for stream, length in ((BODY[:offset], str(offset)), (Stream([BODY[:offset]]), str(len(BODY)))):
            identifier = lasting_site.identifier()
            answer = lasting_site.post(stream, identifier, CONTENT_LENGTH=length)
            assert answer.outcome == (400, "incomplete"), offset
            assert lasting_site.names(identifier) == (ONLY_STATUS if offset else NOTHING)
            assert lasting_site.status(identifier)["state"] == "error"


def test_a_chunked_form_cut_at_every_offset_is_refused(lasting_site: UploadSite) -> None:
    """Without a length the closing boundary is required, since some servers end a broken body without an error."""
    for offset in range(len(BODY) - 2):
        answer = lasting_site.post(Stream([BODY[:offset]]), SERVER_SOFTWARE="Granian")
        assert answer.outcome == (400, "incomplete"), offset


def test_a_chunked_form_is_complete_with_its_closing_boundary(site: UploadSite) -> None:
    """A chunked form is accepted on every server, since the closing boundary marks its end."""
    identifier = site.identifier()
    answer = site.post(Stream([BODY]), identifier, HTTP_TRANSFER_ENCODING="chunked", SERVER_SOFTWARE="Granian")
    assert_is_body(site, identifier, answer.json)


def test_the_app_gets_the_descriptor_in_place_of_the_form(site: UploadSite) -> None:
    """Method, type and length of the request match the descriptor, and the rest of the request is unchanged."""
    answer = site.post(BODY, HTTP_X_OTHER="kept", HTTP_EXPECT="100-continue", HTTP_COOKIE="a=b")
    environ = site.app_environ
    assert (answer.status, answer.headers["x-app"]) == (200, "yes")
    assert (environ["REQUEST_METHOD"], environ["CONTENT_TYPE"]) == ("POST", "application/json")
    assert environ["CONTENT_LENGTH"] == str(len(answer.body))
    assert (environ["HTTP_X_OTHER"], environ["HTTP_COOKIE"]) == ("kept", "a=b")
    assert "HTTP_EXPECT" not in environ
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_an_empty_file_with_a_name_is_kept(site: UploadSite) -> None:
    """An empty file with a name is kept."""
    identifier = site.identifier()
    assert site.post(form(file_part(b"", "empty.txt")), identifier).json["size"] == 0
    assert site.contents(identifier) == [b""]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [field_part("story", "A long story")],
        [field_part("story", "A long story"), file_part(b"", "", "picture", "application/octet-stream")],
        [file_part(b"", "", kind="application/octet-stream"), file_part(b"", "", kind="application/octet-stream")],
    ],
    ids=["no part", "a field", "a field and an empty file input", "empty file inputs"],
)
def test_a_form_without_a_file_reaches_the_app(site: UploadSite, parts: list[bytes]) -> None:
    """A form whose file may be left out is an upload without files: the app gets its fields."""
    identifier = site.identifier()
    found = site.post(form(*parts), identifier).json
    fields = {"story": ["A long story"]} if parts and b"story" in parts[0] else {}
    expected = {"state": "done", "files": [], "fields": fields, "filename": "", "content-type": "", "size": 0}
    assert {name: found[name] for name in expected} == expected
    assert (found["received"], "sha256" in found) == (0, False)
    assert {name: site.status(identifier)[name] for name in expected} == expected
    bucket = site.manager.access_upload_bucket(identifier)
    assert bucket is not None
    assert (bucket.is_complete(), bucket.files, bucket.get_filename()) == (True, (), None)
    with pytest.raises(FileMissing):
        bucket.open()
    with pytest.raises(FileMissing):
        bucket.move_to(site.directory / "elsewhere")
    assert not bucket.remove_file()
    assert site.post(form(*parts), identifier).outcome == (409, "already-done")
    assert bucket.clear_upload()
    assert site.status(identifier)["state"] == "unknown"


def test_a_download_of_an_upload_without_files(tmp_path: Path) -> None:
    """An upload without files has nothing to download."""
    site = UploadSite(tmp_path, downloads=True)
    identifier = site.identifier()
    site.post(form(field_part("a", "b")), identifier)
    assert site.send("GET", query=f"X-Progress-ID={identifier}").outcome == (404, "file-missing")


def test_an_upload_without_files_is_purged(site: UploadSite) -> None:
    """Age removes an upload without files as any other."""
    site.post(form(field_part("a", "b")), site.identifier())
    assert len(list(site.manager.pool.purge(0))) == 1
    assert list(site.manager.pool.buckets()) == []


def test_no_file_chosen_is_refused_where_a_file_is_required(tmp_path: Path) -> None:
    """With require_file, a form with only an empty file input is refused with "no file"."""
    site = UploadSite(tmp_path, require_file=True)
    identifier = site.identifier()
    empty = file_part(b"", "", kind="application/octet-stream")
    assert site.post(form(field_part("a", "b"), empty), identifier).outcome == (400, "no-file")
    assert site.names(identifier) == ONLY_STATUS


def test_an_empty_file_input_beside_a_chosen_file_is_dropped(site: UploadSite) -> None:
    """An empty file input before or after a chosen file is dropped."""
    empty = file_part(b"", "", "none", "application/octet-stream")
    for parts in ([empty, file_part("x")], [file_part("x"), empty], [empty, empty, file_part("x"), empty]):
        identifier = site.identifier()
        found = site.post(form(*parts), identifier).json
        assert [file["filename"] for file in found["files"]] == ["a.txt"]
        assert site.contents(identifier) == [b"x"]


def test_a_file_with_content_and_an_empty_name_is_kept(site: UploadSite) -> None:
    """``filename=""`` with content is kept, without a name."""
    identifier = site.identifier()
    assert site.post(form(file_part("x", "")), identifier).json["filename"] == ""
    assert site.contents(identifier) == [b"x"]


@pytest.mark.parametrize("body", [b"", form(), form(field_part("a", "b"))], ids=["nothing", "empty", "fields"])
def test_a_form_without_a_file_is_refused_where_one_is_required(tmp_path: Path, body: bytes) -> None:
    """With require_file, a form without parts, or with fields only, is refused."""
    site = UploadSite(tmp_path, require_file=True)
    assert site.post(body).outcome == (400, "no-file" if body else "incomplete")


@pytest.mark.parametrize(
    "name",
    [
        unicodedata.normalize("NFC", "Übergröße.txt"),
        unicodedata.normalize("NFD", "Übergröße.txt"),
        "\U0001f9d1\u200d\U0001f4bb \U0001f1eb\U0001f1ee.txt",
        "קובץ (1).txt",
        "ملف ١.txt",
        "文件 名.tar.gz",
        "it's 100% & <b>.txt",
        "a;b=c.txt",
        "semi; filename=x.txt",
        " leading and trailing ",
        "%2e%2e%2f.txt",
        ".hidden",
    ],
)
def test_names_are_kept_unchanged(site: UploadSite, name: str) -> None:
    """A Unicode name is neither normalized nor decoded, for files and for fields."""
    identifier = site.identifier()
    found = site.post(form(file_part("x", name, name), field_part(name, name)), identifier).json
    assert (found["filename"], found["files"][0]["field"], found["fields"]) == (name, name, {name: [name]})
    assert site.status(identifier)["filename"] == name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("say %22hi%22.txt", 'say "hi".txt'),  # Chromium, Firefox and Safari, by the HTML standard
        ("two%0D%0Alines.txt", "twolines.txt"),  # a line end is not part of a name
        ('say \\"hi\\".txt', 'say "hi".txt'),  # curl and older clients, by RFC 2183
        ("C:\\fakepath\\a.txt", "a.txt"),
        ("\\\\server\\share\\a.txt", "a.txt"),
        ("folder/a.txt", "a.txt"),
        ("tab\there\x7f\x01.txt", "tabhere.txt"),
    ],
)
def test_quoted_names_are_read_as_clients_write_them(site: UploadSite, sent: str, kept: str) -> None:
    """Percent-encoded and backslash-escaped quotes are decoded; folders and control characters are removed."""
    assert site.post(form(file_part("x", sent))).json["filename"] == kept


def test_a_preamble_and_an_epilogue_are_skipped(site: UploadSite) -> None:
    """Bytes before the first and after the last boundary are skipped (RFC 2046, 5.1.1)."""
    identifier = site.identifier()
    body = b"This is a message in MIME format.\r\n" + BODY + b"and an end\r\n--" + BOUNDARY.encode() + b"\r\n"
    assert_is_body(site, identifier, site.post(Stream(in_steps(body, 50)), identifier).json)


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "gzip", "binary", "x-unknown"])
def test_a_transfer_encoding_is_never_decoded(site: UploadSite, coding: str) -> None:
    """Bytes with a Content-Transfer-Encoding, deprecated in forms (RFC 7578, 4.7), are kept undecoded."""
    identifier = site.identifier()
    headers = f'Content-Disposition: form-data; name="f"; filename="a"\nContent-Transfer-Encoding: {coding}'
    assert site.post(form(part(headers, "aGVsbG8=3D")), identifier).status == 200
    assert site.contents(identifier) == [b"aGVsbG8=3D"]


def test_a_nested_multipart_is_stored_as_it_is(site: UploadSite) -> None:
    """A nested multipart/mixed, deprecated in forms (RFC 7578, 4.3), is stored without being parsed."""
    inner = form(part("Content-Disposition: file; filename=a.txt", "x"), boundary="inner")
    identifier = site.identifier()
    body = form(file_part(inner, "files.bin", kind="multipart/mixed; boundary=inner"))
    assert site.post(body, identifier).json["content-type"] == "multipart/mixed"
    assert site.contents(identifier) == [inner]


@pytest.mark.parametrize("checksum", ["sha256", "none"])
def test_each_file_has_its_own_checksum(tmp_path: Path, checksum: str) -> None:
    """Depending on the setting, each file has a digest of its own bytes, or no file has one."""
    site = UploadSite(tmp_path, checksum=checksum)
    found = site.post(form(file_part("a"), file_part(""))).json
    digests = [file.get("sha256", "")[:8] for file in found["files"]]
    assert digests == (["ca978112", "e3b0c442"] if checksum == "sha256" else ["", ""])
    assert ("sha256" in found) is (checksum == "sha256")


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (None, (415, "unsupported-request")),
        ("text/plain", (415, "unsupported-request")),
        ("application/x-www-form-urlencoded", (415, "unsupported-request")),
        ("multipart/mixed; boundary=x", (415, "unsupported-request")),
        ("multipart/form-data", (400, "malformed-form")),
        ("multipart/form-data; boundary=", (400, "malformed-form")),
        ("multipart/form-data; boundary=a; boundary=b", (415, "unsupported-request")),
        ('multipart/form-data; boundary="a', (415, "unsupported-request")),
        (f"multipart/form-data; boundary={'b' * 71}", (400, "malformed-form")),
        ('multipart/form-data; boundary="ends with a space "', (400, "malformed-form")),
        ('multipart/form-data; boundary="a\\\r\\\nb"', (400, "malformed-form")),
        ("multipart/form-data; boundary=ä", (400, "malformed-form")),
    ],
)
def test_a_type_that_is_no_form_is_refused_unread(site: UploadSite, kind: str | None, outcome: tuple[int, str]) -> None:
    """A wrong type, or an invalid boundary by RFC 2046, is refused before the body is parsed."""
    identifier = site.identifier()
    assert site.post(BODY, identifier, kind).outcome == outcome
    assert site.names(identifier) == NOTHING
    assert site.status(identifier)["code"] == outcome[1]


@pytest.mark.parametrize("boundary", ["b" * 70, "1", "a b", "'()+_,-./:=?", "----=_Part_1_2.3"])
def test_every_boundary_of_the_standard_is_taken(site: UploadSite, boundary: str) -> None:
    """A boundary of 1 to 70 characters of RFC 2046 is accepted, quoted or not."""
    body = form(file_part("x"), boundary=boundary)
    assert site.post(body, kind=f'multipart/form-data; boundary="{boundary}"').status == 200
    if not set(boundary) & set(" "):
        assert site.post(body, kind=f"Multipart/Form-Data;boundary={boundary};charset=utf-8").status == 200


def test_the_tests_use_the_form_type_of_browsers() -> None:
    """The content type of the tests' own requests is one that browsers send."""
    assert FORM_TYPE.startswith("multipart/form-data; boundary=----")
