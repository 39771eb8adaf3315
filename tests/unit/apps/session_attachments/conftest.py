"""Sites with session attachments, each on a pool of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.session_client import SessionClient, SessionSite


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., SessionSite]:
    """Make a site with settings; all of a test share the pool."""

    def make(**settings: object) -> SessionSite:
        return SessionSite(tmp_path / "pool", **settings)

    return make


@pytest.fixture
def site(make_site: Callable[..., SessionSite]) -> SessionSite:
    """A site with the product's limits."""
    return make_site()


@pytest.fixture
def client(site: SessionSite) -> SessionClient:
    """A client without cookies."""
    return site.client()
