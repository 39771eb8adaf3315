"""Runs commands of ``fileupload``, each in a process of its own, forked from one that has loaded their modules.

A new interpreter takes longer to load the modules than most commands take to run.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.waiting import PATIENCE


def run_command(
    *arguments: str, folder: Path, environ: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run ``fileupload`` with *arguments* in *folder*, without a terminal; return its status and its output.

    :raises subprocess.TimeoutExpired: it does not end.
    """
    return _forker(os.getpid()).run(arguments, folder, environ)


@cache
def _forker(process: int) -> _Forker:
    return _Forker()


class _Forker:
    """The process that forks one process for each command."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.close)

    def run(
        self, arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run one command."""
        with self._lock, TemporaryDirectory() as output:
            stdout, stderr = Path(output, "stdout"), Path(output, "stderr")
            request = [arguments, str(folder), dict(environ), str(stdout), str(stderr), PATIENCE * 2]
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = json.loads(self._process.stdout.readline())
            if status is None:
                raise subprocess.TimeoutExpired(arguments, PATIENCE * 2, stdout.read_bytes(), stderr.read_bytes())
            return subprocess.CompletedProcess(arguments, status, stdout.read_text(), stderr.read_text())

    def close(self) -> None:
        """End the process, which ends at the end of its input."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(PATIENCE)


def _serve() -> None:
    """Run the commands that the lines of the standard input describe, one after another."""
    import fileupload.cli.commands
    import fileupload.cli.pool_commands
    import fileupload.cli.record_commands
    import fileupload.record_client.download
    import fileupload.record_client.upload
    import fileupload.server.granian  # noqa: F401

    for line in sys.stdin:
        arguments, folder, environ, stdout, stderr, seconds = json.loads(line)
        if (child := os.fork()) == 0:
            _run(arguments, folder, environ, stdout, stderr)
        print(json.dumps(_status_of(child, seconds)), flush=True)


def _status_of(child: int, seconds: float) -> int | None:
    """Return the exit status of *child*, as ``subprocess`` does; None if it had to be killed."""
    timer = threading.Timer(seconds, os.kill, (child, 9))
    timer.start()
    _, status = os.waitpid(child, 0)
    late = timer.finished.is_set()
    timer.cancel()
    return None if late else os.waitstatus_to_exitcode(status)


def _run(arguments: list[str], folder: str, environ: dict[str, str], stdout: str, stderr: str) -> None:
    """Run a command in this process, and end it."""
    status: Any = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        for descriptor, path in enumerate((os.devnull, stdout, stderr)):
            opened = os.open(path, os.O_RDWR | os.O_CREAT)
            os.dup2(opened, descriptor)
            os.close(opened)
        from fileupload.cli.main import main

        sys.argv = ["fileupload", *arguments]
        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
