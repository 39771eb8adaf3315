"""Conditional requests and ranges (RFC 9110, 13 and 14): WebOb answers them, and is shown only what is well formed.

WebOb reads these headers leniently, and raises errors at some that no client sends: a range without numbers, or with so
many digits that Python does not convert them, a date with a year or a zone that is none. Each such header is to be
ignored.
"""

from __future__ import annotations

import re
from typing import Any

from webob import Request, Response

_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})", re.ASCII)
_TAG = r'"[\x21\x23-\x7e\x80-\xff]*"'  # RFC 9110, 8.8.3
_STRONG_TAG = re.compile(_TAG)
_TAGS = re.compile(rf"\*|(?:W/)?{_TAG}(?:[ \t]*,[ \t]*(?:W/)?{_TAG})*")
_MAX_TAGS = 8192  # characters; a longer list of entity tags is taken for none


def answer_conditions(environ: dict[str, Any], response: Response) -> Response:
    """Return *response*, which has an entity tag, or what the conditions and the range of the request make of it.

    Conditions on dates are left out: our answers have no Last-Modified, so that If-Modified-Since is to be ignored (RFC
    9110, 13.1.3), and a date in If-Range never holds (13.1.5), which makes the answer the whole.
    """
    shown = {"REQUEST_METHOD": environ["REQUEST_METHOD"]}
    tags = environ.get("HTTP_IF_NONE_MATCH", "")
    if len(tags) <= _MAX_TAGS and _TAGS.fullmatch(tags):
        # A weak tag matches too (RFC 9110, 13.1.2): proxies that compress make them of ours. And so does any with "*",
        # which WebOb leaves out of account.
        shown["HTTP_IF_NONE_MATCH"] = ", ".join(_STRONG_TAG.findall(tags)) or f'"{response.etag}"'
    validator = environ.get("HTTP_IF_RANGE")
    if validator is None or (len(validator) <= _MAX_TAGS and _STRONG_TAG.fullmatch(validator)):
        if validator is not None:
            shown["HTTP_IF_RANGE"] = validator
        if (first := _first_range(environ.get("HTTP_RANGE", ""), response.content_length or 0)) is not None:
            shown["HTTP_RANGE"] = first
    return Request(shown).get_response(response)


def _first_range(header: str, size: int) -> str | None:
    """Return the first of the ranges in *header*, or None where it is malformed.

    :param size: of what there is; a suffix that is longer means all of it (RFC 9110, 14.1.2).
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
