"""The common part of the scripts that run real stores: their servers run until the script's standard input ends."""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

# The key id and the secret of the tests' account.
SWIFT_KEYS = ("tester:tester", "testing")
CEPH_KEYS = ("tester", "testing")
CEPH_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
_PATIENCE = 120  # seconds within which a store must start


def ceph_is_installed() -> bool:
    """Return whether the programs of Ceph are there."""
    return all(shutil.which(name) for name in CEPH_PROGRAMS)


class Servers:
    """The servers of one store; a context manager that ends them on exit."""

    def __init__(self, log: Path, farewell: signal.Signals) -> None:
        """Send their output to the file *log*, and end them with the signal *farewell*."""
        self.log = log
        self._farewell = farewell
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> None:
        """Start a server, as the leader of its own process group, with its workers."""
        # The kernel signals them when this script ends in any way, so that none is left running.
        tied = ("setpriv", f"--pdeathsig={self._farewell.name.removeprefix('SIG')}", *command)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                tied, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip
        self._processes.append(process)

    def serve(self, address: str) -> None:
        """Print *address* once it answers; return when standard input ends. The line ``kill`` kills all servers."""
        self._wait_for(address)
        print(address, flush=True)
        for line in sys.stdin:
            if line.strip() == "kill":
                self._signal(signal.SIGKILL)
                print("killed", flush=True)

    def _wait_for(self, address: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while all(process.poll() is None for process in self._processes) and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(address, timeout=5).close()
            except urllib.error.HTTPError:
                return  # it asks for credentials, so it is ready
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit(f"the store did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._signal(self._farewell)
        for process in self._processes:
            process.wait()


def write_configuration(path: Path, sections: dict[str, dict[str, str]]) -> None:
    """Write a file of sections with values."""
    parser = configparser.ConfigParser(default_section="", interpolation=None)
    parser.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def free_ports(count: int) -> list[int]:
    """Return *count* free ports of 127.0.0.1."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
