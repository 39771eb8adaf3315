"""Conditional requests and byte ranges (RFC 9110, 13 and 14): WebOb evaluates them, after their syntax was checked.

WebOb parses these headers leniently, and raises exceptions for some malformed ones: a range without numbers, or with
more digits than Python converts; a date with an impossible year or zone. The RFC requires to ignore such a header.
"""

from __future__ import annotations

import re
from wsgiref.types import WSGIEnvironment

from webob import Request, Response

_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})", re.ASCII)
_TAG = r'"[\x21\x23-\x7e\x80-\xff]*"'  # RFC 9110, 8.8.3
_STRONG_TAG = re.compile(_TAG)
_TAGS = re.compile(rf"\*|(?:W/)?{_TAG}(?:[ \t]*,[ \t]*(?:W/)?{_TAG})*")
_MAX_TAGS = 8192  # characters; a longer list of entity tags is ignored


def answer_conditions(environ: WSGIEnvironment, response: Response) -> Response:
    """Return *response*, or the 304, 206 or 416 that the request's conditions and range require in its place.

    Conditions on dates are not evaluated: the answers have no Last-Modified, so If-Modified-Since must be ignored (RFC
    9110, 13.1.3), and a date in If-Range never matches (13.1.5), so the whole file is sent.

    :param response: an answer with an entity tag.
    """
    checked = {"REQUEST_METHOD": environ["REQUEST_METHOD"]}
    tags = environ.get("HTTP_IF_NONE_MATCH", "")
    if len(tags) <= _MAX_TAGS and _TAGS.fullmatch(tags):
        # Weak tags match, too (RFC 9110, 13.1.2): a proxy that compresses an answer weakens its tag. WebOb does not
        # implement "*", which matches any tag, so it is replaced by the answer's tag.
        checked["HTTP_IF_NONE_MATCH"] = ", ".join(_STRONG_TAG.findall(tags)) or f'"{response.etag}"'
    validator = environ.get("HTTP_IF_RANGE")
    if validator is None or (len(validator) <= _MAX_TAGS and _STRONG_TAG.fullmatch(validator)):
        if validator is not None:
            checked["HTTP_IF_RANGE"] = validator
        if (first := _first_range(environ.get("HTTP_RANGE", ""), response.content_length or 0)) is not None:
            checked["HTTP_RANGE"] = first
    return Request(checked).get_response(response)


def _first_range(header: str, size: int) -> str | None:
    """Return the first range of a Range header, or None if the header is malformed.

    :param size: the size of the file in bytes; a longer suffix range means the whole file (RFC 9110, 14.1.2).
    """
    unit, _, given = header.partition("=")
    ranges = [text.strip(" \t") for text in given.split(",")]
    matches = [_RANGE.fullmatch(text) for text in ranges if text]
    if unit.strip(" \t").lower() != "bytes" or not matches:
        return None
    for match in matches:
        if match is None or not any(match.groups()):
            return None
    first = matches[0]
    assert first is not None
    start, end = first.groups()
    if start:
        return f"bytes={start}-{end}"
    length = min(int(end), size)
    return f"bytes={size - length}-"
