"""Direct uploads into a directory pool: the contract, and behaviour specific to a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from fileupload.errors import Superseded, TooLarge
from fileupload.pool.base import Pool
from fileupload.pool.directory.pool import DirectoryPool
from tests.support import crash_process
from tests.support.direct_contract import DirectContract
from tests.support.folders import files_in
from tests.support.upload_clients import ID, begin, complete, read
from tests.support.waiting import PATIENCE

CRASH_PROCESS = Path(crash_process.__file__)


@pytest.fixture
def contents() -> list[bytes]:
    """Return the parts of a file, the last one shorter."""
    return [b"a" * 1000, b"b" * 1000, b"c" * 10]


@pytest.fixture
def crash_uploads(pool: DirectoryPool) -> Callable[[], list[str]]:
    """Kill processes at each step of an upload; return the buckets."""

    def run() -> list[str]:
        command = [sys.executable, str(CRASH_PROCESS), "directory", pool.directory, "durable" if pool.durable else ""]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        return ended.stdout.split()

    return run


class TestDirectoryDirect(DirectContract):
    """The contract of direct uploads."""

    def everything(self, pool: Pool) -> list[str]:
        assert isinstance(pool, DirectoryPool)
        return [str(path) for path in files_in(Path(pool.directory)) if not path.name.startswith(".")]

    def bytes_in(self, pool: Pool) -> list[str]:
        others = ("lock", "status.json", "progress.json", "alive")
        return [path for path in self.everything(pool) if not path.endswith(others)]

    def test_a_part_in_flight_reserves_its_declared_bytes(self, pool: DirectoryPool, reopened: DirectoryPool) -> None:
        """A part in transit reserves its declared bytes, in other processes too."""
        token = begin(pool, [10])
        writer = pool.direct(ID, token).receive_part(1, 6, 10)
        for size, fits in ((5, False), (4, True)):
            with nullcontext() if fits else pytest.raises(TooLarge):
                reopened.direct(ID, token).receive_part(2, size, 10).abandon()
        writer.abandon()
        reopened.direct(ID, token).receive_part(2, 5, 10).abandon()
        assert self.bytes_in(pool) == []

    def test_a_newer_request_for_a_part_supersedes_the_older_one(
        self, pool: DirectoryPool, reopened: DirectoryPool
    ) -> None:
        """A newer request for a part frees the bytes of the older one, which can no longer write or publish."""
        token = begin(pool, [3])
        older = pool.direct(ID, token).receive_part(1, 3, 3)
        older.write(b"old")
        newer = reopened.direct(ID, token).receive_part(1, 3, 3)
        (stored,) = self.bytes_in(pool)
        assert os.stat(stored).st_size == 0
        newer.write(b"new")
        with pytest.raises(Superseded):
            older.write(b"old")
        with pytest.raises(Superseded):
            older.close()
        newer.close()
        complete(pool)
        assert read(pool) == b"new"

    def test_a_request_that_is_refused_supersedes_nothing(self, pool: DirectoryPool) -> None:
        """A part refused for lack of space does not affect the request that is sending it."""
        direct = pool.direct(ID, begin(pool, [3]))
        writer = direct.receive_part(1, 3, 3)
        with pytest.raises(TooLarge):
            direct.receive_part(1, 4, 3)
        writer.write(b"new")
        writer.close()
        complete(pool)
        assert read(pool) == b"new"

    def test_a_part_of_a_crashed_process_reserves_nothing(self, pool: DirectoryPool) -> None:
        """A part of a crashed process does not count, and the next part removes it, also in older formats."""
        token = begin(pool, [10])
        if not (child := os.fork()):
            writers = [pool.direct(ID, token).receive_part(number, 5, 10) for number in (1, 2)]
            for each in writers:
                each.write(b"x")
            os._exit(0)
        os.waitpid(child, 0)
        left = self.bytes_in(pool)
        assert len(left) == 2
        Path(left[0]).with_name("part-3.0123456789abcdef").write_bytes(b"of an older version")
        writer = pool.direct(ID, token).receive_part(3, 10, 10)
        assert len(self.bytes_in(pool)) == 1
        writer.write(bytes(10))
        writer.close()
        assert pool.bucket(ID).get_status().received == 10
        Path(left[0]).with_name("part-4.0123456789abcdef").write_bytes(b"of an older version")
        os.rename(Path(left[0]).with_name("part-3"), Path(left[0]).with_name("part-1"))
        complete(pool)
        assert len(self.bytes_in(pool)) == 1
