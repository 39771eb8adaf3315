"""The secret key of the project, generated at the first start."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def read_secret_key(path: Path) -> str:
    """Return the key in the file at *path*; the first process creates it, readable by its owner only."""
    if not path.exists():
        # os.link is atomic: no other process can read an incomplete key.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file, suppress(FileExistsError):
            file.write(get_random_secret_key())
            file.flush()
            os.link(file.name, path)
    return path.read_text()
