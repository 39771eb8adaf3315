"""Limits the file descriptors of this process: admits an upload only if enough are left, and waits for free ones.

A process that has used up its descriptors (``RLIMIT_NOFILE``) can open nothing, so it could neither finish the running
uploads nor remove their leftovers. Therefore an upload begins only if enough descriptors are left for it and for the
running ones to end. A running one that gets none waits for a while, because others end meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from fileupload.errors import ServerBusy, lacks_descriptors
from fileupload.pool import fork_safety

_NEEDED = 8  # for an upload: four while it runs, and four more while it begins or ends
_RESERVED = 8  # for running uploads to end, one after the other
_TIMEOUT = 10.0  # seconds
_RETRY_DELAYS = (0.01, 0.02, 0.05, 0.1)  # seconds; the last one for all further attempts

_T = TypeVar("_T")


class _Admission:
    """A lock under which an admitted upload opens its descriptors, so that the next admission counts them."""

    def __init__(self) -> None:
        self.reset_after_fork()
        fork_safety.register(self)

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()


_admission = _Admission()


@contextmanager
def admission(fd: int) -> Iterator[None]:
    """Admit an upload; it opens its descriptors in the ``with`` block.

    :param fd: a descriptor that was just opened. Systems assign the lowest free number, so a small one shows at no cost
        that plenty are left.
    :raises ServerBusy: too few descriptors are left.
    """
    limit = _limit()
    if limit is None or fd < limit // 2:
        yield
        return
    with _admission.lock:
        if limit - _count_open() < _NEEDED + _RESERVED:
            raise ServerBusy
        yield


@cache
def _limit() -> int | None:
    """Return how many descriptors this process may have, or None for any number."""
    try:
        import resource
    except ImportError:  # no POSIX
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _count_open() -> int:
    """Return how many descriptors are open.

    :raises ServerBusy: none is left for counting them.
    """
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without that of the listing itself
    except OSError as error:
        if lacks_descriptors(error):
            raise ServerBusy from None
    return 0  # no /proc: a shortage is then reported in the same way, but by a later step


def retried(operate: Callable[[], _T]) -> _T:
    """Call *operate*, again for some seconds while no descriptors are left, and return its result.

    :raises OSError: it failed for another reason, or no descriptors became free.
    """
    deadline = time.monotonic() + _TIMEOUT
    tries = 0
    while True:
        try:
            return operate()
        except OSError as error:
            if not lacks_descriptors(error) or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_DELAYS[min(tries, len(_RETRY_DELAYS) - 1)])
        tries += 1
