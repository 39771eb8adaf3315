"""The commands in the README of the Kinto example, run as they are."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import reserved_port
from tests.support.waiting import PATIENCE

EXAMPLE = Path(__file__).parents[3] / "examples" / "kinto"
PORT = "8888"  # as in the example

Launch = Callable[..., str]


def commands_in(text: str) -> list[str]:
    """Return the blocks of commands of a README."""
    return re.findall(r"(?<=::\n\n)(?: {4}.*\n)+", text)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the example, on a free port."""
    copy = tmp_path / "kinto"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("var", ".venv"))
    with reserved_port() as port:
        for path in copy.iterdir():
            path.write_text(path.read_text().replace(PORT, str(port)))
        yield copy


@pytest.fixture
def paste(folder: Path) -> Callable[[str], str]:
    """Run commands in the folder; return their output."""

    def run(commands: str) -> str:
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "*"}
        done = subprocess.run(
            ["/bin/bash", "-ec", commands],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_commands_of_the_readme_work(
    launch: Launch, need: Callable[..., Any], folder: Path, paste: Callable[[str], str]
) -> None:
    """Kinto starts with the README's commands, which upload, download, attach, and find no garbage."""
    need("kinto", "kinto_http", "granian", program="curl")
    start, use = commands_in((folder / "README.txt").read_text())
    serve = start.splitlines()[-1].split()
    assert serve[:2] == ["KINTO_INI=kinto.ini", "fileupload"]
    launch(("-m", *serve[1:]), folder, KINTO_INI="kinto.ini")
    told = paste(use)
    assert "README.txt: uploaded, http://127.0.0.1:" in told
    assert "1 downloaded, 0 up to date, 0 failed" in told
    assert '"filename": "README.txt"' in told
    assert "2 kept, 0 linked, 0 left, 0 would be removed, 0 missing, 0 unknown" in told
    readme = (folder / "README.txt").read_bytes()
    assert (folder / "var/copy/README.txt").read_bytes() == readme
    compressed, plain = sorted((folder / "var/public").rglob("*.*"), key=lambda path: path.suffix)
    assert gzip.decompress(compressed.read_bytes()) == plain.read_bytes() == readme
