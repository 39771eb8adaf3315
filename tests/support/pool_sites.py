"""Sites on each kind of pool, whose logs are checked for secrets at the end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from fileupload.pool.base import Pool
from fileupload.pool.s3.store import S3Store
from tests.support.stores.fixtures import access
from tests.support.stores.store_process import CEPH_KEYS, SWIFT_KEYS

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


@pytest.fixture(params=["directory", "swift", "ceph"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of pool: in a folder, where our own server receives the parts, and in a store."""
    kind: str = request.param
    return kind


class _Site(Protocol):
    @property
    def pool(self) -> Pool: ...


Site = TypeVar("Site", bound=_Site)


@contextmanager
def checked_sites(
    caplog: pytest.LogCaptureFixture,
    serve: Callable[[dict[str, Any]], AbstractContextManager[Site]],
    secrets: Callable[[Site], Iterable[str]],
) -> Iterator[Callable[..., Site]]:
    """Serve sites with settings; at the end, check that no log holds a secret of a site, or a token.

    :param serve: serves one site.
    :param secrets: the secrets of a site.
    """
    caplog.set_level(logging.DEBUG, "fileupload")
    sites = []
    with ExitStack() as served:

        def run(**settings: Any) -> Site:
            site = served.enter_context(serve(settings))
            sites.append(site)
            return site

        yield run
    said = "\n".join(record.getMessage() for record in caplog.records if record.name == "fileupload")
    assert not [secret for site in sites for secret in secrets(site) if secret in said]
    assert "ticket=" not in said
    for site in sites:
        if hasattr(site.pool, "store"):
            site.pool.store.client.close()
