"""Start, monitor and stop the measured servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.client import Content
from bench.contestants import ROOT, Contestant, Place
from bench.processes import process_ids

_START_TIME = 30.0  # seconds within which a server must listen
_STOP_TIME = 5.0  # seconds within which it must end


class ServerFailedError(Exception):
    """A server did not start, or did not store the bytes that were sent."""


@dataclass
class Server:
    """A running contestant."""

    contestant: Contestant
    place: Place
    process: subprocess.Popen[bytes]

    @property
    def session(self) -> int:
        """Return the session of all its processes."""
        return self.process.pid

    def stored(self) -> list[Path]:
        """Return the files that the server has stored."""
        return [
            path
            for path in self.place.directory.rglob("*")
            if path.is_file() and path.name != "status.json" and not path.name.startswith((".", "lock"))
        ]

    def clear(self) -> None:
        """Remove the stored files, but none that the server needs."""
        for entry in self.place.directory.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif not entry.name.startswith("."):
                entry.unlink(missing_ok=True)

    def check(self, size: int) -> None:
        """Check that one file of *size* bytes is stored.

        :raises ServerFailedError: it is not stored.
        """
        sizes = [path.stat().st_size for path in self.stored()]
        if sizes != [size]:
            raise ServerFailedError(f"stored files of {sizes} bytes instead of one of {size}")

    def compare(self, content: Content) -> None:
        """Check that the stored file has *content*.

        :raises ServerFailedError: it differs.
        """
        with open(self.stored()[0], "rb") as file:
            if any(file.read(len(piece)) != piece for piece in content.pieces()) or file.read(1):
                raise ServerFailedError("stored other bytes than those that were sent")

    def log(self) -> str:
        """Return the last lines of the server's log."""
        return "\n".join(self.place.log.read_text(errors="replace").splitlines()[-15:])


class Field:
    """The running contestants, and the reasons of those that are not running.

    :ivar servers: by name, in the order of the table.
    :ivar notes: a sentence for each that is missing or has failed.
    """

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.notes: list[str] = []

    def enter(self, contestants: Iterable[Contestant], root: Path, stack: contextlib.ExitStack) -> None:
        """Start *contestants*, which end with *stack*."""
        for contestant in contestants:
            if missing := contestant.missing():
                self.notes.append(f"missing: {contestant.name} needs {missing}")
                continue
            say(f"starting {contestant.name}")
            with self.excusing(contestant.name):
                self.servers[contestant.name] = stack.enter_context(running(contestant, root))

    @contextlib.contextmanager
    def excusing(self, name: str) -> Iterator[None]:
        """Drop a contestant that fails in this block, and report it."""
        try:
            yield
        except Exception as error:  # any error: the measurements of the others must not be lost
            server = self.servers.pop(name, None)
            say(f"{name} failed: {error!r}\n{server.log() if server else ''}")
            self.notes.append(f"failed: {name}: {error}")


@contextlib.contextmanager
def running_all(contestants: Iterable[Contestant], root: Path) -> Iterator[Field]:
    """Run all *contestants* that can start, and end them however this block ends."""
    entered = Field()
    with contextlib.ExitStack() as stack:
        entered.enter(contestants, root, stack)
        yield entered


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def running(contestant: Contestant, root: Path) -> Iterator[Server]:
    """Run *contestant*, with its files in a folder of *root*, and end it however this block ends."""
    place = Place.make(root / contestant.name, _free_port())
    command = contestant.command(place)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place.scratch)}
    environment |= {"BENCH_DIRECTORY": str(place.directory), **contestant.environment}
    with place.log.open("wb") as log:
        # In a separate session, so that all its processes can be found, measured, and ended.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(contestant, place, process)
    try:
        _wait_until_listening(server)
        yield server
    finally:
        _stop(server)
        shutil.rmtree(root / contestant.name, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(server: Server) -> None:
    deadline = time.monotonic() + _START_TIME
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", server.place.port), timeout=1).close()
            return
        time.sleep(0.05)
    raise ServerFailedError(f"does not listen\n{server.log()}")


def _stop(server: Server) -> None:
    with _undisturbed():
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(_STOP_TIME)
        for pid in process_ids(server.session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore a second Ctrl-C, which must not leave servers running."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
