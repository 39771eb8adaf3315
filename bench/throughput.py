"""One large upload at a time: megabytes and processor time per second, and memory, compared with nginx."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.client import Body, Connection, Content
from bench.contestants import Contestant
from bench.processes import cpu_seconds, peak_memory
from bench.report import Column, Table
from bench.servers import Field, Server, running_all, say
from bench.uploads import targets

_GIBIBYTE = 1 << 30
_SETTLE = 0.05  # seconds in which a server finishes its work after the answer

COLUMNS = (
    Column("name", "name"),
    Column("rate", "MB/s"),
    Column("best", "best"),
    Column("of_nginx", "of nginx", 2),
    Column("of_bare", "of bare", 2),
    Column("cpu", "CPU-s/GiB", 2),
    Column("peak", "peak MiB"),
    Column("title", "what"),
)


@dataclass(frozen=True)
class Run:
    """One upload: its seconds, and the server's processor time."""

    seconds: float
    cpu: float


def measure(contestants: Sequence[Contestant], root: Path, rounds: int, size: int) -> Table:
    """Upload *size* bytes to each contestant in turn, *rounds* times after one warm-up."""
    content = Content(size)
    runs: dict[str, list[Run]] = {}
    peaks: dict[str, int] = {}
    with running_all(contestants, root) as field:
        uploads = {name: targets(server) for name, server in field.servers.items()}
        for number in range(rounds + 1):
            for name, server in list(field.servers.items()):
                with field.excusing(name):
                    run = _upload(server, content, next(uploads[name]), compare=number == 0)
                    say(_progress(number, rounds, name, run, size))
                    if number:
                        runs.setdefault(name, []).append(run)
        for name, server in field.servers.items():
            peaks[name] = peak_memory(server.session)
        return _table(field, runs, peaks, size)


def _upload(server: Server, content: Content, target: str, compare: bool) -> Run:
    body = Body(content, multipart=server.contestant.method == "POST")
    warm(server.place.scratch, content.size)
    before = cpu_seconds(server.session)
    with Connection(server.place.port) as connection:
        answer = connection.upload(server.contestant.method, target, body)
    time.sleep(_SETTLE)
    spent = cpu_seconds(server.session) - before
    server.check(len(body) if server.contestant.bare else content.size)
    if compare and not server.contestant.bare:
        server.compare(content)
    server.clear()
    return Run(answer.seconds, spent)


def warm(folder: Path, size: int) -> None:
    """Write and remove a file, so that the memory for the next one is available.

    A virtual machine returns free memory to its host, and getting it back takes several times as long as an upload.
    The first contestant after a pause would pay that cost for all.
    """
    block = os.urandom(1 << 20)
    path = folder / "warm"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(block) + 64):
            file.write(block)
    path.unlink()


def _progress(number: int, rounds: int, name: str, run: Run, size: int) -> str:
    what = f"round {number} of {rounds}" if number else "warm-up"
    return f"throughput, {what}: {name} {size / run.seconds / 1e6:.0f} MB/s"


def _table(field: Field, runs: dict[str, list[Run]], peaks: dict[str, int], size: int) -> Table:
    rounds = max(map(len, runs.values()), default=0)
    title = f"Upload of {size >> 20} MiB into memory: median of {rounds}, after one warm-up"
    table = Table("throughput", title, COLUMNS, notes=list(field.notes))
    for name, server in field.servers.items():
        own = runs[name]
        beside = runs.get(server.contestant.beside)
        row: dict[str, Any] = {
            "name": name,
            "title": server.contestant.title,
            "rate": size / median(run.seconds for run in own) / 1e6,
            "best": size / min(run.seconds for run in own) / 1e6,
            "cpu": median(run.cpu for run in own) * _GIBIBYTE / size,
            "peak": peaks[name] / (1 << 20),
            "of_nginx": _ratio(own, runs.get("nginx")),
            "of_bare": _ratio(own, beside),
            "runs": [{"seconds": run.seconds, "cpu": run.cpu} for run in own],
        }
        table.rows.append(row)
    table.notes += [
        "MB/s: millions of bytes a second; best: those of the best run, which was disturbed least.",
        "of nginx, of bare: the median of the ratios within each round; bare is the loop on the same server that",
        "only reads and writes. peak: of all its processes, summed.",
    ]
    return table


def _ratio(own: Sequence[Run], other: Sequence[Run] | None) -> float | None:
    """Return the ratio of the speeds of *own* and *other*, round by round, since a machine's speed drifts."""
    if other is None or len(own) != len(other):
        return None
    return median(theirs.seconds / ours.seconds for ours, theirs in zip(own, other, strict=True))
