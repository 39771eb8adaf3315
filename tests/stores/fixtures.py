"""Real object stores for all tests, each run once: OpenStack Swift from PyPI, Ceph from the system."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fileupload.pool.s3.store import S3Store, open_store
from fileupload.settings import Settings
from tests.stores.serving import CEPH_KEYS, SWIFT_KEYS

__all__ = ["CEPH_KEYS", "DAY", "REGION", "SWIFT_KEYS", "Place", "access", "new_store", "running_store"]

REQUIRE_ALL = os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1"
REGION = "us-east-1"
DAY = 5  # seconds of a day in Ceph's rules of lifecycle; it looks as often, which costs it more the shorter it is
_HERE = Path(__file__).parent
_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")


@contextmanager
def running_store(script: str, folder: Path, *options: str) -> Iterator[str]:
    """Run the store of a *script* beside this file in an empty folder; gives the address of its S3 interface."""
    process = subprocess.Popen(
        [sys.executable, str(_HERE / script), str(folder), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address, f"{script} did not start"
    try:
        yield address
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def access(address: str, keys: tuple[str, str]) -> dict[str, str]:
    """Return the settings for the store at *address*, for who has these *keys*: who it is, and the secret."""
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
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real OpenStack Swift's S3 interface."""
    missing = [name for name in ("swift", "boto3") if importlib.util.find_spec(name) is None]
    if missing:
        (pytest.fail if REQUIRE_ALL else pytest.skip)(f"not installed: {missing}")
    with running_store("swift.py", tmp_path_factory.mktemp("swift")) as address:
        yield address


@pytest.fixture(scope="session")
def store(swift: str) -> Iterator[S3Store]:
    """An empty ``s3_bucket`` in it."""
    store = new_store(swift, SWIFT_KEYS)
    yield store
    store.client.close()


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[str]:
    """The address of a real Ceph's S3 interface, in whose rules of lifecycle a day is a few seconds."""
    for name in _PROGRAMS:
        require_program(name)
    with running_store("radosgw.py", tmp_path_factory.mktemp("radosgw"), "--day", str(DAY)) as address:
        yield address


@pytest.fixture(scope="session")
def ceph_store(radosgw: str) -> Iterator[S3Store]:
    """An empty ``s3_bucket`` in it."""
    store = new_store(radosgw, CEPH_KEYS)
    yield store
    store.client.close()


@dataclass(frozen=True)
class Place:
    """An ``s3_bucket`` in a real store.

    :ivar access: the settings that lead to that store.
    """

    store: S3Store
    access: dict[str, str]


@pytest.fixture(scope="module", params=["swift", "radosgw"])
def place(request: pytest.FixtureRequest) -> Place:
    """One in each kind of store, in turn."""
    name, keys = {"swift": ("store", SWIFT_KEYS), "radosgw": ("ceph_store", CEPH_KEYS)}[request.param]
    return Place(request.getfixturevalue(name), access(request.getfixturevalue(request.param), keys))
