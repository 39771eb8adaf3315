"""Tables, as text for readers and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).with_name("results")
_KEPT = 50  # results of older runs


@dataclass(frozen=True)
class Column:
    """A column: the key of its values, its heading, and the number of digits."""

    key: str
    heading: str
    digits: int = 0


@dataclass
class Table:
    """The results for one question.

    :ivar notes: printed below the table, such as missing contestants.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the table as aligned text."""
        if not self.rows:
            return "\n".join([self.title, "", "nothing was measured", *self.notes])
        cells = [[column.heading for column in self.columns]]
        cells += [[_cell(row.get(column.key), column.digits) for column in self.columns] for row in self.rows]
        widths = [max(len(row[index]) for row in cells) for index in range(len(self.columns))]
        numeric = [_is_numeric(column.key, self.rows) for column in self.columns]
        lines = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *lines, *self.notes])


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, int | float):
        return f"{value:.{digits}f}"
    return value or "-"


def _is_numeric(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return not any(isinstance(row.get(key), str) for row in rows)


def write_json(tables: Sequence[Table], options: Mapping[str, Any]) -> Path:
    """Write *tables*, with a description of the machine, to a new file; return its path."""
    _RESULTS.mkdir(exist_ok=True)
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = _RESULTS / f"{now}.json"
    result = {
        "when": now,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "options": options,
        "tables": {table.name: {"rows": table.rows, "notes": table.notes} for table in tables},
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    for old in sorted(_RESULTS.glob("*.json"))[:-_KEPT]:
        old.unlink()
    return path
