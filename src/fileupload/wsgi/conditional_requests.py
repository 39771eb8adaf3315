"""Conditional requests and byte ranges (RFC 9110, 13 and 14): WebOb evaluates them, after their syntax was checked.

WebOb parses these headers leniently, and raises exceptions for some malformed ones: a range without numbers, or with
more digits than Python converts; a date with an impossible year or zone. The RFC requires to ignore such a header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from wsgiref.types import WSGIEnvironment

from webob import Request, Response

_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})", re.ASCII)
_TAG = r'"[\x21\x23-\x7e\x80-\xff]*"'  # RFC 9110, 8.8.3
_STRONG_TAG = re.compile(_TAG)
_ANY_TAG = re.compile(rf"W/{_TAG}|({_TAG})")
_TAGS = re.compile(rf"\*|(?:W/)?{_TAG}(?:[ \t]*,[ \t]*(?:W/)?{_TAG})*")
_MAX_TAGS = 8192  # characters; a longer list of entity tags is ignored, or refused in requests that change something


@dataclass(frozen=True)
class Preconditions:
    """The conditions of a request that changes a resource (RFC 9110, 13.1.1 and 13.1.2).

    Conditions on dates are not evaluated, as in :func:`answer_conditions`.

    :ivar if_match: the header If-Match, or an empty text.
    :ivar if_none_match: the header If-None-Match, or an empty text.
    """

    if_match: str = ""
    if_none_match: str = ""

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Self:
        """Return the conditions of a request.

        :raises ValueError: a header is malformed. To ignore it, as for a GET, could overwrite what it protects.
        """
        conditions = cls(environ.get("HTTP_IF_MATCH", "").strip(), environ.get("HTTP_IF_NONE_MATCH", "").strip())
        for name, value in (("If-Match", conditions.if_match), ("If-None-Match", conditions.if_none_match)):
            if value and (len(value) > _MAX_TAGS or not _TAGS.fullmatch(value)):
                raise ValueError(f"{name} must be *, or entity tags in quotes")
        return conditions

    def __bool__(self) -> bool:
        return bool(self.if_match or self.if_none_match)

    def hold(self, etag: str | None) -> bool:
        """Return whether the conditions hold for a resource.

        :param etag: its strong entity tag without quotes, empty if it has none; None if the resource does not exist.
        """
        if self.if_match == "*" and etag is None:
            return False
        # If-Match compares strongly, so that weak tags never match; If-None-Match compares weakly (8.8.3.2).
        if self.if_match not in {"", "*"} and not (etag and f'"{etag}"' in _strong_tags(self.if_match)):
            return False
        if self.if_none_match == "*":
            return etag is None
        return not (etag and f'"{etag}"' in _STRONG_TAG.findall(self.if_none_match))


def _strong_tags(tags: str) -> list[str]:
    return [tag[1] for tag in _ANY_TAG.finditer(tags) if tag[1]]


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
