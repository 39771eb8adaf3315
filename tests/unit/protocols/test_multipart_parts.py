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
def test_an_extended_filename_is_ignored(site: UploadSite, value: str, filename: str) -> None:
    """The parameter ``filename*`` is ignored, since forms must not use it (RFC 7578, 4.2)."""
    assert site.post(disposition(value)).json["filename"] == filename


@pytest.mark.parametrize(
    ("value", "field", "filename"),
    [
        ("form-data; name=a; filename*=UTF-8''x.txt", "a", "x.txt"),
        ("form-data; name=\"a\"; filename*=utf-8''%C3%A9.txt", "a", "é.txt"),
        ("form-data; filename*=iso-8859-1'fr'%E9.txt; name=a", "a", "é.txt"),
        ("form-data; name=a; filename*=UTF-8''it's%20(1).txt", "a", "it's (1).txt"),
        ("form-data; name=a; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "a", "passwd"),
        ("form-data; name*=utf-8''n%C3%A4me; filename=\"x.txt\"", "näme", "x.txt"),
        ("form-data; name*=utf-8''n%C3%A4me; filename*=utf-8''%C3%A9", "näme", "é"),
        ('form-data; name="f"; filename="test(1).txt"; filename*=utf-8\'\'test(1).txt', "f", "test(1).txt"),
    ],
)
def test_a_name_that_is_given_in_the_extended_form_only(
    site: UploadSite, value: str, field: str, filename: str
) -> None:
    """Without ``filename``, ``filename*`` is the name of a file; it can be read in one way (urllib3 before 1.25)."""
    found = site.post(disposition(value)).json["files"][0]
    assert (found["field"], found["filename"]) == (field, filename)


@pytest.mark.parametrize(
    "value", ["utf-7''a", "UTF-8''%FF", "UTF-8'a", "a", "utf-16''a%00", "UTF-8''"], ids=lambda value: value
)
def test_an_extended_filename_that_cannot_be_read_is_refused(site: UploadSite, value: str) -> None:
    """A file whose only name cannot be read is refused, with a sentence that says what to send."""
    answer = site.post(disposition(f"form-data; name=a; filename*={value}"))
    if value == "UTF-8''":  # readable, and empty
        assert answer.json["filename"] == ""
    else:
        assert answer.outcome == (400, "malformed-form")
        assert "filename*" in answer.json["detail"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("=?utf-8?B?w6kudHh0?=", "é.txt"),
        ("=?UTF-8?q?na=C3=AFve_1.txt?=", "naïve 1.txt"),
        ("=?utf-8*fr?B?w6kudHh0?=", "é.txt"),
        ("=?utf-8?B?w6k=?= =?utf-8?B?LnR4dA==?=", "é.txt"),
        ("=?utf-8?B?w?= =?utf-8?B?6kudHh0?=", "=?utf-8?B?w?= =?utf-8?B?6kudHh0?="),
        ("=?utf-8?Q?=C3?= =?utf-8?Q?=A9.txt?=", "é.txt"),  # a character that is split
        ("=?iso-8859-1?Q?=E9.txt?=", "é.txt"),
        ("=?windows-1251?B?8+8udHh0?=", "уп.txt"),
        ("=?gbk?B?1tAudHh0?= =?utf-8?B?w6k=?=", "中.txté"),
        ("=?utf-8?B?Li4vZXZpbC5waHA=?=", "evil.php"),
        # Not encoded words, or not readable: names like any other.
        ("=?utf-8?B?!!!?=", "=?utf-8?B?!!!?="),
        ("=?utf-8?B?/w==?=", "=?utf-8?B?/w==?=".rpartition("/")[2]),
        ("=?utf-7?Q?a?=", "=?utf-7?Q?a?="),
        ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
        ("a =?utf-8?Q?b?=", "a =?utf-8?Q?b?="),
        ("=?utf-8?Q?b?=.txt", "=?utf-8?Q?b?=.txt"),
        ("=?", "=?"),
    ],
)
def test_encoded_words_are_decoded(site: UploadSite, sent: str, kept: str) -> None:
    """A name of encoded words (RFC 2047), as .NET writes it, is decoded; any other name is kept."""
    assert site.post(form(file_part("x", sent))).json["filename"] == kept


def test_an_encoded_word_does_not_bypass_the_extensions(tmp_path: Path) -> None:
    """The rules for names hold for the decoded name."""
    site = UploadSite(tmp_path, extensions="txt")
    assert site.post(form(file_part("x", "=?utf-8?B?ZXZpbC5waHA=?="))).outcome == (415, "type-not-allowed")
    assert site.post(form(file_part("x", "=?utf-8?B?w6kudHh0?="))).status == 200


def test_the_name_of_a_field_in_encoded_words(site: UploadSite) -> None:
    """.NET encodes the names of fields, too."""
    body = form(field_part("=?utf-8?B?w7xidW5n?=", "y"), file_part("x", name="=?utf-8?B?w6k=?="))
    found = site.post(body).json
    assert (found["fields"], found["files"][0]["field"]) == ({"übung": ["y"]}, "é")


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
def test_an_ambiguous_disposition_is_refused(site: UploadSite, value: str) -> None:
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
def test_every_valid_disposition_is_accepted(site: UploadSite, value: str, field: str, filename: str) -> None:
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
def test_a_large_file_part_with_a_wrong_content_length_is_refused(site: UploadSite, declared: int) -> None:
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
def test_a_text_field_may_declare_utf_8(site: UploadSite, charset: str) -> None:
    """A text field may declare the charset UTF-8."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, "x"), file_part("y"))).json["fields"] == {"a": ["x"]}


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "iso-2022-jp", "windows-1252", "idna", "rot13", "zlib", "x"])
def test_an_unsupported_charset_is_refused(site: UploadSite, charset: str) -> None:
    """Text in another charset is refused, and no codec is looked up by a name from the client."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, "x"), file_part("y"))).outcome == (400, "malformed-form")


