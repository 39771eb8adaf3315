"""Servers that all workers of a test run share: the process that began the run starts each once, and ends it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_VARIABLE = "FILEUPLOAD_TEST_SERVERS"  # the environment variable with the address of that process's socket
_TIMEOUT = 600  # seconds within which a server must start
_PREFIX = "fileupload-tests-"
_MEMORY = "/dev/shm"
_NEEDED = 8 << 30  # bytes that the servers may use at the same time


class SharedServers:
    """Starts a server when a process first asks for it, and ends all servers when it is closed.

    A server prints its address when it is ready, and ends when its standard input does; so it also ends when this
    process is killed.
    """

    def __init__(self) -> None:
        """Accept requests of this process and its workers, which get the address from the environment."""
        _remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_memory()))
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._addresses: dict[str, str] = {}
        self._starting = threading.Lock()
        shared = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                name, command = json.loads(self.rfile.readline())
                self.wfile.write(json.dumps(shared.address_of(name, command)).encode() + b"\n")

        path = str(self._folder / "socket")
        self._listener = socketserver.ThreadingUnixStreamServer(path, Handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        os.environ[_VARIABLE] = path

    def address_of(self, name: str, command: Sequence[str]) -> str:
        """Return the address of the server of that name; start it with *command* if it does not run yet.

        :return: an empty text if it did not start.
        """
        with self._starting:
            if name not in self._processes:
                folder = self._folder / name
                process = subprocess.Popen(
                    [part.format(folder=folder) for part in command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # Ctrl-C must reach only the tests, which end before their servers
                )
                assert process.stdout is not None
                self._processes[name] = process
                self._addresses[name] = process.stdout.readline().strip()
            return self._addresses[name]

    def close(self) -> None:
        """End all servers, and remove their files."""
        del os.environ[_VARIABLE]
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes.values():
            assert process.stdout is not None
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel then ends the servers that it has started
                process.wait()
            process.stdout.close()
        shutil.rmtree(self._folder)


def shared_server(name: str, *command: str) -> str:
    """Return the address of the server of that name, which *command* starts; ``{folder}`` in it is an empty folder."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(os.environ[_VARIABLE])
        with connection.makefile("rwb") as stream:
            stream.write(json.dumps([name, command]).encode() + b"\n")
            stream.flush()
            address: str = json.loads(stream.readline())
    assert address, f"{name} did not start"
    return address


def _memory() -> str | None:
    """Return a folder in memory, where writes need no disk; None if it is too small or does not support attributes."""
    try:
        if shutil.disk_usage(_MEMORY).free < _NEEDED:
            return None
        with tempfile.NamedTemporaryFile(dir=_MEMORY) as file:
            os.setxattr(file.name, "user.test", b"x")  # Swift needs the attributes
    except OSError:
        return None
    return _MEMORY


def _remove_abandoned() -> None:
    """Remove the folders in memory of runs that were killed."""
    for path in Path(_MEMORY).glob(f"{_PREFIX}*-*"):
        if not Path("/proc", path.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            shutil.rmtree(path, ignore_errors=True)
