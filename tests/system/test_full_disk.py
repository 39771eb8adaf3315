"""Refused uploads on a full disk, on a real file system."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from wsgiref.validate import validator

import pytest

from fileupload import SessionAttachments
from fileupload.errors import PoolFull
from fileupload.status import State, UploadStatus
from tests.support.session_client import SessionClient
from tests.support.wsgi_client import UploadSite

MEGABYTE = 1 << 20


def available(folder: Path) -> int:
    """Return the bytes that can still be written."""
    numbers = os.statvfs(folder)
    return numbers.f_bavail * numbers.f_frsize


def room_of(folder: Path) -> tuple[int, int]:
    """Return the number of free blocks and inodes of a file system."""
    numbers = os.statvfs(folder)
    return numbers.f_bfree, numbers.f_ffree


@pytest.mark.full
@pytest.mark.parametrize("made", [False, True], ids=["no register", "register"])
def test_refusals_on_a_full_disk_use_no_blocks_or_inodes(small_disk: Path, made: bool) -> None:
    """Two thousand refused uploads of each kind leave the free blocks and inodes of a full disk unchanged."""
    pool = small_disk / "pool"
    site = UploadSite(pool, min_free_space=16, drain_size=0)
    bundles = SessionAttachments(None, directory=str(pool), durable=False, min_free_space=16, drain_size=0)
    visitor = SessionClient(SimpleNamespace(as_server=validator(bundles)))  # type: ignore[arg-type]
    visitor.get("b")
    if made:
        site.manager.pool.record_refusal("a" * 32, UploadStatus(state=State.STARTING).failed(PoolFull()))
        assert (pool / ".refusals").stat().st_size == 4 * MEGABYTE
    (small_disk / "filler").write_bytes(bytes(available(small_disk) - 15 * MEGABYTE))
    before = room_of(small_disk)
    for _ in range(2000):
        identifier = site.identifier()
        query = f"X-Progress-ID={identifier}"
        assert site.put(b"x", identifier).outcome == (507, "pool-full")
        assert site.post(b"x", identifier).outcome == (507, "pool-full")
        assert site.send("POST", query=query, body=b"x", CONTENT_TYPE="a/b").status == 415
        assert site.send("POST", "/upload/direct", query, b'{"filename": "a", "size": 1}').status == 507
        assert visitor.put("b", "a", b"x", identifier).outcome == (507, "pool-full")
        assert site.status(identifier)["state"] == ("error" if made else "unknown")
    assert room_of(small_disk) == before
