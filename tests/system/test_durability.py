"""After a power failure at any moment of an upload, the disk holds no bucket with wrong bytes.

The file operations of one upload are recorded. For each prefix of that sequence, any of the changes that are not
yet synced may have reached the disk: the bytes of files, and the names in folders, in any order. Every such disk is
built, and the pool on it is checked.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fault_injection import put_below_pool

if TYPE_CHECKING:
    from tests.system.conftest import MiddlewareClient

CONTENTS = (b"first" * 30_000, b"", b"third")
RANDOM_DISKS = 10  # random disks for each moment, beside the systematic ones


@dataclass(eq=False)
class Inode:
    """A file without its names, and everything that was written to it."""

    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Step:
    """One operation, and the folder or file that it changed.

    :ivar kind: write or sync of an inode; mkdir, link or unlink of a path; sync of a folder.
    """

    kind: str
    path: str = ""
    inode: Inode | None = None
    data: bytes = b""


class Recorder:
    """A replacement for ``os`` in the pool's modules that records the changes on the disk."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._paths: dict[int, str] = {}
        self._inodes: dict[int, Inode] = {}
        self._named: dict[str, Inode] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _path(self, name: str, parent: int | None) -> str:
        return os.path.join(self._paths[parent], name) if parent is not None else os.path.abspath(name)

    def open(self, name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = os.open(name, flags, mode, dir_fd=dir_fd)
        self._paths[fd] = path = self._path(name, dir_fd)
        self._inodes.pop(fd, None)
        if flags & os.O_CREAT:
            if path not in self._named:
                self._named[path] = Inode()
                self.steps.append(Step("link", path, self._named[path]))
            self._inodes[fd] = self._named[path]
        return fd

    def dup(self, fd: int) -> int:
        copy = os.dup(fd)
        self._paths[copy] = self._paths[fd]
        self._inodes.pop(copy, None)  # only folders are opened twice
        return copy

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)
        self.steps.append(Step("mkdir", self._path(name, dir_fd)))

    def write(self, fd: int, data: bytes) -> int:
        assert os.lseek(fd, 0, os.SEEK_CUR) == len(self._inodes[fd].data), "nothing is ever overwritten in place"
        written = os.write(fd, data)
        self._inodes[fd].data += data[:written]
        self.steps.append(Step("write", inode=self._inodes[fd], data=bytes(data[:written])))
        return written

    def fsync(self, fd: int) -> None:
        os.fsync(fd)
        self.steps.append(Step("sync", "" if fd in self._inodes else self._paths[fd], self._inodes.get(fd)))

    def rename(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        before, after = self._path(source, src_dir_fd), self._path(target, dst_dir_fd)
        self._named[after] = inode = self._named.pop(before)
        self.steps.append(Step("rename", after, inode, before.encode()))

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)
        path = self._path(name, dir_fd)
        self._named.pop(path, None)
        self.steps.append(Step("unlink", path))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record the pool's operations on the disk."""
    recorder = Recorder()
    put_below_pool(monkeypatch, recorder)
    return recorder


Disk = dict[str, bytes | None]  # the inode at each path; None: a folder


class PowerFailure:
    """The disk after some of the steps, for any part of the unsynced changes."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        synced = {step.path: at for at, step in enumerate(steps) if step.kind == "sync" and step.inode is None}
        names = [at for at, step in enumerate(steps) if step.kind in {"mkdir", "link", "rename", "unlink"}]
        self._sure = {at for at in names if synced.get(os.path.dirname(steps[at].path), -1) > at}
        self._open = [at for at in names if at not in self._sure]

    def disks(self, chance: random.Random) -> Iterator[Disk]:
        """Yield the disks that a power failure may leave."""
        for share in (0.0, 0.5, 1.0):
            for kept in self._choices(chance):
                yield self._disk(self._sure | kept, share)

    def _choices(self, chance: random.Random) -> Iterator[set[int]]:
        for count in range(len(self._open) + 1):
            yield set(self._open[:count])  # in the order of their creation
        for one in self._open:
            yield {one}
            yield set(self._open) - {one}
        for _ in range(RANDOM_DISKS):
            yield {at for at in self._open if chance.random() < 0.5}

    def _disk(self, kept: set[int], share: float) -> Disk:
        """Return the disk with the *kept* names, and that *share* of the unsynced bytes."""
        inodes: dict[str, Inode | None] = {}
        for at in sorted(kept):
            step = self._steps[at]
            if step.kind == "unlink":
                inodes.pop(step.path, None)
                continue
            if step.kind == "rename":
                inodes.pop(step.data.decode(), None)
            inodes[step.path] = step.inode
        return {path: self._content(inode, share) if inode else None for path, inode in inodes.items()}

    def _content(self, inode: Inode, share: float) -> bytes:
        written, sure = b"", 0
        for step in self._steps:
            if step.inode is inode and step.kind == "write":
                written += step.data
            elif step.inode is inode and step.kind == "sync":
                sure = len(written)
        return written[: sure + int((len(written) - sure) * share)]


def build(disk: Disk, root: Path, pool: Path) -> None:
    """Create *disk*, recorded in *pool*, in the folder *root*; files without a folder are left out."""
    shutil.copyfile(pool / ".upload_key", root / ".upload_key")
    for path, content in sorted(disk.items()):
        target = root / Path(path).relative_to(pool)
        if not target.parent.is_dir():
            continue
        if content is None:
            target.mkdir()
        else:
            target.write_bytes(content)


def check(client: MiddlewareClient, identifier: str, body: bytes, *, answered: bool) -> None:
    """Check that the upload on this disk is complete or not reported as done, and can be sent again."""
    stored = client.stored(identifier)
    if stored is not None:
        assert stored == list(CONTENTS)
        return
    assert not answered, "the client was told that the upload is done"
    code, answer = client.send(identifier, body, form=True)
    assert code == 200, answer
    assert client.stored(identifier) == list(CONTENTS)


@pytest.mark.full
def test_no_bucket_is_done_with_wrong_bytes_after_a_power_failure(
    client: MiddlewareClient, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If any unsynced changes are lost or kept, no bucket is done with wrong bytes, and a retry succeeds."""
    identifier, body = client.manager.create_identifier(), client.make_form(*CONTENTS)
    code, _ = client.send(identifier, body, form=True)
    assert code == 200
    monkeypatch.undo()
    chance = random.Random(1)
    steps, seen = recorder.steps, set()
    assert {"mkdir", "link", "write", "sync", "rename"} <= {step.kind for step in steps}
    done_at = max(at for at, step in enumerate(steps) if step.kind == "sync") + 1
    for count in range(len(steps) + 1):
        answered = count >= done_at
        for disk in PowerFailure(steps[:count]).disks(chance):
            key = (answered, frozenset(disk.items()))
            if key in seen:
                continue
            seen.add(key)
            with tempfile.TemporaryDirectory(dir=client.pool.parent) as folder:
                build(disk, Path(folder), client.pool)
                check(type(client)(Path(folder)), identifier, body, answered=answered)
    assert len(seen) > len(steps)
