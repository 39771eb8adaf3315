"""Expiry of session attachments: during requests, by the command, and after crashes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from fileupload.apps.session_attachments.bundle_index import SESSIONS, BundleEntry
from fileupload.apps.session_attachments.bundles import remove_outdated
from fileupload.identifiers import new_id
from tests.support.session_client import SessionClient, SessionSite, entries_of
from tests.support.waiting import wait_until
from tests.support.wsgi_client import Stream, UploadSite

DAY = 86400


def age(site: SessionSite, days: float) -> None:
    """Move the times of all accepted uploads back by so many days, in the index and in the pool."""
    for place, entry in entries_of(site.pool):
        assert entry.acceptance is not None
        place.forget(entry)
        earlier = int(days * DAY * 1000)
        acceptance = type(entry.acceptance)(
            entry.acceptance.finished - earlier, entry.acceptance.files, entry.acceptance.size
        )
        old = BundleEntry(order=entry.order - earlier, declared=entry.declared, bucket_id=entry.bucket_id)
        site.pool.index.put(place.key, old.name)
        site.pool.index.put(place.key, old.acceptance_name(acceptance))
        folder = site.directory / entry.bucket_id[:2] / entry.bucket_id
        record = json.loads((folder / "status.json").read_text())
        for name in ("started", "updated", "finished"):
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(acceptance.finished // 1000))
            record[name] = f"{moment}.{acceptance.finished % 1000:03d}Z"
        (folder / "status.json").write_text(json.dumps(record))


def left_in(site: SessionSite) -> set[str]:
    """Return the names of the files in the pool, without the pool's own files."""
    names = {str(path.relative_to(site.directory)) for path in site.directory.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith((".upload_key", ".turn", ".refusals"))}


def test_outdated_attachments_are_removed(site: SessionSite, client: SessionClient) -> None:
    """Older attachments of all sessions are removed with all their data; younger ones stay."""
    client.post("b", ("a", b"1"), ("b", b"2"))
    site.client().put("other", "a", b"1")
    age(site, 4)
    client.put("b", "young", b"1")
    old = {entry.bucket_id for _, entry in entries_of(site.pool)} - {_young(site)}
    assert set(remove_outdated(site.pool, 5 * DAY)) == set()
    assert set(remove_outdated(site.pool, 3 * DAY, dry_run=True)) == old
    assert client.get("b").names == ["a", "b", "young"]
    assert set(remove_outdated(site.pool, 3 * DAY)) == old
    assert set(remove_outdated(site.pool, 3 * DAY)) == set()
    assert client.get("b").names == ["young"]
    site.check_tidy()


def _young(site: SessionSite) -> str:
    rank: tuple[int, str] = max(entry.rank for _, entry in entries_of(site.pool))
    return rank[1]


def test_an_age_of_0_empties_the_pool(site: SessionSite, client: SessionClient) -> None:
    """At an age of 0 the pool becomes empty, also after removals, replacements, failures and refusals."""
    client.post("b", ("a", b"1"), ("b", b"2"), ("c", b"3"))
    client.delete("b", "a")
    client.put("b", "b", b"4")
    client.put("b", "..", b"5", site.manager.create_identifier())
    client.put("b", "d", b"5", site.manager.create_identifier(), CONTENT_LENGTH="9")
    time.sleep(0.005)
    assert list(remove_outdated(site.pool, 0))
    assert left_in(site) == set()
    assert list(site.pool.index.keys((SESSIONS,))) == []


def test_an_upload_that_runs_is_never_outdated(site: SessionSite, client: SessionClient) -> None:
    """An upload does not expire while it runs, however long, nor right after its end."""
    client.get("b")

    def pieces() -> Iterator[bytes]:
        yield bytes(10)
        ((place, entry),) = entries_of(site.pool)
        place.forget(entry)
        old = BundleEntry(order=entry.order - 10 * DAY * 1000, declared=entry.declared, bucket_id=entry.bucket_id)
        site.pool.index.put(place.key, old.name)
        assert list(remove_outdated(site.pool, DAY)) == []
        assert [entry for _, entry in entries_of(site.pool)] == [old]
        place.forget(old)
        site.pool.index.put(place.key, entry.name)
        yield bytes(10)

    assert client.put("b", "a", Stream(pieces()), CONTENT_LENGTH="20").status == 200
    assert list(remove_outdated(site.pool, DAY)) == []
    site.check_tidy()


def test_an_old_entry_does_not_remove_a_later_upload(site: SessionSite, client: SessionClient) -> None:
    """An old entry of an upload that never arrived does not remove a later one with the same identifier."""
    identifier = site.manager.create_identifier()
    old = BundleEntry(order=int((time.time() - 9 * DAY) * 1000), declared=1, bucket_id=identifier[:32])
    site.pool.index.put((SESSIONS, "f" * 40, "lost"), old.name)
    client.put("b", "a", b"1", identifier)
    assert list(remove_outdated(site.pool, 3 * DAY)) == []
    assert client.contents("b") == {"a": b"1"}
    site.check_tidy()


