"""The headers of parts: parsed without ambiguity, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wsgi_client import ONLY_STATUS, Stream, UploadSite, field_part, file_part, form, in_steps, part


def disposition(value: str, data: bytes = b"x") -> bytes:
    return form(f"Content-Disposition: {value}\r\n\r\n".encode() + data)


@pytest.mark.parametrize(
    "value",
    [
        'form-data; name="a"; name="b"; filename="x"',
        'form-data; name="a"; NAME="b"; filename="x"',
        'form-data; name="a"; filename="x"; filename="y"',
        'form-data; name="a"; filename="x"; filename=y',
        "form-data; name=\"a\"; filename=\"x\"; filename*=UTF-8''y; filename*=UTF-8''z",
        "form-data; filename=x; name=a; filename=x",
    ],
)
def test_a_parameter_that_stands_twice_is_refused(site: UploadSite, value: str) -> None:
    """A repeated parameter is refused, since parsers differ in the value they use."""
    identifier = site.identifier()
    assert site.post(disposition(value), identifier).outcome == (400, "malformed-form")
    assert site.names(identifier) == ONLY_STATUS


@pytest.mark.parametrize(
    ("value", "filename"),
    [
        ('form-data; name="a"; filename="x.txt"; filename*=UTF-8\'\'evil.php', "x.txt"),
        ('form-data; name="a"; filename*=UTF-8\'\'evil.php; filename="x.txt"', "x.txt"),
        ('form-data; name="a"; filename="x.txt"; filename*="UTF-8\'\'evil.php"', "x.txt"),
        ("form-data; filename*=iso-8859-1'en'%A3; filename=x.txt; name=a", "x.txt"),
    ],
)
def test_an_extended_filename_has_no_meaning(site: UploadSite, value: str, filename: str) -> None:
    """The parameter ``filename*`` is ignored, since forms must not use it (RFC 7578, 4.2)."""
    assert site.post(disposition(value)).json["filename"] == filename


def test_an_extended_filename_alone_makes_no_file(site: UploadSite) -> None:
    """A part with only ``filename*`` is a text field, so this form has no file."""
    assert site.post(disposition("form-data; name=a; filename*=UTF-8''x.php")).outcome == (400, "no-file")


@pytest.mark.parametrize(
    "value",
    [
        'form-data; name="a"; x*="; filename=evil.php"',
        'form-data; name="a"; filename*="; filename=evil.php"',
        'form-data; x*="; name=admin; filename=evil.php"',
        'form-data; name="a"; filename="x"; x*="; name=admin"',
        'form-data; name="a"; filename="x"; x*="\\"; name=admin; y=\\""',
        'form-data; name="a"; filename="x";\tx="; name=admin"',
        'form-data; name="a"; filename="x"; x="\\\n; name=admin"',
        'Form-Data; name="a\\"; filename="x"',
        'form-data; name="a"; filename=two words.txt',
        'form-data; name="a"; filename=report(1).pdf',
        'form-data; name="a"; filename=übung.txt',
        'form-data; name="a"; filename=a"b".txt',
        'form-data; name="a"; filename="x.txt" trailing',
        'form-data; name="a"; filename="x.txt',
        'form-data; name="a";; filename="x.txt"',
        'form-data; name="a" filename="x.txt"',
        'form-data; name="a"; filename',
        'form-data; name="a",filename="x.txt"',
        "form-data\tname=a; filename=x",
        'form-data;\tname="a";\tfilename="x.txt"',
    ],
)
def test_a_disposition_that_can_be_read_in_two_ways_is_refused(site: UploadSite, value: str) -> None:
    """A disposition that another parser may read as another name or kind of part is refused."""
    assert site.post(disposition(value)).outcome == (400, "malformed-form")


@pytest.mark.parametrize(
    ("value", "field", "filename"),
    [
        ("form-data; name=a; filename=x.txt", "a", "x.txt"),
        ('form-data; filename="x.txt"; name="a"', "a", "x.txt"),
        ('Form-Data; Name="a"; FileName="x.txt"', "a", "x.txt"),
        ('form-data;name="a";filename="x.txt"', "a", "x.txt"),
        ('form-data ; name = "a" ; filename = "x.txt" ;', "a", "x.txt"),
        ('form-data; name="a"; filename="x.txt"; size=1; x-more="; filename=y"', "a", "x.txt"),
        ('form-data; name="a"; filename="x;y=\\"z\\".txt"', "a", 'x;y="z".txt'),
    ],
)
def test_every_spelling_of_the_grammar_is_read(site: UploadSite, value: str, field: str, filename: str) -> None:
    """Tokens, quoted strings, any order and unknown parameters are accepted."""
    found = site.post(disposition(value)).json["files"][0]
    assert (found["field"], found["filename"]) == (field, filename)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Type: text/plain",
        "Content-Disposition:",
        "Content-Disposition: attachment; name=a; filename=x",
        "Content-Disposition: file; filename=x",
        "Content-Disposition: form-data",
        'Content-Disposition: form-data; filename="x"',
        'Content-Disposition: form-data; name=""; filename="x"',
        'Content-Disposition: form-data; name="a"; filename="x"\nContent-Disposition: form-data; name="b"',
        'Content-Disposition: form-data; name="a"; filename="x"\ncontent-disposition: form-data; name="b"',
        'Content-Disposition: form-data; name="a"; filename="x"\nno colon in this',
        'Content-Disposition: form-data; name="a"; filename="x"\nBad Name: 1',
        'Content-Disposition: form-data; name="a"; filename="x"\n: empty',
        'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: 5',
        'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: -1',
        'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: 1\nContent-Length: 1',
        'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: ' + "9" * 4000,
    ],
)
def test_headers_that_make_no_part_are_refused(site: UploadSite, headers: str) -> None:
    """A part needs one disposition with a name; its other headers must be correct."""
    assert site.post(form(part(headers, "x"))).outcome == (400, "malformed-form")


@pytest.mark.parametrize("step", [1000, 4096])
def test_a_large_file_part_may_have_a_length_of_its_own(site: UploadSite, step: int) -> None:
    """A file part with a correct Content-Length is stored, even if it comes in many chunks."""
    data = b"0123456789" * 5000
    sent = part(f'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: {len(data)}', data)
    identifier = site.identifier()
    answer = site.post(Stream(in_steps(form(field_part("b", "c"), sent, file_part("d")), step)), identifier)
    assert [file["size"] for file in answer.json["files"]] == [len(data), 1]
    assert site.contents(identifier) == [data, b"d"]


@pytest.mark.parametrize("declared", [0, 49_999, 50_001])
def test_a_large_file_part_of_another_length_than_it_says_is_refused(site: UploadSite, declared: int) -> None:
    """A file part with a wrong Content-Length is refused, even if it comes in many chunks."""
    sent = part(f'Content-Disposition: form-data; name="a"; filename="x"\nContent-Length: {declared}', bytes(50_000))
    identifier = site.identifier()
    assert site.post(Stream(in_steps(form(sent), 1000)), identifier).outcome == (400, "malformed-form")
    assert site.names(identifier) == ONLY_STATUS


@pytest.mark.parametrize(
    "body",
    [
        b'------gap5\nContent-Disposition: form-data; name="a"; filename="x"\n\nx\n------gap5--\n',
        b'------gap5\r\nContent-Disposition: form-data; name="a"; filename="x"\n\r\nx\r\n------gap5--\r\n',
        b'------gap5\r\nContent-Disposition: form-data; name="a"; filename="\xff\xfe"\r\n\r\nx\r\n------gap5--\r\n',
        b'------gap5 x\r\nContent-Disposition: form-data; name="a"; filename="x"\r\n\r\nx\r\n------gap5--\r\n',
        b'x------gap5\r\nContent-Disposition: form-data; name="a"; filename="x"\r\n\r\nx\r\n------gap5--\r\n',
        b'------gap5\r\nContent-Disposition: form-data; name="a"; filename="x"\r\n\r\nx\r\n------gap5-\r\n',
    ],
    ids=["LF", "mixed", "no UTF-8", "behind boundary", "before boundary", "one hyphen"],
)
def test_bytes_that_are_no_form_are_refused(site: UploadSite, body: bytes) -> None:
    """Bare line feeds, names that are not UTF-8, and malformed boundaries are refused."""
    assert site.post(body).outcome == (400, "malformed-form")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_a_text_field_may_say_that_it_is_utf_8(site: UploadSite, charset: str) -> None:
    """A text field may declare the charset UTF-8."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, "x"), file_part("y"))).json["fields"] == {"a": ["x"]}


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "iso-2022-jp", "windows-1252", "idna", "rot13", "zlib", "x"])
def test_an_odd_charset_is_refused(site: UploadSite, charset: str) -> None:
    """Text in another charset is refused, and no codec is looked up by a name from the client."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, "x"), file_part("y"))).outcome == (400, "malformed-form")


@pytest.mark.parametrize("charset", ["ISO-8859-1", "latin1"])
def test_a_text_field_may_be_latin_1(site: UploadSite, charset: str) -> None:
    """A field in Latin-1 is accepted, since Apache HttpClient 4 sends it by default."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, b"\xe4"), file_part("y"))).json["fields"] == {"a": ["ä"]}


