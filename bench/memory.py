"""The memory that a concurrent upload needs."""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from bench.client import Body, Connection, Content, RequestFailedError
from bench.contestants import Contestant
from bench.processes import resident_memory
from bench.report import Column, Table
from bench.servers import Server, running_all, say
from bench.uploads import targets

SLOW = 200
FAST = 64
_CHUNK = 4096
_INTERVAL = 0.2  # seconds between two chunks of a slow client
_CHUNKS = 30
_FAST_SIZE = 32 << 20
_MEASURED = ("ours", "bare-granian")

COLUMNS = (
    Column("name", "name"),
    Column("uploads", "uploads"),
    Column("idle", "idle MiB", 1),
    Column("running", "most MiB", 1),
    Column("each", "KiB each"),
    Column("title", "what"),
)


def measure(contestants: Sequence[Contestant], root: Path) -> Table:
    """Measure the memory of servers that hold many uploads at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    title = f"Memory: slow clients send {_CHUNK} bytes each {_INTERVAL} s, fast ones {_FAST_SIZE >> 20} MiB"
    table = Table("memory", title, COLUMNS)
    for contestant in contestants:
        if contestant.name in _MEASURED:
            _measure(contestant, root, table, SLOW, "slow", _upload_slowly)
            _measure(contestant, root, table, FAST, "fast", _upload_fast)
    table.notes.append("KiB each: the most memory while they ran, less that of the idle server, by their number")
    return table


def _measure(
    contestant: Contestant,
    root: Path,
    table: Table,
    count: int,
    kind: str,
    upload: Callable[[Server, int], None],
) -> None:
    """Add the row of *count* concurrent uploads, on a separate server, since memory is seldom released."""
    with running_all([contestant], root) as field:
        for name, server in list(field.servers.items()):
            with field.excusing(name):
                say(f"memory: {name}, {count} {kind} uploads")
                _upload_one(server)
                idle = resident_memory(server.session)
                with _watching(server) as seen:
                    upload(server, count)
                row = {"name": name, "title": contestant.title, "uploads": f"{count} {kind}"}
                table.rows.append(
                    row
                    | {"idle": idle / 2**20, "running": max(seen) / 2**20, "each": (max(seen) - idle) / count / 1024}
                )
        table.notes += field.notes


def _upload_one(server: Server) -> None:
    """Make one upload, so that the server has loaded everything that it loads lazily."""
    with Connection(server.place.port) as connection:
        connection.upload("POST", next(targets(server)), Body(Content(1 << 20), multipart=True))
    time.sleep(0.5)


@contextlib.contextmanager
def _watching(server: Server) -> Iterator[list[int]]:
    """Provide a list of the server's memory samples, which grows while the block runs."""
    seen = [resident_memory(server.session)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.append(resident_memory(server.session))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _upload_slowly(server: Server, count: int) -> None:
    body = Body(Content(_CHUNK * _CHUNKS), multipart=True)
    chunk = bytes(_CHUNK)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.place.port)) for _ in range(count)]
        for connection, target in zip(connections, islice(targets(server), count), strict=True):
            connection.socket.sendall(body.head("POST", target) + body.prefix)
        begun = time.monotonic()
        for number in range(_CHUNKS):
            for connection in connections:
                connection.socket.sendall(chunk)
            time.sleep(max(0.0, begun + (number + 1) * _INTERVAL - time.monotonic()))
        for connection in connections:
            connection.socket.sendall(body.suffix)
        for connection in connections:
            connection.receive(begun)


def _upload_fast(server: Server, count: int) -> None:
    body = Body(Content(_FAST_SIZE), multipart=True)
    failures: list[Exception] = []

    def upload(target: str) -> None:
        try:
            with Connection(server.place.port) as connection:
                connection.upload("POST", target, body)
        except (RequestFailedError, OSError) as error:
            failures.append(error)

    threads = [
        threading.Thread(target=upload, args=(target,), daemon=True) for target in islice(targets(server), count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RequestFailedError(f"{len(failures)} of {count} uploads failed: {failures[0]}")
