"""Fixtures with the site of most protocol tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wsgi_client import UploadSite


@pytest.fixture
def site(tmp_path: Path) -> UploadSite:
    """Return a site with the default settings and its own pool."""
    return UploadSite(tmp_path / "pool")


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> UploadSite:
    """Return a site for property tests, which run many examples in one test."""
    return UploadSite(tmp_path_factory.mktemp("lasting") / "pool")
