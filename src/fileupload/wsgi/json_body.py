"""Reading and writing of strict JSON (RFC 8259)."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from fileupload.errors import MalformedRequest
from fileupload.formatting import encode_json
from fileupload.wsgi.request_body import BodyReader

__all__ = ["encode_json", "parse_json", "parse_json_or_none", "read_json"]


def read_json(body: BodyReader, limit: int) -> Any:
    """Return the JSON value in *body*; None if the body is empty.

    :param limit: the maximum size of the body, in bytes.
    :raises MalformedRequest: the body is not JSON.
    :raises TooLarge: the body is larger than *limit*.
    """
    text = b"".join(body.chunks(limit))
    if not text.strip():
        return None
    try:
        return parse_json(text)
    except ValueError as error:
        raise MalformedRequest(f"The body must be JSON in UTF-8: {error}.") from None


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """Return the JSON value in *text*.

    Python's parser accepts more than RFC 8259 allows. Values that other parsers cannot read are refused: ``NaN``,
    ``Infinity``, numbers too large for a float, numbers with more digits than Python converts, too deep nesting.

    :param unique_keys: refuse an object with two equal keys; parsers differ in which of the two they use.
    :raises ValueError: *text* is refused, with the reason as part of a sentence; :class:`json.JSONDecodeError` if it
        is not JSON at all.
    """
    hook = _unique if unique_keys else None
    try:
        return json.loads(
            text, object_pairs_hook=hook, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_short
        )
    except RecursionError:
        raise ValueError("the values are nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None


def parse_json_or_none(data: bytes) -> Any:
    """Return the JSON value in another server's answer, or None if *data* is not JSON.

    Like Python's parser, it accepts more than RFC 8259 allows: an application may send NaN.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two equal keys (RFC 8259, 4)")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _short(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # too many digits for sys.get_int_max_str_digits
        raise ValueError("a number has too many digits") from None
