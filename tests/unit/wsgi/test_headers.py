"""Header values are parsed strictly, by the grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.wsgi.headers import (
    as_utf8,
    clean_filename,
    disposition_filename,
    is_in_ranges,
    media_type,
    parse_length,
    parse_parameters,
)


@pytest.mark.parametrize(
    ("header", "value", "parameters"),
    [
        ("", "", {}),
        ("Text/HTML", "text/html", {}),
        ("a/b; C=D", "a/b", {"c": "D"}),
        ("a/b;c=d;e=f", "a/b", {"c": "d", "e": "f"}),
        ('a/b ; c = "d e" ; ', "a/b", {"c": "d e"}),
        ('a/b; c="\\"\\\\\\x"', "a/b", {"c": '"\\x'}),
        ('a/b; c=""', "a/b", {"c": ""}),
        ('a/b; c="; d=e"', "a/b", {"c": "; d=e"}),
        ("a/b; c=a/b:(c)", "a/b", {"c": "a/b:(c)"}),
        ("; c=d", "", {"c": "d"}),
    ],
)
def test_parameters_are_read(header: str, value: str, parameters: dict[str, str]) -> None:
    """The value and the names are returned in lower case, quoted strings without their quotes."""
    assert parse_parameters(header) == (value, parameters)


MALFORMED = [
    "a b",
    "a; b",
    "a; b=c; b=d",
    "a; b=c; B=d",
    'a; b="c',
    'a; b="c"d',
    'a; b="\\',
    "a; =b",
    "a; b=c d",
    "a;;",
    "a, b",
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("header", MALFORMED)
def test_malformed_parameters_are_refused(header: str, strict: bool) -> None:
    """Malformed and repeated parameters are refused."""
    with pytest.raises(ValueError, match=r"malformed|given twice"):
        parse_parameters(header, strict=strict)


@pytest.mark.parametrize(
    "header", ["a; b=c/d", "a; b=", "a; b=ä", 'a; b*="; c=d"', 'a; b*="\\c"', "a;\tb=c", "a; b.c=d"]
)
def test_the_strict_parser_refuses_ambiguous_parameters(header: str) -> None:
    """An ambiguous value is accepted by the lenient parser only."""
    parse_parameters(header)
    with pytest.raises(ValueError, match="malformed"):
        parse_parameters(header, strict=True)


@given(st.text(alphabet=" ;=*\"\\\t\nab/'ä", max_size=60))
def test_any_header_is_read_or_refused(header: str) -> None:
    """Any text is parsed or raises ValueError, and the strict parser accepts no more than the lenient one."""
    results = []
    for strict in (True, False):
        try:
            results.append(parse_parameters(header, strict=strict))
        except ValueError:
            results.append(None)  # type: ignore[arg-type]
    assert results[0] in (None, results[1])


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=30), max_size=5))
def test_quoted_parameters_round_trip(parameters: dict[str, str]) -> None:
    """Quoting any text and parsing it returns the text."""
    quoted = "".join(
        '; {}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
    )
    assert parse_parameters("a/b" + quoted) == ("a/b", parameters)


@given(st.text(max_size=25))
def test_a_length_is_ascii_digits(text: str) -> None:
    """A length is 1 to 19 ASCII digits, without the other forms that int() accepts."""
    if 1 <= len(text) <= 19 and set(text) <= set("0123456789"):
        assert parse_length(text) == int(text)
    else:
        with pytest.raises(ValueError, match="digits"):
            parse_length(text)


@pytest.mark.parametrize(
    ("content_type", "ranges", "inside"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("text/*", "image/*"), True),
        ("image/png", ("image/pngx", "imag/*"), False),
        ("image", ("image/*",), True),
        ("image/png", (), False),
    ],
)
def test_media_ranges_match_types(content_type: str, ranges: tuple[str, ...], inside: bool) -> None:
    """The range ``type/subtype`` matches that type, ``type/*`` all its subtypes."""
    assert is_in_ranges(content_type, ranges) is inside


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.txt", "a.txt"),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("...", ""),
        (". .", ""),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\fakepath\\a.txt", "a.txt"),
        ("/", ""),
        ("a/", ""),
        ("a\0.txt", "a.txt"),
        ("a\r\n.txt", "a.txt"),
        ("a\x85\x9b.txt", "a.txt"),
        ("\ud800a", "a"),
        (".\0.", ""),
        ("a:b", "a:b"),
        ("CON.txt", "CON.txt"),
        ("a. ", "a. "),
        ("\u202egnp.exe", "\u202egnp.exe"),
        ("~root", "~root"),
        ("x" * 300, "x" * 300),
    ],
)
def test_clean_filename_removes_folders_and_control_characters(name: str, kept: str) -> None:
    """Folders and control characters are removed from a name; all other characters are kept."""
    assert clean_filename(name) == kept


@given(st.text())
def test_a_clean_filename_is_no_path(name: str) -> None:
    """A cleaned name has no folder and is not "." or ".."; cleaning it again changes nothing."""
    kept = clean_filename(name)
    assert not set(kept) & set("/\\\0\r\n")
    assert kept not in {".", ".."}
    assert clean_filename(kept) == kept
    kept.encode()


@given(st.text(alphabet=st.characters(codec="latin-1")))
def test_any_disposition_is_read_or_refused(header: str) -> None:
    """Any Content-Disposition gives a name or raises ValueError."""
    try:
        name = disposition_filename(header)
    except ValueError:
        return
    assert "/" not in name


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"])))
def test_utf_8_passed_as_latin_1_is_decoded(text: str) -> None:
    """UTF-8 in headers, which PEP 3333 passes as Latin-1, is decoded; other bytes are kept."""
    assert as_utf8(text.encode().decode("latin-1")) == text


@given(st.text(), st.text())
def test_any_content_type_gives_a_valid_media_type(header: str, name: str) -> None:
    """Any Content-Type gives a media type that is valid in a header."""
    kind = media_type(header, clean_filename(name))
    assert kind.isascii()
    assert "/" in kind
    assert not set(kind) & set('\r\n;, "')
