"""Directory pools, with and without syncing."""

from __future__ import annotations

import pytest

from fileupload.pool.directory.pool import DirectoryPool


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def pool(request: pytest.FixtureRequest, pool_directory: str) -> DirectoryPool:
    """Return an empty pool."""
    return DirectoryPool(pool_directory, durable=request.param)


@pytest.fixture
def reopened(pool: DirectoryPool) -> DirectoryPool:
    """Return the same pool as another process has it."""
    return DirectoryPool(pool.directory, durable=pool.durable)