@pytest.mark.parametrize("charset", ["ISO-8859-1", "latin1"])
def test_a_text_field_may_be_latin_1(site: UploadSite, charset: str) -> None:
    """A field in Latin-1 is accepted, since Apache HttpClient 4 sends it by default."""
    headers = f'Content-Disposition: form-data; name="a"\nContent-Type: text/plain; charset={charset}'
    assert site.post(form(part(headers, b"\xe4"), file_part("y"))).json["fields"] == {"a": ["ä"]}


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("iso-8859-1", "latin-1", "Grüße"),
        ("ISO-8859-1", "cp1252", "5 €"),  # browsers mean windows-1252
        ("windows-1252", "cp1252", "„naïve“"),
        ("latin-1", "latin-1", "é"),
        ("gbk", "gbk", "文件"),
        ("GB2312", "gb2312", "文件"),
        ("Big5", "big5", "檔案"),
        ("Shift_JIS", "shift_jis", "表ファイル"),  # its second byte is a backslash in ASCII
        ("EUC-JP", "euc-jp", "ファイル"),
        ("EUC-KR", "euc-kr", "파일"),
        ("windows-1251", "cp1251", "файл"),
        ("KOI8-R", "koi8-r", "файл"),
        ("iso-8859-15", "iso8859-15", "5 €"),
        ("utf-8", "utf-8", "Ä"),
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_a_form_in_the_charset_of_its_page(
    site: UploadSite, charset: str, codec: str, text: str, step: int | None
) -> None:
    """A ``_charset_`` field that comes first (RFC 7578, 4.6) decides how names and texts are read."""
    raw = text.encode(codec)
    file = b'Content-Disposition: form-data; name="f' + raw + b'"; filename="' + raw + b'.txt"\r\n\r\nx'
    named = b'Content-Disposition: form-data; name="' + raw + b'"\r\n\r\n' + raw
    body = form(field_part("_charset_", charset), named, file)
    identifier = site.identifier()
    found = site.post(Stream(in_steps(body, step or len(body))), identifier).json
    assert found["fields"] == {"_charset_": [charset], text: [text]}
    assert (found["files"][0]["field"], found["filename"]) == (f"f{text}", f"{text}.txt")
    assert site.status(identifier)["fields"] == found["fields"]


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "iso-2022-jp", "hz", "idna", "rot13", "x" * 5000, "\0", "ü"])
def test_a_charset_field_with_an_odd_charset_is_refused(site: UploadSite, charset: str) -> None:
    """A charset that others read in another way, or that is unknown, is refused by a short sentence that names it."""
    identifier = site.identifier()
    answer = site.post(form(field_part("_charset_", charset), file_part("x")), identifier)
    assert answer.outcome == (400, "malformed-form")
    assert "_charset_" in answer.json["detail"]
    assert len(answer.json["detail"]) < 400
    assert site.names(identifier) == ONLY_STATUS


def test_a_charset_field_that_does_not_come_first_changes_nothing(site: UploadSite) -> None:
    """Parts before it were read as UTF-8, so those after it are, too; an empty one names nothing."""
    late = form(field_part("b", "c"), field_part("_charset_", "iso-8859-1"), field_part("a", b"\xe4"), file_part("x"))
    assert site.post(late).outcome == (400, "malformed-form")
    plain = form(file_part("x"), field_part("_charset_", "iso-8859-1"), field_part("a", "ä"))
    assert site.post(plain).json["fields"] == {"_charset_": ["iso-8859-1"], "a": ["ä"]}
    assert site.post(form(field_part("_charset_", ""), field_part("a", "ä"))).json["fields"]["a"] == ["ä"]


@pytest.mark.parametrize("where", ["filename", "name", "text", "text that is not in its charset"])
def test_a_form_that_is_not_in_utf_8_is_refused_in_words(site: UploadSite, where: str) -> None:
    """The sentence says what is not in UTF-8, and what the author of the page can do."""
    parts = {
        "filename": [b'Content-Disposition: form-data; name="f"; filename="\xe9.txt"\r\n\r\nx'],
        "name": [b'Content-Disposition: form-data; name="\xe9"\r\n\r\nx'],
        "text": [field_part("t", b"\xe9")],
        "text that is not in its charset": [field_part("_charset_", "gbk"), field_part("t", b"\xff")],
    }[where]
    answer = site.post(form(*parts, file_part("x")))
    assert answer.outcome == (400, "malformed-form")
    assert ("gbk" if "its charset" in where else "UTF-8") in answer.json["detail"]
    assert 'accept-charset="utf-8"' in answer.json["detail"]
    assert "_charset_" in answer.json["detail"]


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
        ("application/octet-stream", "application/pdf"),
        ("APPLICATION/Octet-Stream; x=y", "application/pdf"),
    ],
)
def test_an_invalid_content_type_is_replaced_by_that_of_the_extension(site: UploadSite, kind: str, kept: str) -> None:
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
