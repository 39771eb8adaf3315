"""Functions that settings name."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from typing import Any

_DOTTED = re.compile(r"(?P<module>[\w.]+)(?::(?P<name>[\w.]+)|\.(?P<last>\w+))")


def parse_function(value: object) -> Any:
    """Return the function that *value* is or names, such as ``package.module:function``; None for an empty text."""
    text = "" if callable(value) else str(value).strip()
    found: Any = value if callable(value) else None
    if text:
        match = _DOTTED.fullmatch(text)
        try:
            found = match and reduce(
                getattr, (match["name"] or match["last"]).split("."), import_module(match["module"])
            )
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"a function as package.module:function ({error})") from None
        if not callable(found):
            raise ValueError("a function as package.module:function")
    return found
