"""Resources that a request can leave open in the process that served it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress


def open_resources() -> set[str]:
    """Return the open descriptors of this process, with their targets, and its threads.

    Threads and files of earlier tests may end at any time: of two such sets the later one must hold nothing new.
    """
    found = {f"{thread.name} ({thread.ident})" for thread in threading.enumerate()}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            target = os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)")
            found.add(f"{name} -> {target}")
    return found
