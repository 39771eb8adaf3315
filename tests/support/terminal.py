"""Programs in a terminal of their own, whose keys go to all processes in the foreground."""

from __future__ import annotations

import os
import pty
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

import pytest

from tests.support.waiting import PATIENCE

CTRL_C = b"\x03"


class Terminal:
    """A program that runs in the foreground of a terminal.

    :ivar pid: the leader of its session and of the foreground process group.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> None:
        self.output = b""
        self._status: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], list(command), environ)

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._fd, key)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of *pattern* in the output, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.output.decode(errors="replace"), re.MULTILINE)) is None:
            if not self._read(deadline):
                pytest.fail(f"{pattern!r} is not in:\n{self.output.decode(errors='replace')}")
        return found

    def wait(self) -> int:
        """Return the exit status of the program, once no process in the terminal holds it open."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self._reap()

    def _read(self, deadline: float) -> bool:
        """Read some output; return False at its end."""
        if not select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            pytest.fail(f"the terminal is silent:\n{self.output.decode(errors='replace')}")
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # all processes have closed it
            return False
        self.output += data
        return bool(data)

    def _reap(self) -> int:
        if self._status is None:
            _, waited = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(waited)
        return self._status

    def close(self) -> None:
        """Kill the process group, if it still runs, and close the terminal."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._reap()
        os.close(self._fd)


@contextmanager
def terminal(command: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """Run *command* in a terminal; what is left of it at the end is killed."""
    opened = Terminal(command, cwd=cwd, environ=environ)
    try:
        yield opened
    finally:
        opened.close()
