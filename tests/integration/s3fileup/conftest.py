"""The app with each kind of pool, and an application that receives webhooks; no log may hold a key or a ticket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fileupload.apps.s3fileup import webhook as callback
from tests.integration.direct.conftest import pool_settings
from tests.support.s3fileup_site import Application, S3FileupSite

Open = Callable[..., S3FileupSite]


@pytest.fixture
def application() -> Iterator[Application]:
    """Return a server that receives the webhooks of complete uploads."""
    with Application().served() as application:
        yield application


@pytest.fixture(autouse=True)
def never_in_passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable retries of webhooks during other requests, unless a test enables them."""
    monkeypatch.setattr(callback, "_RETRY_INTERVAL", 1e9)


@pytest.fixture(params=["directory", "swift"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of pool: in a folder, where our own server receives the bytes, and in a store."""
    kind: str = request.param
    return kind


@pytest.fixture
def open_site(
    kind: str, request: pytest.FixtureRequest, application: Application, caplog: pytest.LogCaptureFixture
) -> Iterator[Open]:
    """Serve the app with settings; each is on the same pool."""
    caplog.set_level(logging.DEBUG, "fileupload")
    place = {"direct_part_size": "5M", "callback_url": application.url, **pool_settings(kind, request)}
    sites = []
    with ExitStack() as stack:

        def run(**settings: Any) -> S3FileupSite:
            site = stack.enter_context(S3FileupSite({**place, **settings}).served())
            sites.append(site)
            return site

        yield run
    said = "\n".join(record.getMessage() for record in caplog.records if record.name == "fileupload")
    assert not [key for site in sites for key in site.keys if key in said]
    assert "ticket=" not in said
    for site in sites:
        if hasattr(site.pool, "store"):
            site.pool.store.client.close()


@pytest.fixture
def site(open_site: Open) -> S3FileupSite:
    """Return the app with anonymous access."""
    return open_site(anonymous=True)
