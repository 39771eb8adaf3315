"""The charsets in which clients write forms and names, and the decoding of names that other standards encode."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from quopri import decodestring
from urllib.parse import unquote_to_bytes

# Charsets of pages, as browsers name them in the field ``_charset_``, and Python's codec of each. As in browsers,
# ISO-8859-1 is windows-1252 (Encoding standard, 4.2). Stateful charsets and UTF-7 are left out: other parsers find
# other characters in them.
PAGE_CHARSETS = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "latin-1", "windows-1252", "cp1252"), "cp1252"),
    **{f"iso-8859-{number}": f"iso8859-{number}" for number in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{"iso-8859-9": "cp1254", "iso-8859-11": "cp874", "windows-874": "cp874", "iso-8859-8-i": "iso8859-8"},
    **{f"windows-{number}": f"cp{number}" for number in (1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258)},
    **{"koi8-r": "koi8-r", "koi8-u": "koi8-u", "ibm866": "cp866", "macintosh": "mac-roman"},
    **{"gbk": "gb18030", "gb2312": "gb18030", "gb18030": "gb18030", "big5": "big5hkscs", "euc-kr": "cp949"},
    **{"shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "euc-jp": "euc-jp"},
}

_EXTENDED = re.compile(r"([A-Za-z0-9_-]{1,40})'[A-Za-z0-9-]{0,40}'([!#-\[\]-~]*)", re.ASCII)
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?([!->@-~]*)\?=", re.ASCII)
_ENCODED_WORDS = re.compile(rf"{_ENCODED_WORD.pattern}(?:[ \t]+{_ENCODED_WORD.pattern})*", re.ASCII)
_EXTENDED_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}  # RFC 8187, 3.2


def decode_extended(value: str, errors: str = "strict") -> str | None:
    """Return the text of an extended parameter such as ``filename*`` (RFC 8187); None if it cannot be read.

    More characters are accepted than the standard allows, such as parentheses and apostrophes: many clients encode by
    ``encodeURIComponent``, which leaves them as they are, and they have one meaning.

    >>> decode_extended("UTF-8''it's%20(1).txt")
    "it's (1).txt"
    """
    match = _EXTENDED.fullmatch(value)
    codec = _EXTENDED_CHARSETS.get(match[1].lower()) if match else None
    if match is None or codec is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(codec, errors)
    except UnicodeDecodeError:
        return None


def decode_words(text: str) -> str:
    """Return *text* with encoded words (RFC 2047) decoded, if it consists of nothing else.

    .NET writes names that are not ASCII in this way. A text that cannot be decoded is a name like any other.

    >>> decode_words("=?utf-8?B?w6kudHh0?=")
    'é.txt'
    """
    if not text.startswith("=?") or _ENCODED_WORDS.fullmatch(text) is None:
        return text
    runs: list[tuple[str, bytes]] = []  # the codec and the bytes of words in one charset; a character may be split
    for match in _ENCODED_WORD.finditer(text):
        codec = PAGE_CHARSETS.get(match[1].lower())
        if codec is None:
            return text
        try:
            data = _word_bytes(match[2].upper(), match[3])
        except binascii.Error:
            return text
        if runs and runs[-1][0] == codec:
            codec, before = runs.pop()
            data = before + data
        runs.append((codec, data))
    try:
        return "".join(data.decode(codec) for codec, data in runs)
    except UnicodeDecodeError:
        return text


def _word_bytes(encoding: str, text: str) -> bytes:
    if encoding == "B":
        return b64decode(text, validate=True)
    return decodestring(text.encode("ascii"), header=True)
