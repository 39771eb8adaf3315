"""The model of bundles on top of the pool contract: live entries, replacement, and leftovers of crashes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fileupload.apps.session_attachments.bundle_index import ABANDONED_AFTER, SESSIONS, BundleEntry, read_entries
from fileupload.apps.session_attachments.bundles import Bundle, SessionBundles
from fileupload.apps.session_attachments.errors import BadBundleName
from fileupload.errors import FileMissing, TooLarge
from fileupload.identifiers import new_id
from fileupload.pool.base import Attempt
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.session_client import check_tidy, entries_of

OWN_SESSION, OTHER_SESSION = "a" * 40, "b" * 40


@pytest.fixture
def pool(pool_directory: str) -> DirectoryPool:
    return DirectoryPool(pool_directory, durable=False)


@pytest.fixture
def bundle(pool: DirectoryPool) -> Bundle:
    return Bundle(pool, OWN_SESSION, "letter")


def starting() -> UploadStatus:
    return UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp())


def fill(attempt: Attempt, files: tuple[tuple[str, bytes], ...]) -> UploadStatus:
    """Finish an attempt with the given files."""
    uploaded = []
    for name, content in files:
        writer = attempt.create_file()
        writer.write(content)
        writer.close()
        uploaded.append(
            UploadedFile(field="f", filename=name, content_type="text/plain", size=len(content), sha256=content.hex())
        )
    status = starting().done(tuple(uploaded), {})
    attempt.finish(status)
    return status


def run_upload(bundle: Bundle, *files: tuple[str, bytes], bucket_id: str = "") -> BundleEntry:
    """Run an upload as over HTTP, except for the last step: the replaced entries stay."""
    entry = bundle.index.announce(bucket_id or new_id(), sum(len(content) for _, content in files))
    status = fill(bundle.index.pool.begin(entry.bucket_id, starting()), files)
    bundle.index.accept(entry, status)
    return entry


def contents(bundle: Bundle) -> dict[str, bytes]:
    found = {}
    for attachment in bundle:
        with attachment.open() as file:
            found[attachment.name] = file.read()
    return found


def test_attachments_have_metadata_and_a_json_form(bundle: Bundle) -> None:
    """An attachment has a name, size, type, time and hash, and a JSON form with the predecessor's keys."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    run_upload(bundle, ("egg.txt", b"egg"))
    (attachment,) = bundle
    assert (attachment.name, attachment.size, attachment.mimetype) == ("egg.txt", 3, "text/plain")
    assert before <= attachment.created <= datetime.now(UTC)
    assert attachment.sha256 == b"egg".hex()
    created = attachment.created
    assert attachment.to_json() == {
        "name": "egg.txt",
        "size": 3,
        "mimetype": "text/plain",
        "created": created.strftime("%Y-%m-%d %H:%M"),
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created.microsecond // 1000:03d}Z",
    }


def test_attachments_are_listed_in_the_order_of_their_uploads(bundle: Bundle, pool: DirectoryPool) -> None:
    """The list is in the order of the uploads and of their files, not of names; a replacement is newer."""
    assert len(bundle) == 0
    run_upload(bundle, ("z", b"1"), ("y", b"2"))
    run_upload(bundle, ("x", b"3"))
    run_upload(bundle, ("z", b"4"))
    assert [attachment.name for attachment in bundle] == ["y", "x", "z"]
    assert len(bundle) == 3
    assert bundle.get("absent") is None
    bundle.remove_replaced()
    assert contents(bundle) == {"y": b"2", "x": b"3", "z": b"4"}
    check_tidy(pool, Path(pool.directory))


def test_a_second_one_of_a_name_replaces_the_first(bundle: Bundle, pool: DirectoryPool) -> None:
    """Accepted new bytes replace the old ones, which stay readable through files that are already open."""
    run_upload(bundle, ("a", b"old"))
    old = bundle.get("a")
    assert old is not None
    with old.open() as file:
        run_upload(bundle, ("a", b"new"))
        assert contents(bundle) == {"a": b"new"}
        bundle.remove_replaced()
        assert file.read() == b"old"
    with pytest.raises(FileMissing):
        old.open()
    assert old.delete() is False
    check_tidy(pool, Path(pool.directory))


def test_the_last_of_two_files_of_one_name_in_a_form_wins(bundle: Bundle, pool: DirectoryPool) -> None:
    """The last of two files with the same name in one stored upload wins; the files of a form have different names."""
    run_upload(bundle, ("a", b"1"), ("b", b"2"), ("a", b"3"))
    bundle.remove_replaced()
    assert contents(bundle) == {"b": b"2", "a": b"3"}
    check_tidy(pool, Path(pool.directory))


