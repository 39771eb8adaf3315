"""The contract of a pool, as tests: each pool's test class inherits this class and provides the pool."""

import io
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fileupload.errors import AlreadyDone, Busy, FileMissing, Interrupted, NotResumable, Superseded, TooLarge
from fileupload.pool.base import STALLED_AFTER, Attempt, Bucket, Pool
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.clock import Clock
from tests.support.waiting import wait_until

ID = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2
CONTENT = b"some bytes"


def starting() -> UploadStatus:
    """Return the first status of an attempt."""
    return UploadStatus(state=State.STARTING, size=100, started=timestamp(), updated=timestamp())


def uploaded(*sizes: int) -> tuple[UploadedFile, ...]:
    """Return what a protocol reports for files of these sizes."""
    return tuple(
        UploadedFile(field="f", filename=f"{n}.bin", content_type="text/plain", size=size, sha256="00")
        for n, size in enumerate(sizes)
    )


def store(attempt: Attempt, *contents: bytes) -> None:
    """Write files into an attempt."""
    for content in contents:
        writer = attempt.create_file()
        for byte in range(0, len(content), 4):
            writer.write(content[byte : byte + 4])
        writer.close()


def complete(pool: Pool, bucket_id: str = ID, *contents: bytes) -> UploadStatus:
    """Fill a bucket, and return its last status."""
    status = starting()
    attempt = pool.begin(bucket_id, status)
    store(attempt, *(contents or (CONTENT,)))
    status = status.done(uploaded(*(len(content) for content in contents or (CONTENT,))), {"title": ("x", "ü")})
    attempt.finish(status)
    return status


def fail(pool: Pool, bucket_id: str = ID, owner: str = "", at: str | None = None) -> UploadStatus:
    """Let an upload fail after it began, and return its last status."""
    attempt = pool.begin(bucket_id, replace(starting(), owner=owner))
    store(attempt, CONTENT)
    status = replace(starting(), owner=owner).failed(TooLarge("big"), at=at)
    attempt.fail(status)
    return status


def ago(seconds: float) -> str:
    """Return the timestamp of *ago* before now."""
    return timestamp(time.time() - seconds)


def read(bucket: Bucket, index: int = 0) -> bytes:
    """Return the bytes of a file of a finished upload."""
    with bucket.open(index) as file:
        return file.read()


# Names that a file system, an address or an object store might interpret specially or confuse with each other.
SEGMENTS = (
    *(
        "a",
        "A",
        "ä",
        "a\u0308",
        "ß",
        "ss",
        ".",
        "..",
        "...",
        "-",
        "+",
        "=",
        "~",
        "~a",
        "+a",
        "=a",
        "/",
        "a/b",
        "\\",
        "%2F",
    ),
    *(
        "\0",
        "a\nb",
        " ",
        " a",
        "a ",
        "a.",
        "CON",
        "con.txt",
        "x" * 140,
        "ü" * 70,
        "🎉",
        "\u202e",
        "\ud800",
        "*",
        "?",
        ":",
    ),
)


def at_once(count: int, run: Callable[[int], bool]) -> list[bool]:
    """Run a function in threads that start together; return the results."""
    together = threading.Barrier(count)

    def wait_and_run(number: int) -> bool:
        together.wait(30)
        return run(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_run, range(count)))


