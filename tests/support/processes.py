"""Servers that tests run as processes, each the leader of its own process group."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import PATIENCE


def start_group(command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that leads its own process group; its output goes to *log*.

    :param options: of ``Popen``.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )


def wait_for_line(process: subprocess.Popen[bytes], log: Path, pattern: str) -> tuple[str, ...]:
    """Return the groups of *pattern*, once a line in the log of a starting process matches it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        whole_lines = log.read_text().rpartition("\n")[0]  # an incomplete line may have an incomplete port
        if found := re.search(pattern, whole_lines, re.MULTILINE):
            return found.groups()
        if ended:
            break
        time.sleep(0.02)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill all processes of the group at once, as a crash does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the group to end, and kill the processes that are still running after a while."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    kill_group(process)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a port on which servers with shared ports can be started, one after another."""
    with socket.socket() as reserved:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            reserved.setsockopt(socket.SOL_SOCKET, option, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]
