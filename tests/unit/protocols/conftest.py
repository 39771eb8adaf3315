"""The site that most tests of the protocols upload to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wsgi_client import UploadSite


@pytest.fixture
def site(tmp_path: Path) -> UploadSite:
    """A site with the product's defaults, and a pool of its own."""
    return UploadSite(tmp_path / "pool")


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> UploadSite:
    """A site for properties, which are tried with many examples in one test."""
    return UploadSite(tmp_path_factory.mktemp("lasting") / "pool")
