"""Direct uploads into a directory pool keep the contract, and what a folder asks for beside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fileupload.pool.base import Pool
from fileupload.pool.directory import DirectoryPool
from tests.folders import files_in
from tests.pool.direct_contract import DirectContract
from tests.waiting import PATIENCE

DYING = Path(__file__).with_name("dying.py")


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def pool(request: pytest.FixtureRequest, pool_directory: str) -> DirectoryPool:
    return DirectoryPool(pool_directory, durable=request.param)


@pytest.fixture
def reopened(pool: DirectoryPool) -> DirectoryPool:
    return DirectoryPool(pool.directory, durable=pool.durable)


@pytest.fixture
def contents() -> list[bytes]:
    """Parts of a file, the last one shorter."""
    return [b"a" * 1000, b"b" * 1000, b"c" * 10]


@pytest.fixture
def dying(pool: DirectoryPool) -> Callable[[], list[str]]:
    """Let processes die at each step of an upload; return the buckets."""

    def run() -> list[str]:
        command = [sys.executable, str(DYING), "directory", pool.directory, "durable" if pool.durable else ""]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        return ended.stdout.split()

    return run


class TestDirectoryDirect(DirectContract):
    """All that is promised of direct uploads."""

    def everything(self, pool: Pool) -> list[str]:
        assert isinstance(pool, DirectoryPool)
        return [str(path) for path in files_in(Path(pool.directory)) if not path.name.startswith(".")]

    def bytes_in(self, pool: Pool) -> list[str]:
        others = ("lock", "status.json", "progress.json", "alive")
        return [path for path in self.everything(pool) if not path.endswith(others)]
