"""Replacements for ``os`` below the directory pool."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from tests.support.open_resources import open_resources

FULL = {errno.ENOSPC, errno.EDQUOT}

NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}

# Operations that can fail; os.close is not included, since its errors come from earlier operations.
FALLIBLE = {"open", "mkdir", "write", "fsync", "rename", "unlink", "rmdir", "listdir", "statvfs", "stat", "fstat"}
# Operations that need space, and so keep failing while a disk is full.
NEED_ROOM = {"mkdir", "write", "fsync", "rename", "create"}
_MAX_OPERATIONS = 300


def refusal_for(error: int) -> tuple[int, str]:
    """Return the status and the code of the answer to an upload that the system's *error* has ended."""
    if error in NO_DESCRIPTORS:
        return 503, "server-busy"
    return (507, "pool-full") if error in FULL else (500, "storage-failed")


class Disk:
    """A replacement for ``os`` in the pool's modules that counts the operations, and fails at one, or from one on."""

    def __init__(self) -> None:
        self.count = 0
        self.fail_at = 0  # 0: never
        self.error = 0
        self.lasting = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in FALLIBLE:
            return real

        def call(*arguments: Any, **keywords: Any) -> Any:
            creates = name == "open" and arguments[1] & os.O_CREAT
            self.operate("create" if creates else name)
            return real(*arguments, **keywords)

        return call

    def operate(self, name: str) -> None:
        """Count an operation, and raise the error if it is the one that must fail."""
        self.count += 1
        goes_on = self.lasting and (name in NEED_ROOM or self.error not in FULL)
        if self.fail_at and (self.count == self.fail_at or (goes_on and self.count > self.fail_at)):
            raise OSError(self.error, os.strerror(self.error))

    @contextmanager
    def failing(self, at: int, error: int, *, lasting: bool) -> Iterator[None]:
        """Fail at operation number *at*, once or from then on."""
        self.count, self.fail_at, self.error, self.lasting = 0, at, error, lasting
        try:
            yield
        finally:
            self.fail_at = 0


def for_each_operation(disk: Disk, error: int, lasting: bool, attempt: Callable[[], None]) -> int:
    """Run *attempt* with the first operation failing, then the second, and so on until each has failed once."""
    for number in range(1, _MAX_OPERATIONS):
        before = open_resources()
        with disk.failing(number, error, lasting=lasting):
            attempt()
        assert open_resources() <= before, f"descriptors leaked when operation {number} failed"
        if disk.count < number:
            return number - 1
    pytest.fail("the operations never end")


def put_below_pool(monkeypatch: pytest.MonkeyPatch, substitute: object, *others: ModuleType) -> None:
    """Let every module of the pool, and *others*, use *substitute* as ``os``."""
    pool = [module for name, module in sys.modules.items() if name.startswith("fileupload.pool.")]
    for module in (*pool, *others):
        if hasattr(module, "os"):
            monkeypatch.setattr(module, "os", substitute)
