"""Sites for direct uploads on each kind of pool; their logs are checked at the end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fileupload.pool.s3.store import S3Store
from tests.support.direct_site import DirectSite
from tests.support.stores.fixtures import access
from tests.support.stores.store_process import CEPH_KEYS, SWIFT_KEYS
from tests.unit.protocols.conftest import lasting_site

__all__ = ["Open", "kind", "lasting_site", "open_site", "pool_settings", "site"]

Open = Callable[..., DirectSite]

_STORES = {"swift": ("store", SWIFT_KEYS), "ceph": ("ceph_store", CEPH_KEYS)}


def pool_settings(kind: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings of a new pool of that kind."""
    if kind == "directory":
        folder: Path = request.getfixturevalue("tmp_path")
        return {"directory": str(folder / "pool"), "durable": False, "min_free_space": 0}
    fixture, keys = _STORES[kind]
    store: S3Store = request.getfixturevalue(fixture)
    return {
        "pool": f"s3://{store.s3_bucket}/sites/{uuid.uuid4().hex}",
        **access(store.client.meta.endpoint_url, keys),
    }


@pytest.fixture(params=["directory", "swift"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of pool: in a folder, where our own server receives the parts, and in a store."""
    kind: str = request.param
    return kind


@pytest.fixture
def open_site(kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Open]:
    """Serve sites with settings, all on one pool; no log may hold an identifier or a ticket."""
    caplog.set_level(logging.DEBUG, "fileupload")
    place = pool_settings(kind, request)
    sites = []
    with ExitStack() as served:

        def run(**settings: Any) -> DirectSite:
            site = served.enter_context(DirectSite({"direct_part_size": "5M", **place, **settings}).served())
            sites.append(site)
            return site

        yield run
    said = "\n".join(record.getMessage() for record in caplog.records if record.name == "fileupload")
    assert not [identifier for site in sites for identifier in site.identifiers if identifier in said]
    assert "ticket=" not in said
    for site in sites:
        if hasattr(site.pool, "store"):
            site.pool.store.client.close()


@pytest.fixture
def site(open_site: Open) -> DirectSite:
    """Return a site with the product's defaults, except for parts of 5 MiB."""
    return open_site()
