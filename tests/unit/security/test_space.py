"""Free space: concurrent uploads together respect the reserve that each alone must respect."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fileupload.pool.directory.pool import DirectoryPool
from fileupload.wsgi.request_body import MAX_READ
from tests.support.waiting import PATIENCE
from tests.support.wsgi_client import NOTHING, ONLY_STATUS, Answer, Stream, UploadSite

MEBIBYTE = 1 << 20
CAPACITY, RESERVE = 48 * MEBIBYTE, 16 * MEBIBYTE


def used(directory: Path) -> int:
    """Return the bytes of all files in the pool."""
    total = 0
    for folder, _, names in os.walk(directory):  # ignores folders that are removed meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UploadSite:
    """Return a site whose pool has a small disk of its own."""
    site = UploadSite(tmp_path / "pool", min_free_space=f"{RESERVE}B", max_size=0, drain_size=0)
    monkeypatch.setattr(DirectoryPool, "free_space", lambda pool: CAPACITY - used(Path(pool.directory)))
    return site


@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_parallel_uploads_keep_the_reserve(small: UploadSite, count: int, declared: bool) -> None:
    """Concurrent uploads that all fitted when checked still leave the reserve free (ocis #4516).

    Each upload may exceed it by one read before it detects the others.
    """
    size, step = 24 * MEBIBYTE, 256 << 10
    together = threading.Barrier(count)
    least_free = [CAPACITY]

    def pieces() -> Iterator[bytes]:
        try:
            for n in range(size // step):
                together.wait(PATIENCE)
                least_free[0] = min(least_free[0], CAPACITY - used(small.directory)) if n % 4 == 0 else least_free[0]
                yield bytes(step)
        except threading.BrokenBarrierError:
            return
        finally:
            together.abort()

    answers: list[Answer] = []
    length = str(size) if declared else None

    def upload() -> None:
        answers.append(small.put(Stream(pieces()), CONTENT_LENGTH=length))

    threads = [threading.Thread(target=upload) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answers) == count
    assert least_free[0] >= RESERVE - count * step
    assert {answer.status for answer in answers} <= ({200} if count == 1 else {200, 507, 400})
    statuses = 64 << 10
    assert CAPACITY - used(small.directory) >= RESERVE - count * MAX_READ - statuses


def test_a_full_pool_accepts_uploads_again_after_a_clear(small: UploadSite) -> None:
    """A refused upload frees its space, except for the register of refusals, which has a fixed size."""
    fits, too_much = 27 * MEBIBYTE, 40 * MEBIBYTE
    identifier = small.identifier()
    for length in (str(too_much), None):
        answer = small.put(Stream(bytes(MEBIBYTE) for _ in range(40)), identifier, CONTENT_LENGTH=length)
        assert answer.outcome == (507, "pool-full")
        # An upload with a declared length is refused before its first byte, and creates no bucket.
        assert small.names(identifier) == (NOTHING if length else ONLY_STATUS)
    assert small.put(Stream(bytes(MEBIBYTE) for _ in range(27)), identifier, CONTENT_LENGTH=str(fits)).status == 200
