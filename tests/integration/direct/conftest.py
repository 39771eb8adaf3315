"""Sites for direct uploads on each kind of pool; their logs are checked at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.direct_site import DirectSite
from tests.support.pool_sites import checked_sites, kind, pool_settings
from tests.unit.protocols.conftest import lasting_site

__all__ = ["Open", "kind", "lasting_site", "open_site", "pool_settings", "site"]

Open = Callable[..., DirectSite]


@pytest.fixture
def open_site(kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Open]:
    """Serve sites with settings, all on one pool; no log may hold an identifier or a ticket."""
    place = pool_settings(kind, request)

    def serve(settings: dict[str, Any]) -> AbstractContextManager[DirectSite]:
        return DirectSite({"direct_part_size": "5M", **place, **settings}).served()

    with checked_sites(caplog, serve, lambda site: site.identifiers) as run:
        yield run


@pytest.fixture
def site(open_site: Open) -> DirectSite:
    """Return a site with the product's defaults, except for parts of 5 MiB."""
    return open_site()
