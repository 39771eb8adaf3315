"""The performance targets, and whether this run has met them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from bench.report import Column, Table

_PEERS = (
    "busboy",
    "starlette",
    "starlette-stream",
    "django",
    "django-tuned",
    "django-granian",
    "flask",
    "flask-granian",
)
_PROMISES = [
    # our contestant, the other one, the minimum ratio of their speeds
    ("ours", "nginx", 0.40),
    ("ours-nohash", "nginx", 0.65),
    ("ours-nohash-nosync", "bare-granian", 0.95),
    ("ours-gunicorn-nohash", "bare-gunicorn", 0.85),
    *(("ours", peer, 1.5) for peer in _PEERS),
    *(("ours-nohash", peer, 2.5) for peer in _PEERS),
]
_MAX_MEMORY = 2048  # KiB for each concurrent upload

COLUMNS = (
    Column("what", "target"),
    Column("wanted", "wanted"),
    Column("measured", "measured", 2),
    Column("verdict", "verdict"),
)


def judge(tables: Sequence[Table]) -> Table:
    """Return a table of the targets that *tables* can check."""
    verdicts = Table("targets", "Targets", COLUMNS)
    for table in tables:
        if table.name == "throughput":
            verdicts.rows += _speed({row["name"]: row for row in table.rows})
        elif table.name == "memory":
            verdicts.rows += _memory(table.rows)
    return verdicts


def _speed(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for own, other, least in _PROMISES:
        if own in rows and other in rows and len(rows[own]["runs"]) == len(rows[other]["runs"]):
            rounds = zip(rows[own]["runs"], rows[other]["runs"], strict=True)
            ratio = median(theirs["seconds"] / ours["seconds"] for ours, theirs in rounds)
            yield {
                "what": f"speed of {own} beside {other}",
                "wanted": f"at least {least:.2f}",
                "measured": ratio,
                "verdict": "kept" if ratio >= least else "MISSED",
            }


def _memory(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["name"].startswith("ours"):
            yield {
                "what": f"KiB for each of {row['uploads']} uploads, {row['name']}",
                "wanted": f"under {_MAX_MEMORY}",
                "measured": row["each"],
                "verdict": "kept" if row["each"] < _MAX_MEMORY else "MISSED",
            }
