"""The storage of the peers written in Python."""

from __future__ import annotations

import os
import secrets

DIRECTORY = os.environ.get("BENCH_DIRECTORY", "")


def new_path() -> str:
    """Return the path of a new file."""
    return os.path.join(DIRECTORY, secrets.token_hex(8))
