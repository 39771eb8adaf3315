"""The connection to the store is cut during a direct upload: the answer is clear, and no uploaded bytes are lost."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest

from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.s3 import client as s3_client
from fileupload.pool.s3.store import S3Store
from tests.support.direct_site import DirectSite, outcome
from tests.support.network_link import NetworkLink
from tests.support.stores.fixtures import access
from tests.support.stores.store_process import CEPH_KEYS, SWIFT_KEYS
from tests.support.waiting import wait_until

CONTENT = b"some bytes"
STORAGE_FAILED = (500, "storage-failed")
_AT_ONCE = 5
Open = Callable[[S3Store, tuple[str, str]], tuple[DirectSite, NetworkLink]]


@pytest.fixture
def open_site() -> Iterator[Open]:
    """Serve a site whose connection to its store can be cut."""
    with ExitStack() as held:

        def run(store: S3Store, keys: tuple[str, str]) -> tuple[DirectSite, NetworkLink]:
            link = NetworkLink(urlsplit(store.client.meta.endpoint_url).port or 0)
            held.callback(link.close)
            place = {
                "pool": f"s3://{store.s3_bucket}/outage/{uuid.uuid4().hex}",
                **access(f"http://127.0.0.1:{link.port}", keys),
                "s3_public_url": store.client.meta.endpoint_url,
            }
            site = held.enter_context(DirectSite(place).served())
            assert isinstance(site.pool, ObjectPool)
            site.pool._dead_after = 0.3
            held.callback(site.pool.store.client.close)  # type: ignore[attr-defined]
            return site, link

        yield run


def complete_later(site: DirectSite, identifier: str) -> None:
    """Complete an upload once its last attempt no longer counts as running; it may already be done."""
    wait_until(lambda: not site.manager.get_status(identifier).running)
    done = site.status(identifier)["state"] == "done"
    answer = site.complete(identifier)
    assert answer.status_code == 200 or (done and outcome(answer) == (409, "already-done"))
    assert site.stored(identifier) == CONTENT


def test_an_upload_continues_after_a_store_outage(store: S3Store, open_site: Open) -> None:
    """During an outage of the store the offer and the completion get errors, and afterwards the upload continues."""
    site, link = open_site(store, SWIFT_KEYS)
    identifier = site.identifier()
    link.cut()
    assert site.refused(identifier, {"filename": "a", "size": len(CONTENT)}) == STORAGE_FAILED
    link.mend()
    url = site.offer(identifier, len(CONTENT))["url"]
    link.cut()
    assert outcome(site.ask("GET", "/direct", identifier)) == STORAGE_FAILED
    assert outcome(site.ask("GET", "/status", identifier)) == STORAGE_FAILED
    assert site.put(url, CONTENT).status_code == 200
    assert outcome(site.complete(identifier)) == STORAGE_FAILED
    link.mend()
    assert site.renewed(identifier)["received"] == len(CONTENT)
    complete_later(site, identifier)


class ConnectionBreak:
    """Cuts the connection of a site before one of the requests that are counted from now on.

    :ivar came: whether there was such a request.
    """

    def __init__(self, site: DirectSite, link: NetworkLink, number: int, *, back_at_once: bool) -> None:
        self._left = number
        self._link = link
        self._back_at_once = back_at_once
        self.came = False
        self._events = site.pool.store.client.meta.events  # type: ignore[attr-defined]

    def __enter__(self) -> ConnectionBreak:
        self._events.register("before-send.s3", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._events.unregister("before-send.s3", self._count)
        self._link.mend()

    def _count(self, **_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            self.came = True
            self._link.cut()
        elif self._back_at_once:
            self._link.mend()


def at_each_request(run: Callable[[int], bool]) -> int:
    """Call *run* with 1, 2 and so on, some concurrently, until no such request occurs; return how many occurred."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for first in count(1, _AT_ONCE):
            came = list(threads.map(run, range(first, first + _AT_ONCE)))
            if not all(came):
                return first - 1 + came.index(False)
    raise AssertionError


@pytest.mark.full
@pytest.mark.parametrize("back_at_once", [True, False], ids=["a moment", "longer"])
def test_an_upload_can_be_completed_after_a_broken_connection(
    ceph_store: S3Store, open_site: Open, monkeypatch: pytest.MonkeyPatch, back_at_once: bool
) -> None:
    """If the connection breaks at any request of completing, the next attempt completes the upload."""
    monkeypatch.setattr(s3_client, "_ATTEMPTS", 1)

    def complete(number: int) -> bool:
        site, link = open_site(ceph_store, CEPH_KEYS)
        identifier = site.identifier()
        site.put(site.offer(identifier, len(CONTENT), sha256=None)["url"], CONTENT)
        with ConnectionBreak(site, link, number, back_at_once=back_at_once) as broken:
            answer = site.complete(identifier)
        if answer.status_code != 200:
            assert outcome(answer) == STORAGE_FAILED, number
            complete_later(site, identifier)
        assert site.stored(identifier) == CONTENT
        assert len(site.leftovers(identifier)) == 1, number
        assert isinstance(site.pool, ObjectPool)
        left_over = ObjectPool(ceph_store, site.pool.prefix)
        list(left_over.purge(-1))
        assert list(left_over.buckets()) == []
        return broken.came

    assert at_each_request(complete) >= 10


@pytest.mark.full
@pytest.mark.parametrize("back_at_once", [True, False], ids=["a moment", "longer"])
def test_an_offer_succeeds_after_a_broken_connection_in_an_earlier_one(
    ceph_store: S3Store, open_site: Open, monkeypatch: pytest.MonkeyPatch, back_at_once: bool
) -> None:
    """If the connection breaks at any request of an offer, the next offer succeeds like a first one.

    Nothing of an offer that failed to begin is left, if the store could be reached to remove it.
    """
    monkeypatch.setattr(s3_client, "_ATTEMPTS", 1)

    def offer(number: int) -> bool:
        site, link = open_site(ceph_store, CEPH_KEYS)
        identifier = site.identifier()
        with ConnectionBreak(site, link, number, back_at_once=back_at_once) as broken:
            answer = site.ask("POST", "/direct", identifier, json={"filename": "a", "size": len(CONTENT)})
        if answer.status_code != 200:
            assert outcome(answer) == STORAGE_FAILED, number
            if back_at_once and site.status(identifier)["state"] != "uploading":
                assert site.leftovers(identifier) == [], number
        site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT)
        assert site.complete(identifier).status_code == 200
        assert site.stored(identifier) == CONTENT
        assert len(site.leftovers(identifier)) == 1, number
        return broken.came

    assert at_each_request(offer) >= 4
