"""The command that lists all settings: settings."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from fileupload.cli.answer import Answer
from fileupload.settings import ENVIRONMENT_PREFIX, Settings

_WIDTH = 78
_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))
_TIMES = (("d", 86400), ("h", 3600), ("s", 1))


def settings(options: argparse.Namespace) -> Answer:
    """List the settings with their defaults and meanings."""
    rows = [
        {
            "name": field.name,
            "default": default_text(field.metadata["convert"], field.default),
            "meaning": field.metadata["help"],
            "environment": ENVIRONMENT_PREFIX + field.name.upper(),
        }
        for field in dataclasses.fields(Settings)
    ]
    width = max(len(row["name"]) for row in rows) + 2
    lines = []
    for row in rows:
        default = f" Default: {row['default']}." if row["default"] else ""
        lines.extend(
            textwrap.wrap(row["name"].ljust(width) + row["meaning"] + default, _WIDTH, subsequent_indent=" " * width)
        )
    lines.append("")
    lines.append(f"Each can be given by --set NAME=VALUE, or in the environment, such as {rows[0]['environment']}.")
    return Answer({"settings": rows}, "\n".join(lines))


def default_text(convert: Callable[[Any], Any], default: Any) -> str:
    """Return the text that *convert* makes *default* of; empty for an empty value."""
    if default in ("", ()):
        return ""
    return next((text for text in _candidates(default) if _converts(convert, text, default)), "")


def _candidates(value: Any) -> Iterator[str]:
    if value is None:
        yield "0"
    elif isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, (int, float)):
        for unit, factor in (*_UNITS, *_TIMES):
            if value and value % factor == 0:
                yield f"{int(value // factor)}{unit}"
        yield f"{value:g}"
        yield f"{value:g}s"
    else:
        yield str(value)


def _converts(convert: Callable[[Any], Any], text: str, value: Any) -> bool:
    try:
        return bool(convert(text) == value)
    except ValueError:
        return False
