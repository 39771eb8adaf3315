"""The rule for times from clocks that differ, or were wrong: signatures, leases, refusals, and the ages of uploads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fileupload import UploadMiddleware, clocks
from fileupload.apps.s3fileup.webhook import _DELIVERED, Webhook
from fileupload.apps.session_attachments.bundle_index import ABANDONED_AFTER, BundleIndex, session_owner
from fileupload.apps.session_attachments.bundles import remove_outdated
from fileupload.errors import TooLarge
from fileupload.factory import make_manager
from fileupload.identifiers import Identifiers
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.settings import Settings
from fileupload.status import State, UploadStatus, timestamp
from tests.support import pool_contract as contract
from tests.support.clock import Clock
from tests.support.session_client import SessionSite, entries_of
from tests.support.wsgi_client import UploadSite

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
AHEAD = [10.0, HOUR, 10 * YEAR]
NAME = "fileupload_session"


def test_the_tolerance_is_stated() -> None:
    """The tolerance is a quarter of an hour, and the documentation says so."""
    assert clocks.CLOCK_TOLERANCE == 900
    text = (Path(__file__).parents[2] / "docs" / "deployment.txt").read_text()
    assert "15 minutes" in text


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_time_ahead_counts_as_now(ahead: float) -> None:
    """No age is negative."""
    assert clocks.age_of(time.time() + ahead) == 0.0
    assert clocks.age_of(time.time() - ahead) == pytest.approx(ahead, abs=5)


@pytest.mark.parametrize(
    ("moment", "duration", "recent"),
    [
        (10, 5, True),  # within the tolerance
        (HOUR, 5, False),
        (HOUR, DAY, True),  # within its own duration
        (10 * YEAR, DAY, False),
        (-10, 5, False),
        (-10, 60, True),
        (-10 * YEAR, DAY, False),
    ],
)
def test_a_mark_counts_as_far_ahead_as_behind(moment: float, duration: float, recent: bool) -> None:
    """A mark counts for its duration on both sides of its time, and for the tolerance ahead of it at least."""
    assert clocks.is_recent(time.time() + moment, duration) is recent


@pytest.mark.parametrize("ahead", [10.0, 800.0, HOUR])
def test_an_identifier_from_a_clock_ahead_starts_an_upload(tmp_path: Path, clock: Clock, ahead: float) -> None:
    """An identifier that another host has signed ahead of this host's clock is not refused."""
    site = UploadSite(tmp_path / "pool", max_age=HOUR + 1)
    clock.advance(ahead)
    identifier = site.identifier()
    clock.advance(-ahead)
    assert site.put(b"content", identifier).status == 200


def test_an_identifier_from_a_clock_that_was_wrong_expires(clock: Clock) -> None:
    """An identifier that was signed years ahead has expired; without an age it stays valid."""
    aged, ageless = Identifiers(["a key that is long enough"], max_age=HOUR), Identifiers(["a key that is long enough"])
    clock.advance(10 * YEAR)
    identifier, other = aged.create(), ageless.create()
    clock.advance(-10 * YEAR)
    assert aged.verify(identifier).expired
    assert not ageless.verify(other).expired
    clock.advance(-10 * YEAR)
    behind = aged.create()
    clock.advance(10 * YEAR)
    assert aged.verify(behind).expired


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_visitor_keeps_the_session_of_a_clock_ahead(tmp_path: Path, clock: Clock, ahead: float) -> None:
    """A session cookie that was signed ahead of this host's clock opens its session, and is then signed with its time.

    From then on it expires like any other.
    """
    site = SessionSite(tmp_path / "pool", session_age=14)
    client = site.client()
    clock.advance(ahead)
    assert client.put("b", "a", b"1").status == 200
    signed = client.cookies[NAME]
    clock.advance(-ahead)
    assert client.get("b").names == ["a"]
    assert (client.cookies[NAME] == signed) is (ahead < clocks.CLOCK_TOLERANCE)
    clock.advance(13 * DAY)
    assert client.get("b").names == ["a"]
    clock.advance(15 * DAY)
    assert client.get("b").names == []


def test_a_session_without_an_age_stays_at_a_clock_ahead(tmp_path: Path, clock: Clock) -> None:
    """A cookie until the browser is closed is valid at any time, and not signed again."""
    site = SessionSite(tmp_path / "pool", session_age=0)
    client = site.client()
    clock.advance(10 * YEAR)
    client.put("b", "a", b"1")
    clock.advance(-10 * YEAR)
    assert client.get("b").names == ["a"]
    assert client.get("b").header("Set-Cookie") is None