class PoolContract:
    """Subclass this, and provide the fixtures ``pool``, and ``reopened``: the same pool as another process sees it.

    :cvar races: how often a race is run: less often in a store, where each run is slow and has many conflicts.
    """

    races = 20

    def test_an_absent_bucket_is_none(self, pool: Pool) -> None:
        """A bucket that was never begun is absent, and clearing it reports that nothing was removed."""
        assert pool.find_bucket(ID) is None
        assert list(pool.buckets()) == []
        assert pool.clear(ID) is False

    def test_a_begun_upload_is_starting(self, pool: Pool, reopened: Pool) -> None:
        """Once an attempt begins, every process sees its status, and no file exists yet."""
        attempt = pool.begin(ID, starting())
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        assert bucket.get_status().state is State.STARTING
        assert bucket.get_status().running
        assert not bucket.is_complete()
        assert bucket.files == ()
        assert bucket.get_filename() is None
        with pytest.raises(FileMissing):
            bucket.open()
        attempt.fail(starting().failed(TooLarge("big")))

    def test_published_progress_is_seen(self, pool: Pool, reopened: Pool) -> None:
        """Readers see the progress that an attempt publishes."""
        attempt = pool.begin(ID, starting())
        running = UploadStatus(state=State.UPLOADING, filename="a", size=100, received=7, updated=timestamp())
        attempt.publish(running)
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        seen = bucket.get_status()
        assert (seen.state, seen.filename, seen.received) == (State.UPLOADING, "a", 7)
        attempt.fail(running.failed(TooLarge("big")))

    def test_a_finished_upload_has_its_status_and_bytes(self, pool: Pool, reopened: Pool) -> None:
        """A finished upload has the status that was given and the bytes that were written."""
        status = complete(pool, ID, CONTENT, b"", b"x" * 100_000)
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        found = bucket.get_status()
        assert bucket.is_complete()
        assert found.files == status.files
        assert found.fields == {"title": ("x", "ü")}
        assert found.finished == status.finished
        assert [read(bucket, n) for n in range(3)] == [CONTENT, b"", b"x" * 100_000]
        with pytest.raises(FileMissing):
            bucket.open(3)
        with pytest.raises(FileMissing):
            bucket.open(-1)

    def test_an_upload_without_files_is_finished(self, pool: Pool, reopened: Pool) -> None:
        """An upload may consist of text fields only: it is done, has no file, and is purged and cleared as others."""
        for bucket_id in (ID, OTHER):
            status = starting()
            attempt = pool.begin(bucket_id, status)
            attempt.finish(status.done((), {"title": ("x", "ü")}))
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        found = bucket.get_status()
        assert (found.state, found.files, found.size, found.received) == (State.DONE, (), 0, 0)
        assert found.fields == {"title": ("x", "ü")}
        assert bucket.is_complete()
        assert bucket.get_filename() is None
        assert not bucket.remove_file()
        with pytest.raises(FileMissing):
            bucket.open()
        with pytest.raises(FileMissing):
            bucket.url() or bucket.open()
        with pytest.raises(AlreadyDone):
            pool.begin(ID, starting())
        assert bucket.clear_upload()
        assert [each.id for each in reopened.purge(0)] == [OTHER]
        assert list(reopened.buckets()) == []

    def test_a_finished_bucket_takes_no_second_upload(self, pool: Pool, reopened: Pool) -> None:
        """Neither a new attempt nor a refusal changes a finished bucket, until it is cleared."""
        complete(pool)
        with pytest.raises(AlreadyDone):
            reopened.begin(ID, starting())
        reopened.record_refusal(ID, starting().failed(TooLarge("big")))
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT
        assert bucket.clear_upload() is True
        assert pool.find_bucket(ID) is None
        complete(pool)

    def test_the_index_of_a_discarded_file_is_reused(self, pool: Pool) -> None:
        """The file that follows a discarded one takes its index."""
        attempt = pool.begin(ID, starting())
        store(attempt, b"")
        attempt.discard_file()
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        assert read(bucket, 0) == CONTENT

    def test_a_failed_attempt_leaves_its_status_only(self, pool: Pool, reopened: Pool) -> None:
        """A failed attempt leaves its reason and no bytes, and a new attempt can finish."""
        attempt = pool.begin(ID, starting())
        attempt.create_file().write(CONTENT)
        attempt.fail(starting().failed(TooLarge("too big")))
        bucket = reopened.find_bucket(ID)
        assert bucket is not None
        status = bucket.get_status()
        assert (status.state, status.error, status.code) == (State.ERROR, "too big", "too-large")
        self.assert_no_bytes(pool)
        complete(pool)

    def test_a_refusal_is_recorded_unless_an_upload_runs(self, pool: Pool) -> None:
        """A refused upload leaves its reason and does not change a running one."""
        pool.record_refusal(ID, starting().failed(TooLarge("big")))
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        assert bucket.get_status().state is State.ERROR
        attempt = pool.begin(ID, starting())
        pool.record_refusal(ID, starting().failed(TooLarge("big")))
        assert bucket.get_status().state is State.STARTING
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        assert bucket.is_complete()

    def test_a_refusal_makes_no_bucket(self, pool: Pool, reopened: Pool) -> None:
        """A refusal is reported as the status and creates no bucket: it is neither listed nor purged."""
        status = starting().failed(TooLarge("too big"))
        pool.record_refusal(ID, status)
        found = reopened.bucket(ID).get_status()
        assert (found.state, found.code, found.error, found.finished) == (
            State.ERROR,
            "too-large",
            "too big",
            status.finished,
        )
        assert list(reopened.buckets()) == []
        assert list(reopened.purge(-1)) == []
        assert reopened.bucket(OTHER).get_status().state is State.UNKNOWN

    def test_a_refusal_is_removed_by_a_clear_or_after_an_hour(self, pool: Pool, reopened: Pool) -> None:
        """A refusal is removed when its id is cleared, even if the bucket was filled since, and after an hour."""
        pool.record_refusal(ID, starting().failed(TooLarge("big")))
        assert reopened.clear(ID, condition=lambda status: status.state is not State.ERROR) is False
        assert reopened.clear(ID) is True
        assert reopened.clear(ID) is False
        assert pool.find_bucket(ID) is None
        pool.record_refusal(ID, starting().failed(TooLarge("big")))
        complete(reopened)
        assert pool.bucket(ID).is_complete()
        assert pool.clear(ID) is True
        assert pool.find_bucket(ID) is None
        for seconds, state in ((3500, State.ERROR), (3700, State.UNKNOWN), (-3700, State.UNKNOWN)):
            pool.record_refusal(ID, starting().failed(TooLarge("big"), at=ago(seconds)))
            assert reopened.bucket(ID).get_status().state is state

    def test_the_register_of_refusals_is_bounded(self, pool: Pool) -> None:
        """Of two ids with the same slot the newer refusal is reported, and long texts are truncated."""
        neighbour = ID[:8] + OTHER[8:]
        pool.record_refusal(ID, starting().failed(TooLarge("first")))
        long = replace(starting(), filename="ü" * 4000, content_type="x" * 4000, owner="session:" + "f" * 40)
        pool.record_refusal(neighbour, long.failed(TooLarge("x" * 4000)))
        assert pool.bucket(ID).get_status().state is State.UNKNOWN
        found = pool.bucket(neighbour).get_status()
        assert (found.state, found.code, found.owner) == (State.ERROR, "too-large", long.owner)
        assert set(found.filename) <= {"ü"}
        assert set(found.error or "") == {"x"}

    def test_a_refusal_does_not_replace_the_status_of_another_owner(self, pool: Pool, reopened: Pool) -> None:
        """Only a refusal by the same owner replaces the reason of a failed upload; a suspended upload stays."""
        failed = fail(pool, owner="a")
        reopened.record_refusal(ID, replace(starting(), owner="b").failed(TooLarge("other")))
        found = pool.bucket(ID).get_status()
        assert (found.owner, found.error, found.finished) == ("a", "big", failed.finished)
        reopened.record_refusal(ID, replace(starting(), owner="a").failed(TooLarge("again")))
        found = pool.bucket(ID).get_status()
        assert (found.owner, found.error) == ("a", "again")
        assert found.attempt
        attempt = pool.begin(OTHER, replace(starting(), owner="a", resumable=True))
        attempt.suspend(attempt.status)
        reopened.record_refusal(OTHER, replace(starting(), owner="a").failed(TooLarge("other")))
        assert pool.bucket(OTHER).get_status().suspended

    def test_only_a_finished_bucket_is_done(self, pool: Pool, reopened: Pool) -> None:
        """A bucket is done only if it is finished: not if it is absent, running or failed."""
        assert not pool.is_done(ID)
        pool.record_refusal(ID, starting().failed(TooLarge("big")))
        assert not pool.is_done(ID)
        attempt = pool.begin(ID, starting())
        assert not reopened.is_done(ID)
        attempt.fail(starting().failed(TooLarge("big")))
        assert not reopened.is_done(ID)
        complete(pool)
        assert reopened.is_done(ID)
        reopened.clear(ID)
        assert not pool.is_done(ID)

    def test_the_owner_is_stored_and_not_sent_to_clients(self, pool: Pool, reopened: Pool) -> None:
        """The owner of an attempt is kept in every status and never included in an answer to a client."""
        attempt = pool.begin(ID, replace(starting(), owner="a", resumable=True))
        assert reopened.bucket(ID).get_status().owner == "a"
        attempt.create_file().write(CONTENT)
        attempt.suspend(attempt.status)
        assert reopened.bucket(ID).get_status().owner == "a"
        attempt = reopened.resume(ID)
        attempt.append_file()[0].close()
        assert attempt.status.owner == "a"
        attempt.finish(attempt.status.done(uploaded(len(CONTENT)), {}))
        pool.bucket(ID).keep()
        found = pool.bucket(ID).get_status()
        assert (found.state, found.owner, found.kept) == (State.DONE, "a", True)
        assert "owner" not in found.to_json()
        assert fail(pool, OTHER, owner="b").owner == reopened.bucket(OTHER).get_status().owner == "b"

    def test_a_bucket_is_cleared_under_a_condition(self, pool: Pool, reopened: Pool) -> None:
        """If the condition does not hold, the bucket stays unchanged: finished, kept, failed, suspended or running."""
        complete(pool)
        pool.bucket(ID).keep()
        fail(pool, OTHER, owner="a")
        suspended, running = "a" * 32, "b" * 32
        attempt = pool.begin(suspended, replace(starting(), owner="a", resumable=True))
        attempt.suspend(attempt.status)
        attempt = pool.begin(running, replace(starting(), owner="a"))
        seen = []

        def refuse(status: UploadStatus) -> bool:
            seen.append((status.state, status.owner, status.kept, status.suspended))
            return False

        ids = (ID, OTHER, suspended, running)
        before = [pool.bucket(bucket_id).get_status() for bucket_id in ids]
        for bucket_id in ids:
            assert reopened.clear(bucket_id, condition=refuse) is False
        assert [pool.bucket(bucket_id).get_status() for bucket_id in ids] == before
        assert set(seen) == {
            (State.DONE, "", True, False),
            (State.ERROR, "a", False, False),
            (State.STARTING, "a", False, True),
            (State.STARTING, "a", False, False),
        }
        assert reopened.clear(ID, unless_kept=True, condition=lambda _: True) is False
        assert [reopened.clear(bucket_id, condition=lambda _: True) for bucket_id in ids] == [True] * 4
        attempt.fail(starting().failed(Superseded()))
        assert list(pool.buckets()) == []

    @pytest.mark.full_with(place="swift")
    def test_one_of_concurrent_keep_and_clear_succeeds(self, pool: Pool, reopened: Pool) -> None:
        """Of concurrent calls to keep and to clear an upload exactly one succeeds."""

        def is_not_kept(status: UploadStatus) -> bool:
            return not status.kept

        for _ in range(self.races):
            complete(pool)

            def work(number: int) -> bool:
                if number:
                    return reopened.clear(ID, condition=is_not_kept)
                try:
                    pool.bucket(ID).keep()
                except FileMissing:
                    return False
                return True

            kept, cleared = at_once(2, work)
            assert kept is not cleared
            assert pool.bucket(ID).is_complete() is kept
            pool.clear(ID)

    def test_files_are_kept_and_removed_under_a_condition(self, pool: Pool) -> None:
        """If the condition does not hold, the upload is not kept and its file is not removed."""
        complete(pool)
        bucket = pool.bucket(ID)
        with pytest.raises(FileMissing):
            bucket.keep(condition=lambda status: status.owner == "a")
        assert not bucket.get_status().kept
        assert bucket.remove_file(condition=lambda status: status.owner == "a") is False
        assert read(bucket) == CONTENT
        bucket.keep(condition=lambda status: not status.owner)
        assert bucket.get_status().kept
        assert bucket.remove_file(condition=lambda status: not status.owner) is True

    def test_a_stalled_upload_is_purged(self, pool: Pool, reopened: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A running attempt without a heartbeat for a day and for the age is purged and gets an error; others stay."""
        monkeypatch.setattr("fileupload.pool.object.attempt._HEARTBEAT_INTERVAL", math.inf)  # on a slow machine, too
        stalled, younger = "a" * 32, "b" * 32
        attempts = {}
        for bucket_id, seconds in ((stalled, STALLED_AFTER + 60), (younger, STALLED_AFTER - 60)):
            status = replace(starting(), started=ago(STALLED_AFTER * 3), updated=ago(seconds))
            attempts[bucket_id] = pool.begin(bucket_id, status)
        assert reopened.bucket(stalled).get_status().running
        assert list(reopened.purge(STALLED_AFTER + 3600)) == []
        assert [bucket.id for bucket in reopened.purge(1, dry_run=True)] == [stalled]
        assert [bucket.id for bucket in reopened.purge(1)] == [stalled]
        assert [bucket.id for bucket in pool.buckets()] == [younger]
        with pytest.raises(Superseded):
            attempts[stalled].finish(starting().done(uploaded(0), {}))
        attempts[stalled].fail(starting().failed(Superseded()))
        attempts[younger].fail(starting().failed(TooLarge("big")))
        assert pool.find_bucket(stalled) is None

    def test_an_upload_that_grows_is_not_stalled(self, pool: Pool, reopened: Pool) -> None:
        """Arriving bytes count as a heartbeat, even if no status was published since."""
        attempt = pool.begin(ID, replace(starting(), updated=ago(STALLED_AFTER + 60)))
        writer = attempt.create_file()
        writer.write(CONTENT)
        wait_until(lambda: reopened.bucket(ID).get_status().received == len(CONTENT))
        assert list(reopened.purge(1)) == []
        writer.close()
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))

    def test_a_newer_attempt_supersedes_a_running_one(self, pool: Pool, reopened: Pool) -> None:
        """A superseded attempt is notified when it publishes, and its failure changes nothing."""
        old = pool.begin(ID, starting())
        old.create_file().write(b"old")
        new = reopened.begin(ID, starting())
        with pytest.raises(Superseded):
            old.publish(starting())
        old.fail(starting().failed(Superseded()))
        store(new, CONTENT)
        new.finish(starting().done(uploaded(len(CONTENT)), {}))
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT

    def test_a_superseded_attempt_cannot_finish(self, pool: Pool, reopened: Pool) -> None:
        """An attempt that is superseded just before its end changes nothing."""
        old = pool.begin(ID, starting())
        store(old, b"old")
        complete(reopened)
        with pytest.raises(Superseded):
            old.finish(starting().done(uploaded(3), {}))
        old.fail(starting().failed(Superseded()))
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT

    def test_clearing_ends_a_running_attempt(self, pool: Pool, reopened: Pool) -> None:
        """A reset takes the bucket from the running attempt, and later operations of that attempt change nothing."""
        attempt = pool.begin(ID, starting())
        store(attempt, CONTENT)
        assert reopened.clear(ID) is True
        assert pool.find_bucket(ID) is None
        with pytest.raises(Superseded):
            attempt.publish(starting())
        with pytest.raises(Superseded):
            attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        attempt.fail(starting().failed(Superseded()))
        assert pool.find_bucket(ID) is None
        self.assert_no_bytes(pool)

    def test_a_suspended_upload_can_be_resumed(self, pool: Pool, reopened: Pool) -> None:
        """A suspended upload is resumed from its stored bytes by another process, any number of times."""
        size = len(CONTENT)
        attempt = pool.begin(ID, replace(starting(), state=State.UPLOADING, resumable=True))
        attempt.create_file().write(CONTENT)
        attempt.suspend(replace(attempt.status, received=size))
        status = reopened.bucket(ID).get_status()
        assert (status.state, status.received, status.running, status.suspended) == ("uploading", size, False, True)
        for round_ in (1, 2):
            attempt = reopened.resume(ID)
            writer, stored = attempt.append_file()
            assert stored == size * round_
            writer.write(CONTENT)
            if round_ == 1:
                attempt.suspend(replace(attempt.status, received=2 * size))
        assert pool.bucket(ID).get_status().running
        writer.close()
        attempt.finish(attempt.status.done(uploaded(3 * size), {}))
        assert read(pool.bucket(ID)) == 3 * CONTENT
        assert pool.bucket(ID).clear_upload()
        self.assert_no_bytes(pool)

    def test_only_an_idle_unfinished_resumable_upload_can_be_resumed(self, pool: Pool, reopened: Pool) -> None:
        """An upload that is absent, failed, finished, not resumable or in use cannot be resumed."""
        with pytest.raises(NotResumable):
            pool.resume(ID)
        attempt = pool.begin(ID, starting())
        with pytest.raises(NotResumable):
            reopened.resume(ID)
        attempt = pool.begin(ID, replace(starting(), resumable=True))
        with pytest.raises(Busy):
            reopened.resume(ID)
        attempt.suspend(attempt.status)
        attempt = reopened.resume(ID)
        with pytest.raises(FileMissing):
            attempt.append_file()
        with pytest.raises(Busy):
            pool.resume(ID)
        attempt.fail(starting().failed(TooLarge("big")))
        with pytest.raises(NotResumable):
            pool.resume(ID)
        complete(pool)
        with pytest.raises(AlreadyDone):
            pool.resume(ID)

    def test_a_suspended_upload_is_superseded_refused_and_purged(
        self, pool: Pool, reopened: Pool, clock: Clock
    ) -> None:
        """A suspended upload is replaced by a new attempt, unchanged by a refusal, and purged once it is old."""
        for _ in range(2):
            attempt = pool.begin(ID, replace(starting(), resumable=True))
            attempt.create_file().write(CONTENT)
            attempt.suspend(attempt.status)
        reopened.record_refusal(ID, starting().failed(TooLarge("big")))
        assert reopened.bucket(ID).get_status().suspended
        assert list(reopened.purge(3600)) == []
        clock.advance(1)
        assert [bucket.id for bucket in reopened.purge(0.01)] == [ID]
        self.assert_no_bytes(pool)

    def test_a_resumable_upload_can_be_resumed_after_a_crash(self, crashed_resumable: Pool) -> None:
        """After a crash, the stored bytes of a resumable upload are a prefix of the bytes that were sent."""
        attempt = crashed_resumable.resume(ID)
        writer, stored = attempt.append_file()
        sent = bytes(range(256)) * (10 << 12)
        writer.write(sent[stored:])
        writer.close()
        attempt.finish(attempt.status.done(uploaded(len(sent)), {}))
        assert read(crashed_resumable.bucket(ID)) == sent

    def test_a_file_can_be_moved_out_of_the_bucket(self, pool: Pool, tmp_path: Path) -> None:
        """A moved file is at its target and no longer in the bucket, and the bucket is still done."""
        complete(pool, ID, CONTENT, b"second")
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        target = tmp_path / "target.bin"
        target.write_bytes(b"old")
        bucket.move_to(str(target))
        assert target.read_bytes() == CONTENT
        assert bucket.is_complete()
        assert bucket.get_filename() is None
        with pytest.raises(FileMissing):
            bucket.open()
        with pytest.raises(FileMissing):
            bucket.move_to(str(target))
        assert read(bucket, 1) == b"second"

    def test_a_file_can_be_copied_out_of_the_bucket(self, pool: Pool, tmp_path: Path) -> None:
        """A copied file is complete at its target and still in the bucket."""
        complete(pool)
        bucket = pool.bucket(ID)
        target = tmp_path / "copy.bin"
        target.write_bytes(b"old")
        bucket.download_to(target)
        assert target.read_bytes() == read(bucket) == CONTENT
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy.bin"]
        with pytest.raises(FileMissing):
            bucket.download_to(target, 1)

    def test_a_failed_move_keeps_the_file(self, pool: Pool, tmp_path: Path) -> None:
        """A file stays in the bucket if the target of the move cannot be written."""
        complete(pool)
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        with pytest.raises(OSError, match="No such file"):
            bucket.move_to(str(tmp_path / "absent" / "target.bin"))
        assert read(bucket) == CONTENT

    def test_open_files_are_seekable_streams(self, pool: Pool) -> None:
        """The app can read a file in pieces and from any offset."""
        complete(pool)
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        with bucket.open() as file:
            file.seek(5, io.SEEK_SET)
            assert file.read(2) == CONTENT[5:7]

    def test_buckets_are_listed(self, pool: Pool) -> None:
        """All buckets are listed in every state."""
        complete(pool)
        fail(pool, OTHER)
        assert {bucket.id for bucket in pool.buckets()} == {ID, OTHER}

    def test_purge_removes_old_uploads(self, pool: Pool, reopened: Pool, clock: Clock) -> None:
        """Purging removes old finished and failed uploads and keeps younger and running ones."""
        complete(pool)
        fail(pool, OTHER)
        running = "a" * 32
        attempt = pool.begin(running, starting())
        assert list(reopened.purge(3600)) == []
        clock.advance(1)
        assert {bucket.id for bucket in reopened.purge(0.01, dry_run=True)} == {ID, OTHER}
        assert {bucket.id for bucket in reopened.purge(0.01)} == {ID, OTHER}
        assert [bucket.id for bucket in pool.buckets()] == [running]
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))

    def test_removing_a_file_keeps_the_other_files_and_the_status(self, pool: Pool, reopened: Pool) -> None:
        """Removing a file is reported once, keeps the other files and the status, and leaves open files readable."""
        complete(pool, ID, CONTENT, b"second")
        bucket, other = pool.find_bucket(ID), reopened.find_bucket(ID)
        assert bucket is not None
        assert other is not None
        with bucket.open(1) as file:
            assert [bucket.remove_file(1), other.remove_file(1)] == [True, False]
            assert file.read() == b"second"
        with pytest.raises(FileMissing):
            other.open(1)
        assert [bucket.remove_file(2), bucket.remove_file(-1)] == [False, False]
        assert read(bucket, 0) == CONTENT
        assert len(bucket.files) == 2
        with pytest.raises(AlreadyDone):
            pool.begin(ID, starting())
        assert bucket.remove_file() is True
        assert bucket.is_complete()
        assert bucket.clear_upload() is True
        assert bucket.remove_file() is False

    def test_only_finished_files_are_removed(self, pool: Pool) -> None:
        """A running upload has no file that could be removed."""
        attempt = pool.begin(ID, starting())
        store(attempt, CONTENT)
        assert pool.bucket(ID).remove_file() is False
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        assert read(pool.bucket(ID)) == CONTENT

    def test_unless_kept_clears_all_uploads_except_kept_ones(self, pool: Pool) -> None:
        """Clearing with ``unless_kept`` removes all uploads except kept ones."""
        complete(pool)
        pool.bucket(ID).keep()
        complete(pool, OTHER)
        assert pool.clear(ID, unless_kept=True) is False
        assert pool.clear(OTHER, unless_kept=True) is True
        assert read(pool.bucket(ID)) == CONTENT
        assert pool.clear(ID) is True

    def test_a_kept_upload_is_not_purged(self, pool: Pool, reopened: Pool, clock: Clock) -> None:
        """A kept upload is not purged at any age, is otherwise unchanged, and loses the mark when it is cleared."""
        status = complete(pool)
        bucket = pool.find_bucket(ID)
        assert bucket is not None
        bucket.keep()
        bucket.keep()
        clock.advance(1)
        assert list(reopened.purge(0.01)) == []
        found = bucket.get_status()
        assert (found.kept, found.finished, found.files) == (True, status.finished, status.files)
        assert "kept" not in found.to_json()
        assert read(bucket) == CONTENT
        assert bucket.clear_upload() is True
        complete(pool)
        clock.advance(1)
        assert [purged.id for purged in reopened.purge(0.01)] == [ID]

    def test_only_finished_uploads_are_kept(self, pool: Pool) -> None:
        """An upload that is absent or unfinished cannot be kept."""
        with pytest.raises(FileMissing):
            pool.bucket(ID).keep()
        attempt = pool.begin(ID, starting())
        with pytest.raises(FileMissing):
            pool.bucket(ID).keep()
        attempt.fail(starting().failed(TooLarge("big")))
        with pytest.raises(FileMissing):
            pool.bucket(ID).keep()

    @pytest.mark.full_with(place="swift")
    def test_concurrent_clears_report_success_to_one_caller(self, pool: Pool, reopened: Pool) -> None:
        """Clearing a bucket concurrently reports success to exactly one caller."""
        for _ in range(self.races):
            complete(pool)
            assert sum(at_once(6, lambda number: (pool, reopened)[number % 2].clear(ID))) == 1
            assert pool.find_bucket(ID) is None

    @pytest.mark.parametrize("ahead", [10.0, 3600.0, 10 * 365 * 86400.0])
    def test_an_upload_from_a_clock_ahead_expires(self, pool: Pool, reopened: Pool, clock: Clock, ahead: float) -> None:
        """Finished and failed uploads of a host whose clock was ahead are purged, later by the difference at most."""
        day = 86400.0
        clock.advance(ahead)
        complete(pool)
        fail(pool, OTHER)
        clock.advance(-ahead)
        assert list(reopened.purge(day)) == []
        assert reopened.bucket(ID).idle() < 600
        clock.advance(day / 2)
        assert list(reopened.purge(day)) == []
        clock.advance(day / 2 + 60 + min(ahead, 3600.0))
        assert sorted(bucket.id for bucket in reopened.purge(day)) == sorted([ID, OTHER])
        assert pool.bucket(ID).idle() == math.inf

    def test_an_interval_lease_from_a_clock_ahead_blocks_nothing(
        self, pool: Pool, reopened: Pool, clock: Clock
    ) -> None:
        """A lease that was acquired while a clock was years ahead does not stop others once it is corrected."""
        clock.advance(10 * 365 * 86400.0)
        assert pool.acquire_interval_lease(1000)
        clock.advance(-10 * 365 * 86400.0 + 1001)
        assert [reopened.acquire_interval_lease(1000), reopened.acquire_interval_lease(1000)] == [True, False]

    def test_an_interval_lease_is_given_once(self, pool: Pool, reopened: Pool, clock: Clock) -> None:
        """In each interval, exactly one caller gets the lease."""
        assert [
            pool.acquire_interval_lease(1000),
            reopened.acquire_interval_lease(1000),
            pool.acquire_interval_lease(1000),
        ].count(True) == 1
        clock.advance(1)
        assert reopened.acquire_interval_lease(0.01)

    def test_interval_leases_have_names(self, pool: Pool, reopened: Pool) -> None:
        """Leases with different names are independent."""
        assert pool.acquire_interval_lease(1000)
        assert [pool.acquire_interval_lease(1000, "one"), reopened.acquire_interval_lease(1000, "one")] == [True, False]
        assert [
            reopened.acquire_interval_lease(1000, "two"),
            pool.acquire_interval_lease(1000, "two"),
            pool.acquire_interval_lease(1000),
        ] == [
            True,
            False,
            False,
        ]

    def test_the_index_returns_stored_texts(self, pool: Pool, reopened: Pool) -> None:
        """The index returns a text by key and name to all processes, until it is replaced or removed."""
        key = ("app", "first")
        assert pool.index.get(key, "a") is None
        assert pool.index.names(key) == []
        assert pool.index.remove(key, "a") is False
        for text in ("", "text", "ünï\n" * 1000):
            assert pool.index.put(key, "a", text) is True
            assert reopened.index.get(key, "a") == text
        assert reopened.index.remove(key, "a") is True
        assert (pool.index.get(key, "a"), pool.index.remove(key, "a")) == (None, False)

    def test_a_new_name_does_not_replace_an_existing_text(self, pool: Pool, reopened: Pool) -> None:
        """A new name is stored only if it does not exist; otherwise the existing text stays."""
        key = ("app",)
        assert [pool.index.put(key, "a", "1", new=True), reopened.index.put(key, "a", "2", new=True)] == [True, False]
        assert pool.index.get(key, "a") == "1"
        assert pool.index.remove(key, "a")
        assert reopened.index.put(key, "a", "3", new=True) is True

    def test_names_and_keys_are_listed(self, pool: Pool) -> None:
        """The names of a key are listed in order, without nested ones; only keys that hold an entry are listed."""
        for key, name in [(("b",), "z"), (("b",), "a"), (("b", "c", "d"), "x"), (("bc",), "y"), (("e", "f"), "x")]:
            pool.index.put(key, name)
        assert pool.index.names(("b",)) == ["a", "z"]
        assert pool.index.names(("b", "c")) == []
        assert sorted(pool.index.keys(("b",))) == [("b",), ("b", "c", "d")]
        assert sorted(pool.index.keys(("b", "c"))) == [("b", "c", "d")]
        assert sorted(pool.index.keys(())) == [("b",), ("b", "c", "d"), ("bc",), ("e", "f")]
        assert list(pool.index.keys(("x",))) == []
        pool.index.remove(("b", "c", "d"), "x")
        assert list(pool.index.keys(("b", "c"))) == []

    @pytest.mark.full_with(place="swift")
    @pytest.mark.parametrize("word", SEGMENTS, ids=range(len(SEGMENTS)))
    def test_keys_and_names_of_the_index_may_be_any_text(self, pool: Pool, word: str) -> None:
        """Words and names of 1 to 140 bytes are returned unchanged and never confused with each other."""
        assert pool.index.put((word, word), word, word)
        assert pool.index.put((word,), "x" if word != "x" else "y")
        assert sorted(pool.index.keys((word,))) == [(word,), (word, word)]
        assert pool.index.names((word, word)) == [word]
        assert pool.index.get((word, word), word) == word
        for other in SEGMENTS:
            if other != word:
                assert pool.index.get((word, word), other) is None
                assert pool.index.names((other, word)) == []
        assert pool.index.remove((word, word), word)

    @pytest.mark.parametrize("word", ["", "x" * 141, "ü" * 71])
    def test_an_empty_or_overlong_key_or_name_is_an_error(self, pool: Pool, word: str) -> None:
        """An empty word or name, or one past 140 bytes, is an error."""
        with pytest.raises(ValueError, match="140 bytes"):
            pool.index.put(("a", word), "b")
        with pytest.raises(ValueError, match="140 bytes"):
            pool.index.put(("a",), word)

    @pytest.mark.full_with(place="swift")
    def test_one_of_many_concurrent_callers_gets_a_new_name(self, pool: Pool, reopened: Pool) -> None:
        """Of many callers that race for a new name one succeeds, and its text is kept."""
        for turn in range(self.races):

            def put(number: int, name: str = str(turn)) -> bool:
                return (pool, reopened)[number % 2].index.put(("app", "race"), name, str(number), new=True)

            results = at_once(8, put)
            assert sum(results) == 1
            assert pool.index.get(("app", "race"), str(turn)) == str(results.index(True))

    @pytest.mark.full_with(place="swift")
    def test_concurrent_changes_under_one_key_lose_no_text(self, pool: Pool, reopened: Pool) -> None:
        """While other threads put and remove entries under a key, no text is lost and no removed text reappears."""

        def work(number: int) -> bool:
            index = (pool, reopened)[number % 2].index
            key = ("app", "race", "deep")
            for turn in range(2 * self.races):
                name = f"{number}-{turn}"
                assert index.put(key, name, name)
                assert index.get(key, name) == name
                assert name in index.names(key)
                assert index.remove(key, name)
                assert index.get(key, name) is None
            return index.put(key, f"last-{number}")

        assert all(at_once(6, work))
        assert pool.index.names(("app", "race", "deep")) == [f"last-{number}" for number in range(6)]

    def test_the_key_is_made_once(self, pool: Pool, reopened: Pool) -> None:
        """All processes that share the pool share its key."""
        keys = pool.signing_keys()
        assert keys == reopened.signing_keys() == pool.signing_keys()
        assert len(keys[0]) >= 32

    def test_a_lost_key_is_restored(self, pool: Pool, reopened: Pool) -> None:
        """The first process that finds the key missing restores its own, and all others adopt it."""
        keys = pool.signing_keys()
        self.lose_key(pool)
        assert pool.signing_keys((*keys, "an-older-one")) == (*keys, "an-older-one")
        assert reopened.signing_keys(("another",)) == (*keys, "an-older-one")

    def lose_key(self, pool: Pool) -> None:
        """Remove the key from the pool."""
        raise NotImplementedError

    def test_an_invalid_id_never_reaches_the_storage(self, pool: Pool) -> None:
        """A name that is not a valid id never reaches the storage."""
        for name in ("", "..", "../../etc", "a" * 31, "A" * 32, "a" * 32 + "/x"):
            assert pool.find_bucket(name) is None
            with pytest.raises(ValueError, match="not the id"):
                pool.begin(name, starting())
            with pytest.raises(ValueError, match="not the id"):
                pool.clear(name)

    def test_an_attempt_of_a_crashed_process_is_interrupted(self, crashed: Pool) -> None:
        """After a crash the status is interrupted, and a new attempt can finish."""
        bucket = crashed.find_bucket(ID)
        assert bucket is not None
        status = bucket.get_status()
        assert (status.state, status.code) == (State.ERROR, Interrupted.code)
        complete(crashed)
        assert read(bucket) == CONTENT

    def assert_no_bytes(self, pool: Pool) -> None:
        """Check that no file bytes are left anywhere in the pool."""
        raise NotImplementedError
