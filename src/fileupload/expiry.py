"""Removal of outdated things, in the background, by one of the processes that share a pool."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from fileupload.pool.base import Pool

log = logging.getLogger("fileupload")


def expire_opportunistically(
    pool: Pool, after: float | None, remove: Callable[[float], Iterable[object]], name: str = "", what: str = "uploads"
) -> None:
    """Start removing outdated things in a thread, if this process acquires the interval lease.

    The lease lets one process of all that share the pool do this, once in an hour or in a quarter of *after*.

    :param after: age in seconds from which things are outdated; None: never.
    :param remove: removes the things of that age, and yields each.
    :param name: name of the lease.
    :param what: name of the things in the log.
    """
    if after is not None and pool.acquire_interval_lease(max(1.0, min(after / 4, 3600.0)), name):
        threading.Thread(target=_expire, args=(after, remove, what), name="fileupload-expiry", daemon=True).start()


def _expire(after: float, remove: Callable[[float], Iterable[object]], what: str) -> None:
    try:
        count = sum(1 for _ in remove(after))
    except OSError:
        log.exception("outdated %s could not be removed", what)
    else:
        log.info("%d outdated %s removed", count, what)
