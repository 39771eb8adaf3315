"""Sends files directly to a pool, and crashes during each upload, one step later each time.

``crash_process.py KIND ARGUMENTS…``

The kinds are ``directory FOLDER DURABLE`` and ``store SETTINGS EVERY`` (in JSON); with EVERY above 1
only every EVERY-th step has a crash. It prints the buckets that it has used, one for each crash, and one at the
end for the upload that finished.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from fileupload.pool.base import Pool
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3 import store as s3
from fileupload.pool.s3.store import S3Store
from fileupload.settings import Settings
from tests.support.fault_injection import Disk, put_below_pool
from tests.support.upload_clients import address, begin, complete

CONTENT = b"some bytes, in two parts where those may be small"


class CrashCountdown:
    """Counts steps, and ends the process before a given one.

    :ivar left: the number of steps until the crash; below 0 for no crash.
    :ivar every: the number of steps between two crashes.
    """

    left = -1
    every = 1

    def step(self, *_: Any, **__: Any) -> None:
        """Count a step, or end the process."""
        if self.left == 0:
            os._exit(9)
        self.left -= 1


def open_directory(countdown: CrashCountdown, folder: str, durable: str) -> tuple[Pool, list[int]]:
    """Return the pool, and the sizes of the parts; each of its file operations is a step."""
    disk = Disk()
    disk.operate = countdown.step  # type: ignore[method-assign]
    put_below_pool(pytest.MonkeyPatch(), disk)
    return DirectoryPool(folder, durable=bool(durable)), [30, len(CONTENT) - 30]


def open_store(countdown: CrashCountdown, values: str, every: str) -> tuple[Pool, list[int]]:
    """Return the pool of a store, and the sizes of the parts; each request is a step, except the client's own."""
    countdown.every = int(every)
    settings = Settings.parse(json.loads(values))
    theirs, ours = (s3.open_store(settings, settings.pool)[0].client for _ in ("children", "parent"))
    theirs.meta.events.register("before-call.s3", countdown.step)
    clients = [theirs, ours]
    store = S3Store(clients.pop, urlsplit(settings.pool).netloc)  # each process asks for a separate one
    return ObjectPool(store.checked(""), urlsplit(settings.pool).path), [len(CONTENT)]


KINDS: dict[str, Callable[..., tuple[Pool, list[int]]]] = {"directory": open_directory, "store": open_store}


def send(pool: Pool, sizes: list[int], bucket: str) -> None:
    """Send a file, and complete the upload."""
    direct = pool.direct(bucket, begin(pool, sizes, bucket=bucket))
    at = 0
    for number, size in enumerate(sizes, 1):
        address(direct, number, size)(CONTENT[at : at + size])
        at += size
    complete(pool, hashed=True, bucket=bucket)


def main(kind: str, *arguments: str) -> None:
    """Let a child crash at each step in turn, until an upload finishes."""
    countdown = CrashCountdown()
    pool, sizes = KINDS[kind](countdown, *arguments)
    for steps in count(step=countdown.every):
        bucket = f"{steps:032x}"
        print(bucket, flush=True)
        child = os.fork()
        if not child:
            countdown.left = steps
            send(pool, sizes, bucket)
            os._exit(0)
        if (ended := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != 9:
            sys.exit(ended)


if __name__ == "__main__":
    main(*sys.argv[1:])
