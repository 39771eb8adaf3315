"""Real object stores for all tests, each started once in a run: OpenStack Swift from PyPI, Ceph from the system."""

from __future__ import annotations

import importlib.util
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fileupload.pool.s3.store import S3Store, open_store
from fileupload.settings import Settings
from tests.support.shared_servers import shared_server
from tests.support.stores.store_process import CEPH_KEYS, CEPH_PROGRAMS, SWIFT_KEYS, ceph_is_installed

__all__ = ["CEPH_KEYS", "DAY", "REGION", "SWIFT_KEYS", "Place", "access", "new_store"]

REQUIRE_ALL = os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1"
REGION = "us-east-1"
DAY = 5  # seconds of a day in Ceph's lifecycle rules; it checks as often, at a higher cost for shorter days
_HERE = Path(__file__).parent


def access(address: str, keys: tuple[str, str]) -> dict[str, str]:
    """Return the settings for the store at *address*, for the account with these *keys*: the key id and the secret."""
    return {
        "s3_endpoint_url": address,
        "s3_region": REGION,
        "s3_access_key_id": keys[0],
        "s3_secret_access_key": keys[1],
    }


def new_store(address: str, keys: tuple[str, str]) -> S3Store:
    """Return an empty ``s3_bucket`` of the store at *address*."""
    store, _ = open_store(Settings.parse(access(address, keys)), f"s3://pool-{uuid.uuid4().hex[:12]}")
    store.client.create_bucket(Bucket=store.s3_bucket)
    return store.checked("")


@pytest.fixture(scope="session")
def swift() -> str:
    """Return the address of a real OpenStack Swift's S3 interface."""
    missing = [name for name in ("swift", "boto3") if importlib.util.find_spec(name) is None]
    if missing:
        (pytest.fail if REQUIRE_ALL else pytest.skip)(f"not installed: {missing}")
    return shared_server("swift", sys.executable, str(_HERE / "swift.py"), "{folder}")


@pytest.fixture(scope="session")
def store(swift: str) -> Iterator[S3Store]:
    """Return an empty ``s3_bucket`` in Swift."""
    store = new_store(swift, SWIFT_KEYS)
    yield store
    store.client.close()


@pytest.fixture(scope="session")
def radosgw(require_program: Callable[[str], str]) -> str:
    """Return the address of a real Ceph's S3 interface, in whose lifecycle rules a day is a few seconds."""
    for name in CEPH_PROGRAMS:
        require_program(name)
    return shared_server("radosgw", sys.executable, str(_HERE / "radosgw.py"), "{folder}", "--day", str(DAY))


@pytest.fixture(scope="session")
def ceph_store(radosgw: str) -> Iterator[S3Store]:
    """Return an empty ``s3_bucket`` in Ceph."""
    store = new_store(radosgw, CEPH_KEYS)
    yield store
    store.client.close()


@dataclass(frozen=True)
class Place:
    """An ``s3_bucket`` in a real store.

    :ivar access: the settings of that store.
    """

    store: S3Store
    access: dict[str, str]


@pytest.fixture(scope="session")
def any_place(request: pytest.FixtureRequest) -> Place:
    """Return a place in one kind of store, for tests that do not depend on it: Ceph, which is faster, if installed."""
    name, server, keys = ("ceph_store", "radosgw", CEPH_KEYS) if ceph_is_installed() else ("store", "swift", SWIFT_KEYS)
    return Place(request.getfixturevalue(name), access(request.getfixturevalue(server), keys))


@pytest.fixture(scope="module", params=["swift", "radosgw"])
def place(request: pytest.FixtureRequest) -> Place:
    """Return a place in each kind of store, in turn."""
    name, keys = {"swift": ("store", SWIFT_KEYS), "radosgw": ("ceph_store", CEPH_KEYS)}[request.param]
    return Place(request.getfixturevalue(name), access(request.getfixturevalue(request.param), keys))