@pytest.mark.parametrize("ahead", [HOUR, 10 * YEAR, -10 * YEAR])
def test_a_lease_that_was_acquired_at_another_time_blocks_nothing(tmp_path: Path, ahead: float) -> None:
    """A lease with a time outside its interval is acquired, by one caller in each process."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    assert pool.acquire_interval_lease(60)
    mark = tmp_path / "pool" / ".turn"
    os.utime(mark, (time.time() + ahead, time.time() + ahead))
    other = DirectoryPool(pool.directory)
    assert [other.acquire_interval_lease(60) for _ in range(3)] == [True, False, False]


def test_a_process_whose_clock_differs_from_the_file_system_respects_its_own_lease(
    tmp_path: Path, clock: Clock
) -> None:
    """With a clock that is years from that of the file system, a process gets a lease once in its interval."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    clock.advance(-10 * YEAR)
    assert [pool.acquire_interval_lease(60) for _ in range(3)] == [True, False, False]
    clock.advance(61)
    assert [pool.acquire_interval_lease(60) for _ in range(3)] == [True, False, False]


def test_a_lease_of_seconds_ahead_is_respected(tmp_path: Path, clock: Clock) -> None:
    """Hosts whose clocks differ by less than the interval share one lease."""
    pool, other = (DirectoryPool(str(tmp_path / "pool")) for _ in range(2))
    clock.advance(10)
    assert pool.acquire_interval_lease(60)
    os.utime(tmp_path / "pool" / ".turn", (time.time(), time.time()))
    clock.advance(-10)
    assert not other.acquire_interval_lease(60)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_crashed_upload_from_a_clock_ahead_is_interrupted(tmp_path: Path, ahead: float) -> None:
    """An upload whose process was killed is not taken for a running one because its time is still to come."""
    script = """
import os, sys
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State, UploadStatus
status = UploadStatus(state=State.UPLOADING, size=9, started=sys.argv[2], updated=sys.argv[2])
DirectoryPool(sys.argv[1]).begin("0" * 32, status)
os.kill(os.getpid(), 9)
"""
    directory = str(tmp_path / "pool")
    subprocess.run([sys.executable, "-c", script, directory, timestamp(time.time() + ahead)], check=False)
    status = DirectoryPool(directory).bucket("0" * 32).get_status()
    assert (status.state, status.code) == (State.ERROR, "interrupted")


def test_what_one_wrong_clock_has_written_expires_after_its_discovery(tmp_path: Path, clock: Clock) -> None:
    """If statuses and modification times are years ahead, a purge lets the age count from now; a dry run does not."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    clock.advance(10 * YEAR)
    contract.complete(pool)
    future = time.time()
    clock.advance(-10 * YEAR)
    status = Path(pool.bucket_store(contract.ID).path_of(), "status.json")
    os.utime(status, (future, future))
    assert list(pool.purge(DAY, dry_run=True)) == []
    assert status.stat().st_mtime == pytest.approx(future)
    assert list(pool.purge(DAY)) == []
    assert status.stat().st_mtime == pytest.approx(time.time(), abs=60)
    clock.advance(DAY + 20)
    assert [bucket.id for bucket in pool.purge(DAY)] == [contract.ID]


def test_a_bucket_without_a_status_from_a_clock_ahead_expires(tmp_path: Path, clock: Clock) -> None:
    """The directory that a crash has left years ahead is purged, once its age was counted from now."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    path = Path(pool.bucket_store(contract.ID).path_of())
    path.mkdir(parents=True)
    os.utime(path, (time.time() + 10 * YEAR,) * 2)
    assert list(pool.purge(DAY)) == []
    clock.advance(DAY + 20)
    assert list(pool.purge(DAY)) or not path.exists()


def test_a_running_upload_from_a_clock_ahead_is_not_purged(tmp_path: Path, clock: Clock) -> None:
    """An upload that another host receives with a clock ahead is left alone, also by a purge of everything."""
    pool, other = (DirectoryPool(str(tmp_path / "pool")) for _ in range(2))
    clock.advance(10 * YEAR)
    attempt = pool.begin(contract.ID, contract.starting())
    contract.store(attempt, contract.CONTENT)
    clock.advance(-10 * YEAR)
    assert list(other.purge(0)) == []
    attempt.finish(contract.starting().done(contract.uploaded(len(contract.CONTENT)), {}))


