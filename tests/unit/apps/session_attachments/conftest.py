"""Sites with session attachments, each on a pool of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.session_client import Client, Site


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """Make a site with settings; all of a test share the pool."""

    def make(**settings: object) -> Site:
        return Site(tmp_path / "pool", **settings)

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site with the product's limits."""
    return make_site()


@pytest.fixture
def client(site: Site) -> Client:
    """Somebody who has never been there."""
    return site.client()
