"""What many tests share: a pool in a folder, an app behind the middleware, and a way to send to it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REQUIRE_ALL = os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1"


@pytest.fixture
def pool_directory(tmp_path: Path) -> str:
    """The folder of a pool that does not exist yet."""
    return str(tmp_path / "pool")


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Find a program, or skip the test; where everything is required, fail it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            (pytest.fail if REQUIRE_ALL else pytest.skip)(f"{name} is not installed")
        assert path is not None
        return path

    return find