@pytest.mark.parametrize("ahead", AHEAD)
def test_attachments_from_a_clock_ahead_expire(tmp_path: Path, clock: Clock, ahead: float) -> None:
    """Attachments whose time is still to come are listed, and expire, later by the difference at most."""
    site = SessionSite(tmp_path / "pool")
    client = site.client()
    clock.advance(ahead)
    client.put("b", "a", b"1")
    clock.advance(-ahead)
    assert client.get("b").names == ["a"]
    assert list(remove_outdated(site.pool, DAY)) == []
    clock.advance(DAY + 20 + min(ahead, HOUR))
    [(_, entry)] = entries_of(site.pool)
    assert list(remove_outdated(site.pool, DAY, dry_run=True)) == [entry.bucket_id]
    assert list(remove_outdated(site.pool, DAY)) == [entry.bucket_id]
    assert entries_of(site.pool) == []


def test_an_attachment_replaces_one_from_a_clock_ahead(tmp_path: Path, clock: Clock) -> None:
    """A later upload of the same name wins, although the time of the earlier one is years ahead."""
    site = SessionSite(tmp_path / "pool")
    client = site.client()
    clock.advance(10 * YEAR)
    client.put("b", "a", b"1")
    clock.advance(-10 * YEAR)
    assert client.put("b", "a", b"22").status == 200
    assert client.get("b", "a").body == b"22"
    client.put("b", "other", b"3")
    assert client.get("b").names == ["a", "other"]


def test_an_announced_upload_from_a_clock_ahead_uses_no_quota(tmp_path: Path, clock: Clock) -> None:
    """The entry of an upload that never began, years ahead, does not count as running, and is removed."""
    site = SessionSite(tmp_path / "pool")
    index = BundleIndex(site.pool, ("sessions", "s" * 40, "b"))
    clock.advance(10 * YEAR)
    entry = index.announce("0" * 32, 100)
    assert index.is_expected(entry)
    clock.advance(-10 * YEAR)
    assert not index.is_expected(entry)
    assert index.files() == []
    assert index.entries() == []
    assert clocks.CLOCK_TOLERANCE < ABANDONED_AFTER


def test_an_upload_that_begins_in_a_bundle_from_a_clock_ahead_is_not_removed(tmp_path: Path) -> None:
    """The entry of a new upload follows one that is years ahead: its upload is not removed while it begins."""
    site = SessionSite(tmp_path / "pool")
    index = BundleIndex(site.pool, ("sessions", "s" * 40, "b"))
    site.pool.index.put(index.key, f"{int((time.time() + 10 * YEAR) * 1000):015d}-100-{'0' * 32}")
    entry = index.announce("1" * 32, 100)
    seen = site.pool.bucket("1" * 32).get_status()
    now = timestamp()
    status = UploadStatus(state=State.UPLOADING, started=now, updated=now, owner=session_owner("s" * 40))
    attempt = site.pool.begin("1" * 32, status)
    index.remove(entry, seen=seen)
    assert site.pool.bucket("1" * 32).get_status().running
    attempt.fail(status)


def test_records_of_deliveries_from_a_clock_ahead_are_removed(tmp_path: Path) -> None:
    """Records of delivered webhooks are removed a week after and a week ahead of their day."""
    manager = make_manager(Settings.parse({"directory": str(tmp_path / "pool")}))
    days = [timestamp(time.time() + days * DAY)[:10] for days in (-3650, -8, -6, 0, 6, 9, 3650)]
    for day in days:
        manager.pool.index.put((*_DELIVERED, day), "0" * 32)
    Webhook("http://localhost", manager)._remove_old_records()
    assert sorted(key[-1] for key in manager.pool.index.keys(_DELIVERED)) == days[2:5]


def test_a_refusal_from_a_clock_ahead_is_shown(tmp_path: Path, clock: Clock) -> None:
    """The reason of a refusal that another host has recorded ahead of this host's clock is shown, and not for ever."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    status = contract.starting()
    clock.advance(10)
    pool.record_refusal(contract.ID, status.failed(TooLarge("big")))
    clock.advance(-10)
    assert pool.bucket(contract.ID).get_status().error == "big"
    clock.advance(2 * HOUR)
    assert pool.bucket(contract.ID).get_status().state is State.UNKNOWN
    clock.advance(-3 * HOUR - 60)
    assert pool.bucket(contract.ID).get_status().state is State.UNKNOWN


def test_expiry_goes_on_after_a_clock_was_wrong(tmp_path: Path, clock: Clock) -> None:
    """A purge in passing, made while the clock was years ahead, does not stop later ones."""
    middleware = UploadMiddleware(lambda environ, start: [b""], directory=str(tmp_path / "pool"), expire_after=HOUR)
    pool = middleware.manager.pool
    clock.advance(10 * YEAR)
    assert pool.acquire_interval_lease(900)
    os.utime(tmp_path / "pool" / ".turn", (time.time(), time.time()))
    clock.advance(-10 * YEAR)
    assert pool.acquire_interval_lease(900)
