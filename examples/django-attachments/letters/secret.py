"""The project's secret key, which nobody has to think of."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def read_secret_key(path: Path) -> str:
    """Return the key in the file at *path*; the first process that asks makes it, readable for its owner alone."""
    if not path.exists():
        # A link appears whole or not at all, so that no other process reads half of a key.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file, suppress(FileExistsError):
            file.write(get_random_secret_key())
            file.flush()
            os.link(file.name, path)
    return path.read_text()
