"""The errors for an unusable store, and the handling of a store without conditional writes."""

from __future__ import annotations

import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore import auth

from fileupload.deploy import make_pool
from fileupload.errors import SettingError
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3.store import S3Store, make_client
from fileupload.settings import Settings
from tests.support import pool_contract as contract
from tests.support.stores.fixtures import Place
from tests.support.stores.tls_proxy import tls_before
from tests.support.waiting import PATIENCE


def settings(place: Place, **changed: str) -> Settings:
    return Settings.parse({"pool": "s3://no-such-bucket/prefix", **place.access, **changed})


def test_a_pool_that_cannot_be_used_stops_the_start(place: Place) -> None:
    """A wrong bucket, key or address stops the start with the store's own answer, and never with the secret."""
    with pytest.raises(SettingError, match="NoSuchBucket") as told:
        make_pool(settings(place))
    assert "None" not in str(told.value)
    with pytest.raises(SettingError, match="SignatureDoesNotMatch") as told:
        make_pool(settings(place, pool=f"s3://{place.store.s3_bucket}", s3_secret_access_key="not-the-secret"))
    assert "not-the-secret" not in str(told.value)
    with pytest.raises(SettingError, match="Could not connect"):
        make_pool(settings(place, s3_endpoint_url="http://no-such-host.invalid"))


def test_a_clock_that_differs_from_that_of_the_store_stops_the_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that refuses requests of a wrong clock stops the start with its answer, and a hint to set the clock."""
    real = auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda: real() + timedelta(hours=1))
    with pytest.raises(SettingError, match=r"TooSkewed.*; set the clock of this host"):
        make_pool(settings(place, pool=f"s3://{place.store.s3_bucket}"))


def test_an_upload_with_a_clock_that_differs_from_that_of_the_store_names_the_clock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a request that a store refuses because of the clock says so, for the log."""
    real = auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda: real() - timedelta(hours=1))
    with pytest.raises(OSError, match=r"TooSkewed; set the clock of this host"):
        list(place.store.list("any"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool", "http://bucket"),
        ("pool", "s3://"),
        ("s3_endpoint_url", "localhost:9000"),
        ("s3_region", "two words"),
        ("progress", "http://redis"),
    ],
)
def test_bad_settings_are_named(name: str, value: str) -> None:
    """An invalid value is refused with the setting's name and the valid values."""
    with pytest.raises(SettingError, match=f"setting '{name}' cannot be"):
        Settings.parse({name: value})


def test_a_folder_and_a_store_exclude_each_other(pool_directory: str) -> None:
    """A folder and a store cannot both be the pool."""
    with pytest.raises(SettingError, match="both"):
        make_pool(Settings.parse({"pool": "s3://bucket", "directory": pool_directory}))


def test_nothing_is_left_of_the_check(place: Place) -> None:
    """The check at the start leaves no object behind."""
    prefix = uuid.uuid4().hex
    make_pool(settings(place, pool=f"s3://{place.store.s3_bucket}/{prefix}"))
    assert list(place.store.list(prefix)) == []


def test_a_store_that_ignores_conditions_is_detected(place: Place) -> None:
    """A store that ignores conditions is detected at the start; existing objects are still not overwritten."""

    def make() -> Any:
        client = make_client(
            endpoint_url=place.access["s3_endpoint_url"],
            region=place.access["s3_region"],
            key_id=place.access["s3_access_key_id"],
            secret=place.access["s3_secret_access_key"],
        )
        client.meta.events.register("before-sign.s3.PutObject", forget_condition)
        return client

    def forget_condition(request: Any, **_: Any) -> None:
        del request.headers["If-None-Match"]

    old = S3Store(make, place.store.s3_bucket).checked(uuid.uuid4().hex)
    assert not old.traits.checks_conditions
    assert old.traits.conditional_write_delay
    key = uuid.uuid4().hex
    assert old.put(key, b"first", new=True)
    assert not old.put(key, b"second", new=True)
    assert old.get(key) == b"first"


def test_no_conditional_write_is_sent_to_an_unchecked_store(place: Place) -> None:
    """Until it is known how a store handles conditions, no conditional write is sent."""
    unchecked = S3Store(lambda: place.store.client, place.store.s3_bucket)
    with pytest.raises(RuntimeError, match="not checked"):
        unchecked.put(uuid.uuid4().hex, b"", new=True)
    with pytest.raises(RuntimeError, match="not checked"):
        ObjectPool(unchecked, uuid.uuid4().hex).direct("0" * 32, "0" * 16)


def test_one_of_many_concurrent_conditional_writes_succeeds(place: Place) -> None:
    """Of many concurrent writers of a new object one succeeds, and its bytes stay."""
    for turn in range(10):
        key = f"{uuid.uuid4().hex}-{turn}"
        together = threading.Barrier(8)

        def put(number: int, key: str = key, together: threading.Barrier = together) -> bool:
            together.wait(PATIENCE)
            return place.store.put(key, str(number).encode(), new=True)

        with ThreadPoolExecutor(8) as writers:
            told = list(writers.map(put, range(8)))
        assert told.count(True) == 1
        assert place.store.get(key) == str(told.index(True)).encode()


def test_the_conditional_write_delay_is_determined(store: S3Store, ceph_store: S3Store) -> None:
    """Swift decides a moment after the last writer; Ceph decides at once, so that no upload waits."""
    assert store.traits.conditional_write_delay > 0
    assert ceph_store.traits.conditional_write_delay == 0


def test_a_pool_works_with_a_store_over_tls(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS, bytes are not hashed again for the signature; all operations of a pool work so, too."""
    told: dict[str, set[str]] = {}

    def note(request: Any, **_: Any) -> None:
        told.setdefault(request.method, set()).add(request.headers["X-Amz-Content-SHA256"].decode())

    content = os.urandom(DEFAULT_PART_SIZE + 1)
    with tls_before(urlsplit(place.access["s3_endpoint_url"]).port or 0, tmp_path) as (address, authority):
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        pool = make_pool(settings(place, pool=f"s3://{place.store.s3_bucket}/tls", s3_endpoint_url=address))
        assert isinstance(pool, ObjectPool)
        assert isinstance(pool.store, S3Store)
        pool.store.client.meta.events.register("before-send.s3", note)
        contract.complete(pool, contract.ID, content)
        bucket = pool.find_bucket(contract.ID)
        assert bucket is not None
        assert contract.read(bucket) == content
        assert requests.get(bucket.url(expires=60) or "", verify=str(authority), timeout=PATIENCE).content == content
        assert bucket.clear_upload()
        assert told["PUT"] == {"UNSIGNED-PAYLOAD"}
        assert list(pool.store.list("tls/b/")) == []
        pool.store.client.close()
