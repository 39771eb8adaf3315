"""JSON in requests and answers: what is read is strict JSON (RFC 8259), and what is written always is."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from fileupload.errors import MalformedRequest
from fileupload.wsgi.request_body import BodyReader


def read_json(body: BodyReader, limit: int) -> Any:
    """Return the JSON value in *body*; None if the body is empty.

    :param limit: the most bytes that it may have.
    :raises MalformedRequest: it is no JSON.
    :raises TooLarge: it has more bytes.
    """
    text = b"".join(body.chunks(limit))
    if not text.strip():
        return None
    try:
        return parse_json(text)
    except ValueError as error:
        raise MalformedRequest(f"The body must be JSON in UTF-8: {error}.") from None


def parse_json(text: str | bytes) -> Any:
    """Return what *text* says.

    :raises ValueError: it is no JSON, and in which way, as a part of a sentence: also ``NaN``, ``Infinity`` and numbers
        too large for a float, which others could not read from us; numbers with more digits than Python converts;
        values nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_short)
    except RecursionError:
        raise ValueError("the values are nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None


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


def encode_json(data: Any) -> bytes:
    """Return *data* as JSON in UTF-8.

    A lone surrogate, which JSON may hold and UTF-8 may not, is written as its escape.
    """
    # In the text that json.dumps makes, such a character stands in strings alone, where \udXXX is its escape.
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace")