def test_the_later_upload_wins_though_clocks_differ(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload to a host with a slow clock is ordered after the uploads that the host sees."""
    run_upload(bundle, ("a", b"first"))
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    run_upload(bundle, ("a", b"second"))
    assert contents(bundle) == {"a": b"second"}


def test_uploads_are_ordered_by_their_start(bundle: Bundle, pool: DirectoryPool) -> None:
    """Uploads are ordered by their start, whichever finishes first."""
    slow = bundle.index.announce(new_id(), 4)
    attempt = pool.begin(slow.bucket_id, starting())
    run_upload(bundle, ("a", b"late"))
    bundle.remove_replaced()
    bundle.index.accept(slow, fill(attempt, (("a", b"slow"), ("b", b"slow"))))
    assert contents(bundle) == {"a": b"late", "b": b"slow"}
    bundle.remove_replaced()
    assert contents(bundle) == {"a": b"late", "b": b"slow"}
    check_tidy(pool, Path(pool.directory))


@pytest.mark.parametrize("state", ["announced", "running", "done"])
def test_only_accepted_uploads_count(bundle: Bundle, pool: DirectoryPool, state: str) -> None:
    """An upload that is not accepted is no attachment, and is kept while it is young or running."""
    entry = bundle.index.announce(new_id(), 4)
    if state != "announced":
        attempt = pool.begin(entry.bucket_id, starting())
        if state == "done":
            fill(attempt, (("a", b"1"),))
        else:
            assert list(bundle) == []
            attempt.fail(starting().failed(TooLarge("big")))
    assert list(bundle) == []
    assert [entry for _, entry in entries_of(pool)] == [entry]


@pytest.mark.parametrize("files", [1, 3])
def test_concurrent_deletions_report_success_to_one_caller(bundle: Bundle, pool: DirectoryPool, files: int) -> None:
    """Only one of several deletions reports success; deleting the last file removes the upload."""
    run_upload(bundle, *((f"{number}", b"x") for number in range(files)))
    for name in [attachment.name for attachment in bundle]:
        one, two = bundle.get(name), bundle.get(name)
        assert one is not None
        assert two is not None
        assert [one.delete(), two.delete(), one.delete()] == [True, False, False]
        check_tidy(pool, Path(pool.directory))
    assert list(bundle) == []
    assert list(pool.buckets()) == []
    assert list(pool.index.keys((SESSIONS,))) == []


def test_deleting_a_file_does_not_restore_a_replaced_one(bundle: Bundle, pool: DirectoryPool) -> None:
    """A replaced file left over by a crash is deleted together with its replacement."""
    run_upload(bundle, ("a", b"1"), ("b", b"1"))
    run_upload(bundle, ("a", b"2"))
    latest = bundle.get("a")
    assert latest is not None
    assert latest.delete() is True
    assert contents(bundle) == {"b": b"1"}
    check_tidy(pool, Path(pool.directory))


def test_moving_a_file_removes_it_from_the_bundle(bundle: Bundle, pool: DirectoryPool, tmp_path: Path) -> None:
    """A moved file is at the path given by the app, and no longer in the bundle."""
    run_upload(bundle, ("a", b"1"), ("b", b"2"))
    first, second = bundle
    first.move_to(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == b"1"
    assert contents(bundle) == {"b": b"2"}
    with pytest.raises(FileMissing):
        first.move_to(tmp_path / "again")
    with pytest.raises(OSError, match="No such file"):
        second.move_to(tmp_path / "absent" / "b")
    assert contents(bundle) == {"b": b"2"}
    second.move_to(tmp_path / "b")
    assert list(pool.buckets()) == []


def test_clearing_reports_each_removed_attachment(bundle: Bundle, pool: DirectoryPool) -> None:
    """Clearing a bundle reports each removed attachment and leaves other bundles; an empty bundle reports none."""
    run_upload(bundle, ("a", b"1"), ("b", b"2"))
    run_upload(bundle, ("c", b"3"))
    other = Bundle(pool, OWN_SESSION, "other")
    run_upload(other, ("a", b"4"))
    assert bundle.clear() == [True, True, True]
    assert bundle.clear() == []
    assert contents(other) == {"a": b"4"}
    check_tidy(pool, Path(pool.directory))


def test_bundles_of_two_sessions_are_separate(pool: DirectoryPool) -> None:
    """Bundles of the same name in two sessions are separate; clearing one session leaves the others."""
    mine, yours = SessionBundles(pool, lambda: OWN_SESSION), SessionBundles(pool, lambda: OTHER_SESSION)
    run_upload(mine.bundle("b"), ("a", b"mine"))
    run_upload(mine.bundle("ä"), ("a", b"mine"))
    run_upload(yours.bundle("b"), ("a", b"yours"))
    assert (list(mine), list(yours)) == (["b", "ä"], ["b"])
    mine.clear()
    assert (list(mine), list(yours)) == ([], ["b"])
    assert contents(yours.bundle("b")) == {"a": b"yours"}


def test_an_unfinished_upload_creates_no_bundle(pool: DirectoryPool) -> None:
    """An upload that is only announced, or failed, creates no bundle."""
    bundles = SessionBundles(pool, lambda: OWN_SESSION)
    bundles.bundle("b").index.announce(new_id(), 1)
    pool.index.put((SESSIONS, OWN_SESSION), BundleEntry(order=1, declared=1, bucket_id=new_id()).name)
    assert list(bundles) == []


def test_the_session_is_determined_when_a_bundle_is_accessed(pool: DirectoryPool) -> None:
    """The session is not determined before a bundle is accessed."""
    asked = []
    bundles = SessionBundles(pool, lambda: asked.append(1) or OWN_SESSION)  # type: ignore[func-returns-value]
    assert asked == []
    bundles.bundle("b")
    assert asked == [1]


@pytest.mark.parametrize("name", ["a", "Ä b", "delete", "...", "-", "a" * 140, "ä" * 70, "🎉", "a.b", "~", "CON"])
def test_a_bundle_accepts_any_name_of_up_to_140_bytes(pool: DirectoryPool, name: str) -> None:
    """A bundle accepts any name of up to 140 bytes, and keeps it unchanged."""
    bundles = SessionBundles(pool, lambda: OWN_SESSION)
    run_upload(bundles.bundle(name), ("a", b"1"))
    assert list(bundles) == [name]
    assert bundles.bundle(name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a\0", "a\n", "\x7f", "a" * 141, "ä" * 71, "\ud800", "a/b"])
def test_invalid_names_of_bundles_are_refused(pool: DirectoryPool, name: str) -> None:
    """Other names are refused with a sentence that describes valid names."""
    with pytest.raises(BadBundleName, match="1 to 140 bytes"):
        SessionBundles(pool, lambda: OWN_SESSION).bundle(name)


def aged(bundle: Bundle, seconds: float) -> BundleEntry:
    """Announce an upload at a time in the past."""
    entry = BundleEntry(order=int((time.time() - seconds) * 1000), declared=1, bucket_id=new_id())
    bundle.index.pool.index.put(bundle.index.key, entry.name)
    return entry


def test_listing_removes_the_remains_of_a_crash(bundle: Bundle, pool: DirectoryPool) -> None:
    """Listing removes uploads announced an hour ago that neither run nor were accepted."""
    never_begun, failed, running = (aged(bundle, ABANDONED_AFTER + 5) for _ in range(3))
    young = aged(bundle, ABANDONED_AFTER - 60)
    long_ago = timestamp(time.time() - ABANDONED_AFTER - 5)
    pool.record_refusal(failed.bucket_id, starting().failed(TooLarge("big"), at=long_ago))
    attempt = pool.begin(running.bucket_id, starting())
    assert list(bundle) == []
    left = {entry.bucket_id for _, entry in entries_of(pool)}
    assert left == {running.bucket_id, young.bucket_id}
    assert never_begun.bucket_id not in left
    assert [bucket.id for bucket in pool.buckets()] == [running.bucket_id]
    bundle.index.accept(running, fill(attempt, (("a", b"1"),)))
    assert contents(bundle) == {"a": b"1"}


def test_a_purged_upload_is_no_attachment(bundle: Bundle, pool: DirectoryPool) -> None:
    """A purged or cleared upload is no attachment, nor is a later foreign upload in its bucket."""
    entry = run_upload(bundle, ("a", b"1"))
    run_upload(bundle, ("b", b"2"))
    assert pool.clear(entry.bucket_id)
    fill(pool.begin(entry.bucket_id, starting()), (("a", b"foreign"),))
    time.sleep(0.002)
    assert contents(bundle) == {"b": b"2"}
    assert [entry.files for _, entry in entries_of(pool)] == [1]
    assert pool.find_bucket(entry.bucket_id) is not None


def test_a_name_that_is_no_valid_entry_is_ignored() -> None:
    """A name that is no valid entry is ignored."""
    name = f"{5:015d}-7-{'a' * 32}"
    assert read_entries(["", "x", name + "x", name[1:], name + ".accepted-1", "٣" + name[1:]]) == []
    assert read_entries([name]) == [BundleEntry(order=5, declared=7, bucket_id="a" * 32)]


def together(count: int, run: Callable[[int], int]) -> list[int]:
    """Run a function in threads that start at the same time."""
    barrier = threading.Barrier(count)

    def wait_and_run(number: int) -> int:
        barrier.wait(30)
        return run(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_run, range(count)))


def test_concurrent_uploads_of_one_name_leave_one_complete(bundle: Bundle, pool: DirectoryPool) -> None:
    """Of several racing uploads of one name exactly one is left, complete, and nothing of the others."""

    def run(number: int) -> int:
        run_upload(bundle, ("same", f"{number}".encode() * 50), (f"own-{number}", b"x"))
        bundle.remove_replaced()
        return number

    for _ in range(5):
        together(8, run)
        found = contents(bundle)
        assert set(found) == {"same", *(f"own-{number}" for number in range(8))}
        assert len(set(found["same"])) == 1
        assert len(found["same"]) == 50
        check_tidy(pool, Path(pool.directory))


@pytest.mark.parametrize("files", [1, 4])
def test_concurrent_clears_report_each_attachment_once(bundle: Bundle, pool: DirectoryPool, files: int) -> None:
    """Concurrent clearings of a bundle report each attachment as removed once, and leave nothing."""
    for _ in range(5):
        run_upload(bundle, *((f"{number}", b"x") for number in range(files)))
        results = together(6, lambda _: sum(bundle.clear()))
        assert sum(results) == files
        assert list(pool.buckets()) == []
        assert list(pool.index.keys((SESSIONS,))) == []
