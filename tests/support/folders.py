"""Listing of a folder that other processes change concurrently."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path, *, folders: bool = False) -> Iterator[Path]:
    """Yield the files in *folder*, at any depth, and optionally the folders too.

    A folder that is removed concurrently is skipped; ``Path.rglob`` would raise an error.
    """
    for root, below, names in os.walk(folder):
        yield from (Path(root, name) for name in (names + below if folders else names))
