"""Format sizes in bytes for people, and values as JSON."""

from __future__ import annotations

import json
from typing import Any

_UNIT_NAMES = ("bytes", "KB", "MB", "GB", "TB", "PB")


def format_size(size: int) -> str:
    """Return *size* in bytes with the largest fitting unit; 1 KB is 1024 bytes, as in the settings.

    >>> format_size(1536)
    '1.5 KB'
    """
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNIT_NAMES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + " " + _UNIT_NAMES[unit]


def encode_json(data: Any) -> bytes:
    r"""Return *data* as JSON in UTF-8.

    A lone surrogate, which JSON allows and UTF-8 does not, is written as its escape, such as ``\ud800``.
    """
    # json.dumps writes such a character only inside of strings, where its Python escape is its JSON escape, too.
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace")
