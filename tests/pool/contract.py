"""The contract of a pool, as tests: a class that every pool's tests inherit and give a pool to."""

import io
import time
from pathlib import Path

import pytest

from fileupload.errors import AlreadyDone, FileMissing, Interrupted, Superseded, TooLarge
from fileupload.pool.base import Attempt, Bucket, Pool
from fileupload.status import State, UploadedFile, UploadStatus, timestamp

ID = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2
CONTENT = b"some bytes"


def starting() -> UploadStatus:
    """The first status of an attempt."""
    return UploadStatus(state=State.STARTING, size=100, started=timestamp(), updated=timestamp())


def uploaded(*sizes: int) -> tuple[UploadedFile, ...]:
    """What a protocol tells of files of these sizes."""
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


def read(bucket: Bucket, index: int = 0) -> bytes:
    """Return the bytes of a file of a finished upload."""
    with bucket.open(index) as file:
        return file.read()


class PoolContract:
    """Subclass this, and give a fixture ``pool``, and ``reopened``: the same pool as another process sees it."""

    def test_an_absent_bucket_is_none(self, pool: Pool) -> None:
        """What was never begun is not there, and clearing it tells so."""
        assert pool.bucket(ID) is None
        assert list(pool.buckets()) == []
        assert pool.clear(ID) is False

    def test_a_begun_upload_is_starting(self, pool: Pool, reopened: Pool) -> None:
        """From the beginning of an attempt its status is there for all, and no file is."""
        attempt = pool.begin(ID, starting())
        bucket = reopened.bucket(ID)
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
        """What an attempt publishes is what others read."""
        attempt = pool.begin(ID, starting())
        running = UploadStatus(state=State.UPLOADING, filename="a", size=100, received=7, updated=timestamp())
        attempt.publish(running)
        bucket = reopened.bucket(ID)
        assert bucket is not None
        seen = bucket.get_status()
        assert (seen.state, seen.filename, seen.received) == (State.UPLOADING, "a", 7)
        attempt.fail(running.failed(TooLarge("big")))

    def test_a_finished_upload_has_its_status_and_bytes(self, pool: Pool, reopened: Pool) -> None:
        """Done means: the status as given, and the bytes as written."""
        status = complete(pool, ID, CONTENT, b"", b"x" * 100_000)
        bucket = reopened.bucket(ID)
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

    def test_a_finished_bucket_takes_no_second_upload(self, pool: Pool, reopened: Pool) -> None:
        """Neither a new attempt nor a refusal changes a finished bucket, until it is cleared."""
        complete(pool)
        with pytest.raises(AlreadyDone):
            reopened.begin(ID, starting())
        reopened.refuse(ID, starting().failed(TooLarge("big")))
        bucket = reopened.bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT
        assert bucket.clear_upload() is True
        assert pool.bucket(ID) is None
        complete(pool)

    def test_a_discarded_file_never_was(self, pool: Pool) -> None:
        """The file after a discarded one takes its place."""
        attempt = pool.begin(ID, starting())
        store(attempt, b"")
        attempt.discard_file()
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        bucket = pool.bucket(ID)
        assert bucket is not None
        assert read(bucket, 0) == CONTENT

    def test_a_failed_attempt_leaves_its_status_only(self, pool: Pool, reopened: Pool) -> None:
        """After a failure the reason is there, no bytes are, and a new attempt can finish."""
        attempt = pool.begin(ID, starting())
        attempt.create_file().write(CONTENT)
        attempt.fail(starting().failed(TooLarge("too big")))
        bucket = reopened.bucket(ID)
        assert bucket is not None
        status = bucket.get_status()
        assert (status.state, status.error, status.code) == (State.ERROR, "too big", "too-large")
        self.assert_no_bytes(pool)
        complete(pool)

    def test_a_refusal_is_kept_where_nothing_runs(self, pool: Pool) -> None:
        """A refused upload leaves its reason, and does not touch one that runs."""
        pool.refuse(ID, starting().failed(TooLarge("big")))
        bucket = pool.bucket(ID)
        assert bucket is not None
        assert bucket.get_status().state is State.ERROR
        attempt = pool.begin(ID, starting())
        pool.refuse(ID, starting().failed(TooLarge("big")))
        assert bucket.get_status().state is State.STARTING
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        assert bucket.is_complete()

    def test_a_newer_attempt_supersedes(self, pool: Pool, reopened: Pool) -> None:
        """The older attempt learns of it when it publishes, and its failure changes nothing."""
        old = pool.begin(ID, starting())
        old.create_file().write(b"old")
        new = reopened.begin(ID, starting())
        with pytest.raises(Superseded):
            old.publish(starting())
        old.fail(starting().failed(Superseded()))
        store(new, CONTENT)
        new.finish(starting().done(uploaded(len(CONTENT)), {}))
        bucket = pool.bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT

    def test_a_superseded_attempt_cannot_finish(self, pool: Pool, reopened: Pool) -> None:
        """An attempt that was overtaken just before its end changes nothing."""
        old = pool.begin(ID, starting())
        store(old, b"old")
        complete(reopened)
        with pytest.raises(Superseded):
            old.finish(starting().done(uploaded(3), {}))
        old.fail(starting().failed(Superseded()))
        bucket = pool.bucket(ID)
        assert bucket is not None
        assert read(bucket) == CONTENT

    def test_clearing_ends_a_running_attempt(self, pool: Pool, reopened: Pool) -> None:
        """A reset takes the bucket from the attempt that runs, whatever it does next."""
        attempt = pool.begin(ID, starting())
        store(attempt, CONTENT)
        assert reopened.clear(ID) is True
        assert pool.bucket(ID) is None
        with pytest.raises(Superseded):
            attempt.publish(starting())
        with pytest.raises(Superseded):
            attempt.finish(starting().done(uploaded(len(CONTENT)), {}))
        attempt.fail(starting().failed(Superseded()))
        assert pool.bucket(ID) is None
        self.assert_no_bytes(pool)

    def test_files_move_out(self, pool: Pool, tmp_path: Path) -> None:
        """A moved file is at its new place, no longer in the bucket, and the bucket still says done."""
        complete(pool, ID, CONTENT, b"second")
        bucket = pool.bucket(ID)
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

    def test_a_move_to_nowhere_keeps_the_file(self, pool: Pool, tmp_path: Path) -> None:
        """Where the target cannot be written the file stays in the bucket."""
        complete(pool)
        bucket = pool.bucket(ID)
        assert bucket is not None
        with pytest.raises(OSError, match="No such file"):
            bucket.move_to(str(tmp_path / "absent" / "target.bin"))
        assert read(bucket) == CONTENT

    def test_open_files_are_seekable_streams(self, pool: Pool) -> None:
        """The app can read a file in pieces and from any place."""
        complete(pool)
        bucket = pool.bucket(ID)
        assert bucket is not None
        with bucket.open() as file:
            file.seek(5, io.SEEK_SET)
            assert file.read(2) == CONTENT[5:7]

    def test_buckets_are_listed(self, pool: Pool) -> None:
        """All buckets are listed, whatever their state."""
        complete(pool)
        pool.refuse(OTHER, starting().failed(TooLarge("big")))
        assert {bucket.id for bucket in pool.buckets()} == {ID, OTHER}

    def test_purge_removes_what_is_old(self, pool: Pool, reopened: Pool) -> None:
        """Finished and failed uploads of the age go; younger ones, and running ones of any age, stay."""
        complete(pool)
        pool.refuse(OTHER, starting().failed(TooLarge("big")))
        running = "a" * 32
        attempt = pool.begin(running, starting())
        assert list(reopened.purge(3600)) == []
        time.sleep(0.02)
        assert {bucket.id for bucket in reopened.purge(0.01, dry_run=True)} == {ID, OTHER}
        assert {bucket.id for bucket in reopened.purge(0.01)} == {ID, OTHER}
        assert [bucket.id for bucket in pool.buckets()] == [running]
        store(attempt, CONTENT)
        attempt.finish(starting().done(uploaded(len(CONTENT)), {}))

    def test_turns_are_taken_once(self, pool: Pool, reopened: Pool) -> None:
        """In an interval, one caller of all gets the turn."""
        assert [pool.take_turn(1000), reopened.take_turn(1000), pool.take_turn(1000)].count(True) == 1
        time.sleep(0.02)
        assert reopened.take_turn(0.01)

    def test_the_key_is_made_once(self, pool: Pool, reopened: Pool) -> None:
        """All processes that share the pool share its key."""
        keys = pool.signing_keys()
        assert keys == reopened.signing_keys() == pool.signing_keys()
        assert len(keys[0]) >= 32

    def test_only_ids_name_buckets(self, pool: Pool) -> None:
        """A name that is no id never reaches the storage."""
        for name in ("", "..", "../../etc", "a" * 31, "A" * 32, "a" * 32 + "/x"):
            assert pool.bucket(name) is None
            with pytest.raises(ValueError, match="not the id"):
                pool.begin(name, starting())
            with pytest.raises(ValueError, match="not the id"):
                pool.clear(name)

    def test_an_attempt_whose_process_died_is_interrupted(self, crashed: Pool) -> None:
        """After a crash the status says so, and a new attempt can finish."""
        bucket = crashed.bucket(ID)
        assert bucket is not None
        status = bucket.get_status()
        assert (status.state, status.code) == (State.ERROR, Interrupted.code)
        complete(crashed)
        assert read(bucket) == CONTENT

    def assert_no_bytes(self, pool: Pool) -> None:
        """Check that no file bytes are left anywhere in the pool."""
        raise NotImplementedError
