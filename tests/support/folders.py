"""What is in a folder that other processes change meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path, *, folders: bool = False) -> Iterator[Path]:
    """Yield the files in *folder*, at any depth, and the folders too if they count.

    A folder that goes meanwhile is passed over; ``Path.rglob`` would raise an error.
    """
    for root, below, names in os.walk(folder):
        yield from (Path(root, name) for name in (names + below if folders else names))
