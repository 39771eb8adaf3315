"""Measure fileupload and other upload servers: ``python -m bench``, or ``make bench``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import latency, memory, small, stores, throughput
from bench.contestants import CONTESTANTS, Contestant
from bench.report import Table, write_json
from bench.servers import say
from bench.targets import judge

TABLES = ("throughput", "small", "status", "memory", "stores")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def main() -> int:
    """Measure the selected contestants and questions, and print the tables."""
    arguments = _parser().parse_args()
    names = {contestant.name for contestant in CONTESTANTS}
    if unknown := set(arguments.only or ()) - names:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(sorted(names))}")
    chosen = [each for each in CONTESTANTS if not arguments.only or each.name in arguments.only]
    # SIGTERM unwinds as Ctrl-C does, so that no server outlives this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="fileupload-bench-", dir=arguments.storage) as root:
        tables = [_measure(name, chosen, Path(root) / name, arguments) for name in arguments.tables]
    verdicts = judge(tables)
    if verdicts.rows:
        tables.append(verdicts)
    print("\n\n".join(table.text() for table in tables))
    options = {"rounds": arguments.rounds, "size": arguments.size, "only": arguments.only}
    say(f"written to {write_json(tables, options)}")
    return 1 if any(note.startswith("failed") for table in tables for note in table.notes) else 0


def _measure(name: str, chosen: Sequence[Contestant], root: Path, arguments: argparse.Namespace) -> Table:
    if name == "throughput":
        return throughput.measure(chosen, root, arguments.rounds, arguments.size)
    if name == "small":
        return small.measure(chosen, root, arguments.rounds)
    if name == "status":
        return latency.measure(chosen, root)
    if name == "stores":
        return stores.measure(root, arguments.rounds, arguments.size)
    return memory.measure(chosen, root)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ourselves beside others.")
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="runs of each, after one warm-up (5)")
    parser.add_argument("--size", type=_size, default=1 << 30, metavar="SIZE", help="of the large upload (1G)")
    parser.add_argument(
        "--only", type=_names, metavar="NAME,...", help=f"of {','.join(each.name for each in CONTESTANTS)}"
    )
    parser.add_argument(
        "--tables", type=_tables, default=TABLES, metavar="NAME,...", help=f"of {','.join(TABLES)} (all)"
    )
    parser.add_argument("--storage", default="/dev/shm", metavar="DIR", help="a folder in memory (/dev/shm)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].upper())
    return _positive(text[:-1]) * unit if unit else _positive(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tables(text: str) -> list[str]:
    names = _names(text)
    if unknown := set(names) - set(TABLES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(TABLES)}")
    return names


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
