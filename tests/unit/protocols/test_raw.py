"""Plain bodies: the whole body is the file, and the request gives its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.wsgi_client import NOTHING, ONLY_STATUS, Stream, UploadSite, in_steps

CONTENT = bytes(range(256)) + b"\r\n--x--\r\n"


def test_a_plain_body_is_stored_unchanged(site: UploadSite) -> None:
    """Every byte is kept, and the app gets a POST with the descriptor."""
    identifier = site.identifier()
    found = site.put(CONTENT, identifier, "disc.iso").json
    assert (found["state"], found["size"], found["fields"]) == ("done", len(CONTENT), {})
    file = found["files"][0]
    assert (file["field"], file["filename"]) == ("", "disc.iso")
    assert site.contents(identifier) == [CONTENT]
    assert site.app_environ["REQUEST_METHOD"] == "POST"
    assert site.app_environ["fileupload.request_method"] == "PUT"
    assert "HTTP_CONTENT_DISPOSITION" not in site.app_environ


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_a_body_may_arrive_in_any_steps(site: UploadSite, step: int, declared: bool) -> None:
    """The file is the same for any reads, with a length or chunked."""
    identifier = site.identifier()
    length = str(len(CONTENT)) if declared else None
    assert site.put(Stream(in_steps(CONTENT, step)), identifier, CONTENT_LENGTH=length).status == 200
    assert site.contents(identifier) == [CONTENT]


@pytest.mark.parametrize("length", ["0", None])
def test_an_empty_body_is_an_empty_file(site: UploadSite, length: str | None) -> None:
    """An empty body is an empty file, since the request as such names it."""
    identifier = site.identifier()
    assert site.put(Stream([]), identifier, CONTENT_LENGTH=length).json["size"] == 0
    assert site.contents(identifier) == [b""]


def test_a_body_cut_at_every_offset_is_incomplete(lasting_site: UploadSite) -> None:
    """A body shorter than its declared length is refused as incomplete."""
    for offset in range(len(CONTENT)):
        identifier = lasting_site.identifier()
        answer = lasting_site.put(Stream([CONTENT[:offset]]), identifier, CONTENT_LENGTH=str(len(CONTENT)))
        assert answer.outcome == (400, "incomplete")
        assert lasting_site.names(identifier) == (ONLY_STATUS if offset else NOTHING)


@pytest.mark.parametrize("server", ["Granian", "uWSGI", "WSGIServer/0.2", ""])
def test_a_chunked_body_needs_a_server_that_detects_its_end(site: UploadSite, server: str) -> None:
    """If the server cannot tell a broken connection from the end, a body without a length is refused."""
    answer = site.put(Stream([CONTENT]), SERVER_SOFTWARE=server)
    assert answer.outcome == (411, "length-required")
    assert site.put(CONTENT, SERVER_SOFTWARE=server).status == 200


def test_a_broken_chunked_body_is_incomplete(site: UploadSite) -> None:
    """A read error from the server makes the upload incomplete."""

    def pieces() -> Iterator[bytes]:
        yield CONTENT
        raise OSError("the client is gone")

    identifier = site.identifier()
    assert site.put(Stream(pieces()), identifier).outcome == (400, "incomplete")
    assert site.names(identifier) == ONLY_STATUS


@pytest.mark.parametrize("value", ["bytes 0-9/100", "bytes 0-99/100", "nonsense", ""])
def test_a_part_of_a_file_is_refused(site: UploadSite, value: str) -> None:
    """A PUT with Content-Range is refused, since it must not be stored as the whole file (RFC 9110, 14.5)."""
    identifier = site.identifier()
    assert site.put(CONTENT, identifier, HTTP_CONTENT_RANGE=value).outcome == (415, "unsupported-request")
    assert site.names(identifier) == NOTHING


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, identity"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_compressed_body_is_refused(site: UploadSite, coding: str, method: str) -> None:
    """An encoded body is refused with 415, and never decompressed."""
    send = site.put if method == "PUT" else site.post
    assert send(CONTENT, HTTP_CONTENT_ENCODING=coding).outcome == (415, "unsupported-request")


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ('attachment; filename="say \\"hi\\".txt"', 'say "hi".txt'),
        ("attachment; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt", "naïve €.txt"),
        ("attachment; filename=plain.txt; filename*=utf-8'en'%C3%A4.txt", "ä.txt"),
        ("attachment; filename*=ISO-8859-1''%E4.txt; filename=x", "ä.txt"),
        ('attachment; filename="ä.txt"'.encode().decode("latin-1"), "ä.txt"),
        ('inline; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%00", "passwd"),
        ("attachment; filename*=UTF-8''C%3A%5Cx%5Ca.txt", "a.txt"),
        ("attachment; filename*=UTF-8''%FF.txt", "\ufffd.txt"),
        # encodeURIComponent leaves these characters as they are.
        ("attachment; filename=\"x.pdf\"; filename*=UTF-8''report%20(1).pdf", "report (1).pdf"),
        ("attachment; filename*=UTF-8''it's!~*.pdf", "it's!~*.pdf"),
        ("attachment; filename*=\"UTF-8''na%C3%AFve.txt\"", "naïve.txt"),
        # An extended name that cannot be read is ignored beside a good one (RFC 6266, 4.3).
        ("attachment; filename=good.txt; filename*=utf-7''a", "good.txt"),
        ("attachment; filename=good.txt; filename*=UTF-8''%FF.txt", "good.txt"),
        ("attachment; filename=good.txt; filename*=nonsense", "good.txt"),
        ("attachment; filename*=utf-16''a; filename=good.txt", "good.txt"),
        # .NET writes encoded words (RFC 2047).
        ('attachment; filename="=?utf-8?B?w7xidW5nLnR4dA==?="', "übung.txt"),
        ("attachment; filename==?utf-8?B?w6kudHh0?=; filename*=utf-8''%C3%A9.txt", "é.txt"),
        ('attachment; filename="=?utf-8?B?Li4vLi4vZXRjL3Bhc3N3ZA==?="', "passwd"),
    ],
)
def test_the_filename_is_read_from_content_disposition(site: UploadSite, header: str, filename: str) -> None:
    """The name is parsed by RFC 6266 and RFC 8187, precedes the one in the query, and is never a path."""
    assert site.put(b"x", filename="query.txt", HTTP_CONTENT_DISPOSITION=header).json["filename"] == filename


@pytest.mark.parametrize(
    "header",
    [
        'attachment; filename="a"; filename="b"',
        "attachment; filename*=utf-7''a",
        "attachment; filename*=UTF-8''a b",
        'attachment; filename*="a"',
        "attachment; filename=a b",
        'attachment; filename="a',
    ],
)
def test_a_content_disposition_that_cannot_be_read_is_refused(site: UploadSite, header: str) -> None:
    """A file name that other parsers may read differently is refused."""
    assert site.put(b"x", HTTP_CONTENT_DISPOSITION=header).outcome == (415, "unsupported-request")


@pytest.mark.parametrize("name", ["ä ö.txt", "\U0001f4be.bin", "a+b&c=d.txt", "קובץ.txt", 'quo"te.txt', "100%.txt"])
def test_the_filename_is_read_from_the_query(site: UploadSite, name: str) -> None:
    """The query parameter ``filename=`` is percent-encoded UTF-8."""
    query = f"X-Progress-ID={site.identifier()}&filename={quote(name, safe='')}"
    assert site.send("PUT", query=query, body=b"x").json["filename"] == name


@pytest.mark.parametrize("encoded", ["%FF%FE", "..%2F..%2Fx", "a%00b", "%ED%A0%80", "a%0D%0Ab", "%"])
def test_the_filename_in_the_query_is_cleaned(site: UploadSite, encoded: str) -> None:
    """Bytes that are not UTF-8, folders and control characters are removed from the name."""
    query = f"X-Progress-ID={site.identifier()}&filename={encoded}"
    name = site.send("PUT", query=query, body=b"x").json["filename"]
    assert not set(name) & set("/\\\0\r\n")


def test_a_body_needs_no_name(site: UploadSite) -> None:
    """A file without a name is accepted."""
    assert site.put(b"x", filename="").json["filename"] == ""


@pytest.mark.parametrize(
    ("given", "name", "kept"),
    [
        ("IMAGE/PNG", "a.txt", "image/png"),
        ("text/html; charset=utf-8", "a.txt", "text/html"),
        (None, "a.pdf", "application/pdf"),
        ("not a type", "a.pdf", "application/pdf"),
        (None, "a.unheard-of", "application/octet-stream"),
        ("application/octet-stream", "a.pdf", "application/pdf"),
        ("Application/Octet-Stream; charset=binary", "IMG_1.HEIC", "image/heic"),
        ("application/octet-stream", "a.unheard-of", "application/octet-stream"),
        ("application/octet-stream", "", "application/octet-stream"),
    ],
)
def test_the_type_is_the_content_type_or_that_of_the_extension(
    site: UploadSite, given: str | None, name: str, kept: str
) -> None:
    """The type is the client's Content-Type, or that of the name's extension."""
    assert site.put(b"x", filename=name, CONTENT_TYPE=given).json["content-type"] == kept


@pytest.mark.parametrize("settings", [{"extensions": "pdf"}, {"content_types": "application/pdf"}])
def test_a_missing_name_does_not_bypass_the_allowed_types(tmp_path: Path, settings: dict[str, str]) -> None:
    """A missing name, or one that is empty after cleaning, does not bypass the allowed types."""
    site = UploadSite(tmp_path, **settings)
    for name in ("", "..", "/"):
        assert site.put(b"x", filename=name).outcome == (415, "type-not-allowed")


def test_a_request_without_an_identifier_reaches_the_app(site: UploadSite) -> None:
    """A request without an identifier reaches the app unread and unchanged."""
    stream = Stream([b"x"])
    assert site.send("PUT", body=stream).body == b"{}"
    assert stream.asked == []
    assert "fileupload.bucket" not in site.app_environ


def test_other_methods_reach_the_app(site: UploadSite) -> None:
    """Requests with methods other than POST and PUT reach the app."""
    for method in ("GET", "HEAD", "PATCH", "DELETE", "OPTIONS"):
        query = f"X-Progress-ID={site.identifier()}"
        assert site.send(method, query=query, body=b"x").headers["x-app"] == "yes"


def test_the_identifier_may_come_in_a_header(site: UploadSite) -> None:
    """The header ``X-Progress-ID`` serves clients that cannot change the URL."""
    identifier = site.identifier()
    assert site.send("PUT", body=b"x", HTTP_X_PROGRESS_ID=identifier).json["identifier"] == identifier


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("application/x-www-form-urlencoded", "image/png"),
        ("Application/X-WWW-Form-URLencoded; charset=UTF-8", "image/png"),
        ("application/x-www-form-urlencoded-else", "application/x-www-form-urlencoded-else"),
    ],
)
def test_generic_default_types_are_ignored(site: UploadSite, given: str, kept: str) -> None:
    """Generic default types of clients are ignored in any spelling; types with the same prefix are not."""
    assert site.put(b"x", filename="a.png", CONTENT_TYPE=given).json["content-type"] == kept


def test_a_declared_length_over_the_limit_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """A body whose Content-Length is more than max_file_size is refused before its first byte is received."""
    site = UploadSite(tmp_path, max_file_size="1K")
    identifier = site.identifier()
    assert site.put(b"x" * 1025, identifier).outcome == (413, "too-large")
    assert site.status(identifier)["received"] == 0
    assert site.put(b"x" * 1024, identifier).status == 200
