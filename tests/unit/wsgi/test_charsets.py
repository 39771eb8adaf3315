"""Names in the forms of other standards: extended parameters and encoded words."""

from __future__ import annotations

import base64
import codecs
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from fileupload.wsgi.charsets import PAGE_CHARSETS, decode_extended, decode_words
from fileupload.wsgi.headers import clean_filename, disposition_filename

texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(texts)
def test_extended_names_round_trip(text: str) -> None:
    """Any text comes back, encoded strictly and as encodeURIComponent does."""
    for safe in ("", "!'()*"):
        assert decode_extended(f"UTF-8''{quote(text, safe=safe)}") == text


@given(texts)
def test_encoded_words_round_trip(text: str) -> None:
    """Any text comes back from one encoded word."""
    data = text.encode()
    quoted = "".join(f"={byte:02X}" for byte in data)
    assert decode_words(f"=?utf-8?B?{base64.b64encode(data).decode()}?=") == text
    assert decode_words(f"=?UTF-8?q?{quoted}?=") == text


@given(st.text(alphabet="=?utf-8BQbq_ \t*'%0Aéw", max_size=60))
def test_any_text_is_decoded_or_kept(text: str) -> None:
    """No text raises an error; one that is not an encoded word is kept."""
    found = decode_words(text)
    found.encode()
    if not text.startswith("=?"):
        assert found == text
    decode_extended(text)


@given(st.text(alphabet="=?*'%0UTF-8(!)/[]{}", max_size=40), st.booleans())
def test_a_good_name_is_used_beside_any_extended_one(extended: str, first: bool) -> None:
    """A header gives the extended name, or, if that cannot be read, the plain one beside it."""
    parameters = ["filename=good.txt", f"filename*={extended}"]
    name = disposition_filename("; ".join(["attachment", *(parameters if first else reversed(parameters))]))
    decoded = decode_extended(extended)
    assert name == ("good.txt" if decoded is None else clean_filename(decoded))


def test_every_charset_has_a_codec_that_keeps_ascii() -> None:
    """Each charset is known to Python, and reads the syntax of a header as ASCII does."""
    syntax = 'Content-Disposition: form-data; name="a"; filename="b.txt"'
    for codec in set(PAGE_CHARSETS.values()):
        assert syntax.encode("ascii").decode(codecs.lookup(codec).name) == syntax
