"""File descriptors of this process: whether an upload can begin with those that are left, and waiting for more.

A process that has used up its descriptors (``RLIMIT_NOFILE``) can open nothing, and so could neither finish the uploads
that run nor remove what they leave. Therefore an upload begins only if enough are left for it and for the others to
end; one that runs waits a while when it gets none, since others end meanwhile.
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

_NEEDED = 8  # of an upload: four as long as it runs, and four more while it begins or ends
_RESERVED = 8  # for those that run, to end; they can wait for each other
_TIMEOUT = 10.0  # seconds
_RETRY_DELAYS = (0.01, 0.02, 0.05, 0.1)  # seconds; the last one for all further tries

# An upload that is admitted opens its descriptors under this lock, so that the next one counts them.
_admission = threading.Lock()

_T = TypeVar("_T")


@contextmanager
def admission(fd: int) -> Iterator[None]:
    """Let an upload begin in a ``with`` block, which opens what it needs.

    :param fd: a descriptor that was just opened. Systems give the lowest number that is free, so that a small one
        tells, at no cost, that there are plenty.
    :raises ServerBusy: too few descriptors are left.
    """
    limit = _limit()
    if limit is None or fd < limit // 2:
        yield
        return
    with _admission:
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

    :raises ServerBusy: none is left, with which they could be counted.
    """
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without that of the listing
    except OSError as error:
        if lacks_descriptors(error):
            raise ServerBusy from None
    return 0  # no such system; what then cannot be opened is answered in the same way, but later


def retried(operate: Callable[[], _T]) -> _T:
    """Return what *operate* does, which is tried again for some seconds while no descriptors are left.

    :raises OSError: it failed otherwise, or there are still none.
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
