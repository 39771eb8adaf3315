"""Parsing and formatting of header values, of requests and of form parts. Ambiguous values are refused. No I/O."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from fileupload.wsgi.charsets import decode_extended, decode_words
from fileupload.wsgi.media_types import DEFAULT_TYPE, guess_type
from fileupload.wsgi.paths import from_wsgi_path

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_EXTENDED_WORD = r"[!#$%&'()*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(
    rf'[ \t]*;[ \t]*(?P<name>{_WORD})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s;"]*))',
    re.ASCII | re.DOTALL,
)
# Only parameters that all parsers read alike. The form parser skips `x*=`, and would find parameters in its quotes.
# Clients that encode by encodeURIComponent write parentheses in the value of `x*`.
_STRICT_PARAMETER = re.compile(
    rf'[ ]*;[ ]*(?P<name>[\w-]+(?P<star>\*(?![ ]*=[ ]*"[^"]*[;\\]))?)[ ]*=[ ]*'
    rf'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>(?(star){_EXTENDED_WORD}|{_WORD})))',
    re.ASCII,
)
_VALUE = re.compile(r"[ \t]*([^\s;]*)", re.ASCII)
_END = re.compile(r"[ \t]*;?[ \t]*", re.ASCII)
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,19}", re.ASCII)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def parse_parameters(header: str, *, strict: bool = False) -> tuple[str, dict[str, str]]:
    """Return the value in lower case, and the parameters, of a header such as Content-Type.

    >>> parse_parameters('Text/Plain; charset="utf-8"')
    ('text/plain', {'charset': 'utf-8'})

    :param strict: refuse values that are neither token nor quoted string, and names that other parsers treat
        differently.
    :raises ValueError: a parameter is malformed, or given twice. Parsers differ in which of the two they use, which
        an attacker can exploit.
    """
    match = _VALUE.match(header)
    assert match is not None
    value, position = match[1].lower(), match.end()
    parameters: dict[str, str] = {}
    pattern = _STRICT_PARAMETER if strict else _PARAMETER
    while parameter := pattern.match(header, position):
        name, quoted, plain = parameter.group("name", "quoted", "plain")
        if name.lower() in parameters:
            raise ValueError(f"the parameter {name.lower()!r} is given twice")
        parameters[name.lower()] = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        position = parameter.end()
    if _END.fullmatch(header, position) is None:
        raise ValueError("a parameter is malformed")
    return value, parameters


def parse_length(text: str) -> int:
    """Return a Content-Length (RFC 9110, 8.6).

    :raises ValueError: it is not 1 to 19 ASCII digits.
    """
    if _LENGTH.fullmatch(text) is None:
        raise ValueError("not 1 to 19 digits")
    return int(text)


def type_of(header: str | None) -> str:
    """Return the media type in a Content-Type, without parameters and in lower case; empty if there is none."""
    return (header or "").partition(";")[0].strip().lower()


def media_type(header: str | None, filename: str) -> str:
    """Return the media type in a Content-Type, in lower case; without a valid one, guess it from *filename*.

    ``application/octet-stream`` counts as none: browsers and other clients send it for types that they do not know.
    """
    text = type_of(header)
    if text != DEFAULT_TYPE and _MEDIA_TYPE.fullmatch(text) and len(text) <= 255:
        return text
    return guess_type(filename)


def is_in_ranges(content_type: str, ranges: tuple[str, ...]) -> bool:
    """Return whether *content_type* matches one of *ranges* (``type/subtype`` or ``type/*``)."""
    return content_type in ranges or content_type.partition("/")[0] + "/*" in ranges


def clean_filename(name: str) -> str:
    """Return the last component of *name*, without control characters; empty if nothing is left.

    Both kinds of slash separate components: the client's system may be another than the server's.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    base = "".join(character for character in base if unicodedata.category(character) not in {"Cc", "Cs"})
    return "" if base.strip(" .") == "" else base


def disposition_filename(header: str) -> str:
    """Return the filename in the Content-Disposition of a request (RFC 6266); empty if it has none.

    :raises ValueError: the header is malformed.
    """
    _, parameters = parse_parameters(header)
    plain = clean_filename(decode_words(as_utf8(parameters.get("filename", ""))))
    extended = parameters.get("filename*")
    if extended is None:
        return plain
    # RFC 6266, 4.3: the extended name is the better one, and is ignored if it cannot be read.
    name = decode_extended(extended)
    if name is None and not plain:
        name = decode_extended(extended, "replace")
        if name is None:
            raise ValueError("the parameter 'filename*' is not as in RFC 8187, and there is no 'filename' beside it")
    return plain if name is None else clean_filename(name)


def as_utf8(text: str) -> str:
    """Return a header value of the environ as UTF-8 text, or as Latin-1 if it is not UTF-8."""
    try:
        return from_wsgi_path(text)
    except UnicodeError:
        return text


def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return a Content-Disposition (RFC 6266) with *filename*, in ASCII and, exactly, in UTF-8 (RFC 8187).

    >>> print(content_disposition("ä.txt"))
    attachment; filename="_.txt"; filename*=UTF-8''%C3%A4.txt
    """
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename) or "file"
    kind = "inline" if inline else "attachment"
    return f'{kind}; filename="{plain}"; {extended_filename(filename)}'


def extended_filename(filename: str) -> str:
    """Return the parameter ``filename*`` of a Content-Disposition (RFC 8187)."""
    return f"filename*=UTF-8''{quote(filename or 'file', safe='')}"