def test_a_charset_field_changes_nothing(site: UploadSite) -> None:
    """A ``_charset_`` field (RFC 7578, 4.6) has no effect; text that is not UTF-8 is refused."""
    body = form(field_part("_charset_", "iso-8859-1"), field_part("a", b"\xe4"), file_part("x"))
    assert site.post(body).outcome == (400, "malformed-form")


def test_the_charset_of_a_file_is_left_to_the_app(site: UploadSite) -> None:
    """A file in another charset is stored byte by byte."""
    identifier = site.identifier()
    body = form(file_part(b"\xe4\xff", kind="text/plain; charset=iso-8859-1"))
    assert site.post(body, identifier).json["content-type"] == "text/plain"
    assert site.contents(identifier) == [b"\xe4\xff"]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("IMAGE/PNG", "image/png"),
        ("text/html; charset=x", "text/html"),
        ("nonsense", "application/pdf"),
        ("text/html, image/png", "application/pdf"),
        ("text/" + "x" * 300, "application/pdf"),
        ("", "application/pdf"),
    ],
)
def test_the_type_is_the_clients_or_by_the_name(site: UploadSite, kind: str, kept: str) -> None:
    """An invalid Content-Type is replaced by the type of the extension."""
    assert site.post(form(file_part("x", "a.pdf", kind=kind))).json["content-type"] == kept


