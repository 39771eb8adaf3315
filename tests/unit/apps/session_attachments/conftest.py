"""Fixtures for session attachments, with a separate pool for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.session_client import SessionClient, SessionSite


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., SessionSite]:
    """Return a function that makes a site with settings; all sites of a test share the pool."""

    def make(**settings: object) -> SessionSite:
        return SessionSite(tmp_path / "pool", **settings)

    return make


@pytest.fixture
def site(make_site: Callable[..., SessionSite]) -> SessionSite:
    """Return a site with the default limits."""
    return make_site()


@pytest.fixture
def client(site: SessionSite) -> SessionClient:
    """Return a client without cookies."""
    return site.client()