def test_the_remains_of_an_interrupted_removal_are_removed(site: SessionSite, client: SessionClient) -> None:
    """Bytes without a status and names without an entry are removed too."""
    client.put("b", "a", b"1")
    ((place, entry),) = entries_of(site.pool)
    folder = site.directory / entry.bucket_id[:2] / entry.bucket_id
    (folder / "status.json").unlink()
    gone = BundleEntry(order=1, declared=1, bucket_id=new_id())
    site.pool.index.put(place.key, gone.removal_name(3, 1))
    time.sleep(0.005)
    list(remove_outdated(site.pool, 0))
    assert left_in(site) == set()


def test_listing_a_bundle_removes_its_bytes_without_a_status(site: SessionSite, client: SessionClient) -> None:
    """Listing a bundle removes its bytes without a status."""
    client.put("b", "a", b"1")
    ((_, entry),) = entries_of(site.pool)
    (site.directory / entry.bucket_id[:2] / entry.bucket_id / "status.json").unlink()
    assert client.get("b").json == []
    assert left_in(site) == set()


def test_requests_expire_old_uploads_once_per_interval(make_site: Callable[..., SessionSite]) -> None:
    """With expire_after, requests below the path remove old uploads, once per interval for all processes."""
    site = make_site(expire_after=0)
    site.client().put("b", "a", b"1")
    age(site, 4)
    passing = make_site(expire_after=3)
    passing.client().get("other")
    wait_until(lambda: not list(site.pool.buckets()))
    site.client().put("b", "a", b"1")
    age(site, 4)
    for _ in range(5):
        passing.client().get("other")
    assert len(list(site.pool.buckets())) == 1


def test_a_status_has_the_time_until_it_expires(make_site: Callable[..., SessionSite]) -> None:
    """The status of an attachment's upload says how long the upload will be kept."""
    site = make_site(expire_after=3)
    client = site.client()
    identifier = site.manager.create_identifier()
    client.put("b", "a", b"1", identifier)
    assert "expires" in client.send("GET", "/attachments/b/", f"status&X-Progress-ID={identifier}").json


def test_the_purge_command_removes_attachments(site: SessionSite, client: SessionClient) -> None:
    """`fileupload purge --older-than` removes attachments and other uploads, and counts each once."""

    def purge(*options: str) -> dict[str, list[str]]:
        command = [sys.executable, "-m", "fileupload", "purge", "--json", "--directory", str(site.directory), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        answer: dict[str, list[str]] = json.loads(done.stdout)
        return answer

    client.post("b", ("a", b"1"), ("b", b"1"))
    age(site, 4)
    client.put("b", "young", b"1")
    assert purge("--older-than", "5")["removed"] == []
    assert len(purge("--older-than=3", "--dry-run")["removed"]) == 1
    assert client.get("b").names == ["a", "b", "young"]
    assert len(purge("--older-than=3")["removed"]) == 1
    assert client.get("b").names == ["young"]
    site.check_tidy()
    time.sleep(0.005)
    assert len(purge("--older-than=0")["removed"]) == 1
    assert left_in(site) == set()


def test_other_uploads_are_not_expired(make_site: Callable[..., SessionSite]) -> None:
    """An upload of the app in the same pool is no attachment, and is kept."""
    site = make_site(expire_after="1s")
    uploads = UploadSite(site.directory)
    identifier = uploads.identifier()
    assert uploads.put(b"x", identifier).status == 200
    site.client().put("b", "a", b"1")
    time.sleep(0.005)
    assert len(list(remove_outdated(site.pool, 0))) == 1
    assert uploads.status(identifier)["state"] == "done"


def test_index_entries_of_other_applications_are_kept(site: SessionSite, client: SessionClient) -> None:
    """Index entries of other applications are kept."""
    site.pool.index.put(("records", "1"), "x")
    client.put("b", "a", b"1")
    time.sleep(0.005)
    list(remove_outdated(site.pool, 0))
    assert site.pool.index.names(("records", "1")) == ["x"]


def finished_upload(site: SessionSite) -> str:
    """Return the identifier of an upload that another app has received in the same pool."""
    uploads = UploadSite(site.directory)
    identifier = uploads.identifier()
    assert uploads.put(b"theirs", identifier).status == 200
    return identifier


def test_a_refused_upload_does_not_expire_the_bucket_of_another_app(site: SessionSite, client: SessionClient) -> None:
    """The identifier of another app's upload is refused, and no entry of the session names its bucket."""
    identifier = finished_upload(site)
    query = f"filename=a&X-Progress-ID={identifier}"
    assert client.send("POST", "/attachments/b/", query, b"xx", CONTENT_TYPE="text/plain").status == 415
    assert client.send("PUT", "/attachments/b/", query, b"xx", HTTP_CONTENT_RANGE="bytes 0-1/9").status == 415
    assert not entries_of(site.pool)
    assert list(remove_outdated(site.pool, -1)) == []
    assert site.pool.bucket(identifier[:32]).is_complete()


def test_a_kept_bucket_does_not_expire_by_an_index_entry(site: SessionSite) -> None:
    """A bucket that another app keeps does not expire, even if the index lists it."""
    identifier = finished_upload(site)
    bucket = site.pool.bucket(identifier[:32])
    bucket.keep()
    entry = BundleEntry(order=1, declared=5, bucket_id=bucket.id)
    site.pool.index.put((SESSIONS, "s", "b"), entry.name)
    assert list(remove_outdated(site.pool, -1)) == []
    assert bucket.is_complete()
    assert not entries_of(site.pool)
