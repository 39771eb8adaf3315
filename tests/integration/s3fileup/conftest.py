"""The app with each kind of pool, and an application that receives webhooks; no log may hold a key or a ticket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from fileupload.apps.s3fileup import background
from fileupload.apps.s3fileup import webhook as callback
from tests.support.pool_sites import checked_sites, kind, pool_settings
from tests.support.s3fileup_site import Application, S3FileupSite

__all__ = ["Open", "application", "kind", "no_opportunistic_deliveries", "open_site", "short_delays", "site"]

Open = Callable[..., S3FileupSite]


@pytest.fixture
def application() -> Iterator[Application]:
    """Return a server that receives the webhooks of complete uploads."""
    with Application().served() as application:
        yield application


@pytest.fixture(autouse=True)
def no_opportunistic_deliveries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable what other requests start in the background, unless a test enables it."""
    monkeypatch.setattr(callback, "_RETRY_INTERVAL", 1e9)
    monkeypatch.setattr(background, "_INTERVAL", 1e9)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays between the attempts to deliver a webhook."""
    monkeypatch.setattr(callback, "_RETRY_DELAYS", (0.0, 0.01, 0.02))


@pytest.fixture
def open_site(
    kind: str, request: pytest.FixtureRequest, application: Application, caplog: pytest.LogCaptureFixture
) -> Iterator[Open]:
    """Serve the app with settings; each is on the same pool."""
    place = {"direct_part_size": "5M", "callback_url": application.url, **pool_settings(kind, request)}

    def serve(settings: dict[str, Any]) -> AbstractContextManager[S3FileupSite]:
        return S3FileupSite({**place, **settings}).served()

    with checked_sites(caplog, serve, lambda site: site.keys) as run:
        yield run


@pytest.fixture
def site(open_site: Open) -> S3FileupSite:
    """Return the app with anonymous access."""
    return open_site(anonymous=True)
