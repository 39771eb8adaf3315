"""Many small concurrent uploads, on keep-alive connections."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.client import AnswerReader, Body, Connection, Content, RequestFailedError
from bench.contestants import Contestant
from bench.processes import cpu_seconds
from bench.report import Column, Table
from bench.servers import Server, running_all, say
from bench.uploads import targets

SIZE = 10_000
CLIENTS = 8
_WARM_UP = 200  # uploads to each contestant before the first round
_UPLOADS = 2000  # uploads to each contestant in each round
_TIME = 15.0  # seconds after which a round ends early

COLUMNS = (
    Column("name", "name"),
    Column("rate", "uploads/s"),
    Column("of_nginx", "of nginx", 2),
    Column("cpu", "CPU-ms each", 2),
    Column("title", "what"),
)


def measure(contestants: Sequence[Contestant], root: Path, rounds: int) -> Table:
    """Upload small files to each contestant in turn, *rounds* times after one warm-up."""
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    table = Table("small", f"Uploads of {SIZE // 1000} KB by {CLIENTS} clients: median of {rounds}", COLUMNS)
    contestants = [contestant for contestant in contestants if not contestant.bare]
    with running_all(contestants, root) as field:
        for number in range(rounds + 1):
            for name, server in list(field.servers.items()):
                with field.excusing(name):
                    rate, cost = _run(server, _UPLOADS if number else _WARM_UP)
                    say(f"small uploads, round {number} of {rounds}: {name} {rate:.0f}/s")
                    if number:
                        rates.setdefault(name, []).append(rate)
                        costs.setdefault(name, []).append(cost)
        for name, server in field.servers.items():
            row = {"name": name, "title": server.contestant.title, "rate": median(rates[name])}
            row |= {"cpu": median(costs[name]) * 1000, "of_nginx": _ratio(rates[name], rates.get("nginx"))}
            table.rows.append(row)
        table.notes += field.notes
    return table


def _ratio(own: Sequence[float], limit: Sequence[float] | None) -> float | None:
    if limit is None or len(limit) != len(own):
        return None
    return median(ours / theirs for ours, theirs in zip(own, limit, strict=True))


def _run(server: Server, count: int) -> tuple[float, float]:
    """Make *count* uploads; return the uploads per second, and the server's processor seconds for each."""
    requests = _requests(server, count)
    before, begun = cpu_seconds(server.session), time.perf_counter()
    done = _send_all(server.place.port, iter(requests), begun + _TIME)
    elapsed = time.perf_counter() - begun
    cost = (cpu_seconds(server.session) - before) / done
    if len(server.stored()) != done:
        raise RequestFailedError(f"stored {len(server.stored())} files of {done}")
    server.clear()
    return done / elapsed, cost


def _requests(server: Server, count: int) -> list[bytes]:
    """Return whole requests, built before the clock starts."""
    body = Body(Content(SIZE), multipart=server.contestant.method == "POST")
    payload = b"".join(body.pieces())
    method = server.contestant.method
    return [body.head(method, target) + payload for target, _ in zip(targets(server), range(count), strict=False)]


def _send_all(port: int, requests: Iterator[bytes], deadline: float) -> int:
    """Send *requests*, one per client at a time; return the number of successful answers."""
    clients = [_Client(port) for _ in range(CLIENTS)]
    by_file = {client.connection.socket.fileno(): client for client in clients}
    done = 0
    # One thread and epoll: eight threads would cost more than the servers that they measure.
    with select.epoll() as poll:
        try:
            for number, client in by_file.items():
                poll.register(number, select.EPOLLIN)
                client.send_next(requests)
            while any(client.busy for client in clients) and time.perf_counter() < deadline + _TIME:
                for number, _ in poll.poll(1.0):
                    if by_file[number].receive():
                        done += 1
                        if time.perf_counter() < deadline:
                            by_file[number].send_next(requests)
        finally:
            for client in clients:
                client.connection.socket.close()
    return done


class _Client:
    def __init__(self, port: int) -> None:
        self.connection = Connection(port)
        self.busy = False
        self._reader = AnswerReader()

    def send_next(self, requests: Iterator[bytes]) -> None:
        """Send the next request, if there is one."""
        request = next(requests, None)
        self.busy = request is not None
        if request is not None:
            self._reader = AnswerReader()
            self.connection.socket.sendall(request)

    def receive(self) -> bool:
        """Process the received bytes; return whether an answer is complete."""
        if not self._reader.feed(self.connection.socket.recv(65536)):
            return False
        self._reader.answer(0.0)
        self.busy = False
        return True
