"""JSON in requests and answers: what is read is strict JSON (RFC 8259), and what is written always is."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse_json(text: str | bytes) -> Any:
    """Return what *text* says.

    :raises ValueError: it is no JSON: also ``NaN``, ``Infinity`` and numbers too large for a float, which others could
        not read from us; numbers with more digits than Python converts; values nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("the values are nested too deep") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def encode_json(data: Any) -> bytes:
    """Return *data* as JSON in UTF-8.

    A lone surrogate, which JSON may hold and UTF-8 may not, is written as its escape.
    """
    # In the text that json.dumps makes, such a character stands in strings alone, where \udXXX is its escape.
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace")