HEADERS = 'Content-Disposition: form-data; name="a"; filename="x"'


@pytest.mark.parametrize("step", [None, 1])
def test_the_number_of_headers_is_limited(tmp_path: Path, step: int | None) -> None:
    """A part with ``max_headers`` headers is accepted, and one more is refused, in one read and byte by byte."""
    site = UploadSite(tmp_path, max_headers=3)
    for count, outcome in ((3, (200, None)), (4, (413, "limit-exceeded"))):
        body = form(part("\n".join([HEADERS, *(f"X-{n}: 1" for n in range(count - 1))]), "x"))
        assert site.post(Stream(in_steps(body, step or len(body)))).outcome == outcome


@pytest.mark.parametrize("step", [None, 1])
def test_the_length_of_a_header_is_limited(tmp_path: Path, step: int | None) -> None:
    """A line of ``max_header_size`` bytes is accepted; a longer line, or one without an end, is refused."""
    site = UploadSite(tmp_path, max_header_size=100)
    longest = 100 if step is None else 99  # the parser counts the CR if the LF comes in another read
    for size, outcome in ((longest, (200, None)), (101, (413, "limit-exceeded"))):
        body = form(part(HEADERS + "\nX-A: " + "a" * (size - 5), "x"))
        assert site.post(Stream(in_steps(body, step or len(body)))).outcome == outcome
    endless = form(part(HEADERS + "\nX-A: " + "a" * 5000, "x"))[:-20]
    assert site.post(Stream(in_steps(endless, step or len(endless)))).outcome == (413, "limit-exceeded")


def test_a_folded_header_is_limited_as_one(tmp_path: Path) -> None:
    """The lines of a folded header count together, however short each is."""
    site = UploadSite(tmp_path, max_header_size=100)
    folded = b"------gap5\r\n" + HEADERS.encode() + b"\r\nX-A: 1\r\n" + b" 1\r\n" * 200 + b"\r\nx\r\n------gap5--\r\n"
    assert site.post(folded).outcome == (413, "limit-exceeded")
