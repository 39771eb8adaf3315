"""The latency of status requests while uploads run as fast as they can."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median, quantiles

from bench.client import Body, Connection, Content, RequestFailedError
from bench.contestants import Contestant
from bench.report import Column, Table
from bench.servers import Server, running_all, say
from bench.uploads import manager_of

UPLOADS = 8
_SIZE = 256 << 20
_SAMPLES = 200
_PAUSE = 0.03  # seconds between two samples
_MEASURED = ("ours", "ours-nohash-nosync", "ours-gunicorn")

COLUMNS = (
    Column("name", "name"),
    Column("uploads", "uploads"),
    Column("median", "median ms", 1),
    Column("p95", "p95 ms", 1),
    Column("max", "max ms", 1),
    Column("title", "what"),
)


def measure(contestants: Sequence[Contestant], root: Path) -> Table:
    """Measure our server's status requests, without uploads and during eight uploads."""
    table = Table("status", f"GET /upload/status: {_SAMPLES} requests on one connection", COLUMNS)
    with running_all([each for each in contestants if each.name in _MEASURED], root) as field:
        for name, server in list(field.servers.items()):
            with field.excusing(name):
                for uploads in (0, UPLOADS):
                    say(f"status: {name} while {uploads} uploads run")
                    table.rows.append(_row(server, uploads))
                    server.clear()
        table.notes += field.notes
    return table


def _row(server: Server, uploads: int) -> dict[str, object]:
    manager = manager_of(server)
    first = [manager.create_identifier() for _ in range(UPLOADS)]
    with _load(server, first[:uploads]):
        times = _sample(server.place.port, first, "uploading" if uploads else "unknown")
    return {
        "name": server.contestant.name,
        "title": server.contestant.title,
        "uploads": uploads,
        "median": median(times) * 1000,
        "p95": quantiles(times, n=20)[-1] * 1000,
        "max": max(times) * 1000,
    }


def _sample(port: int, identifiers: Sequence[str], expected: str) -> list[float]:
    times = []
    states = set()
    with Connection(port) as connection:
        for number in range(_SAMPLES):
            identifier = identifiers[number % len(identifiers)]
            answer = connection.request("GET", f"/upload/status?X-Progress-ID={identifier}", allowed=(404,))
            times.append(answer.seconds)
            states.add(json.loads(answer.body)["state"])
            time.sleep(_PAUSE)
    if expected not in states:
        raise RequestFailedError(f"no status was ever {expected!r}, only {sorted(states)}")
    return times


@contextlib.contextmanager
def _load(server: Server, identifiers: Sequence[str]) -> Iterator[None]:
    """Keep an upload running for each of *identifiers*, from a separate process."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_upload_all, args=(server.place.port, identifiers, stop), daemon=True)
    process.start()
    time.sleep(1.5 if identifiers else 0)
    try:
        yield
    finally:
        stop.set()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _upload_all(port: int, identifiers: Sequence[str], stop: Event) -> None:
    body = Body(Content(_SIZE), multipart=True)
    threads = [
        threading.Thread(target=_upload, args=(port, identifier, body, stop), daemon=True) for identifier in identifiers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _upload(port: int, identifier: str, body: Body, stop: Event) -> None:
    """Upload under *identifier* repeatedly, and clear each finished upload."""
    query = f"X-Progress-ID={identifier}"
    while not stop.is_set():
        with contextlib.suppress(RequestFailedError, OSError), Connection(port) as connection:
            connection.upload("POST", f"/upload?{query}", body)
            connection.request("DELETE", f"/upload/status?{query}")
