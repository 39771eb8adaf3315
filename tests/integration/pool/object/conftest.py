"""Object pools on each store."""

from __future__ import annotations

import uuid

import pytest

from fileupload.pool.object.pool import ObjectPool
from tests.support.stores.fixtures import Place


@pytest.fixture
def prefix() -> str:
    """Return a prefix that no other test uses."""
    return f"pool/{uuid.uuid4().hex}"


@pytest.fixture
def pool(place: Place, prefix: str) -> ObjectPool:
    """Return an empty pool."""
    return ObjectPool(place.store, prefix)


@pytest.fixture
def reopened(place: Place, prefix: str) -> ObjectPool:
    """Return the same pool as another node has it."""
    return ObjectPool(place.store, prefix)
