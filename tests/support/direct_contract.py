"""The contract of direct uploads, as tests: each pool's test class inherits this class and provides the pool."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product

import pytest

from fileupload.errors import AlreadyDone, Busy, Incomplete, Superseded, UploadError
from fileupload.manager import UploadManager
from fileupload.pool.base import Attempt, Pool
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.settings import Settings
from fileupload.status import State, UploadStatus, seconds_of
from tests.support.clock import Clock
from tests.support.crash_process import CONTENT
from tests.support.upload_clients import (
    HOUR,
    ID,
    LIFE,
    RefusedError,
    address,
    addresses,
    assemble,
    begin,
    complete,
    finish,
    post,
    read,
    receive,
    send_all,
)
from tests.support.waiting import PATIENCE

STATES = ("begun", "in part", "sent", "being completed", "assembled", "done", "failed")


class DirectContract:
    """Subclass this, and provide the fixtures ``pool``, ``reopened`` (as another process sees it) and ``contents``."""

    def everything(self, pool: Pool) -> list[str]:
        """Return the names of everything in the buckets and of all unfinished uploads that the store keeps."""
        raise NotImplementedError

    def bytes_in(self, pool: Pool) -> list[str]:
        """Return the names of the objects that hold uploaded bytes."""
        raise NotImplementedError

    def test_parts_may_arrive_in_any_order(self, pool: Pool, reopened: Pool, contents: list[bytes]) -> None:
        """Parts arrive concurrently, in reverse order, some twice; the last complete one of each number is kept.

        Of two that arrive at the same time, our own server may refuse the one that it received first.
        """
        sending = addresses(pool, begin(pool, [*map(len, contents)]), contents)

        def send(number: int) -> None:
            with suppress(RefusedError):
                sending[number](contents[number])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(send, [2, 1, 1, 0]))
        changed = b"z" * len(contents[1])
        sending[1](changed)
        expected = contents[0] + changed + contents[2]
        assert complete(reopened, hashed=True) == hashlib.sha256(expected).hexdigest()
        assert read(pool) == expected
        assert len(self.bytes_in(pool)) == 1

    @pytest.mark.parametrize("content", [b"", b"only"], ids=["empty", "short"])
    def test_a_small_or_empty_file_has_one_part(self, pool: Pool, reopened: Pool, content: bytes) -> None:
        """A small file has one part, and so does an empty one."""
        send_all(pool, begin(pool, [len(content)]), [content])
        assert complete(reopened, hashed=True) == hashlib.sha256(content).hexdigest()
        assert read(pool) == content
        assert len(self.bytes_in(pool)) == 1

    def test_a_form_uploads_the_whole_file(self, pool: Pool, reopened: Pool) -> None:
        """A form uploads the whole file, by the store's policy or to our own server; the last form is kept."""
        direct = reopened.direct(ID, begin(pool, [6], form=True))
        form = direct.form(0, 10, "image/png", LIFE)
        for content in (b"first", b"second"):
            post(form, content) if form else receive(direct, content)
        assert pool.bucket(ID).get_status().received == 6
        assert [(part.number, part.size) for part in direct.parts()] == [(1, 6)]
        assert complete(reopened, hashed=True) == hashlib.sha256(b"second").hexdigest()
        assert read(pool) == b"second"
        assert len(self.bytes_in(pool)) == 1

    def test_a_newer_form_supersedes_one_that_is_being_received(self, pool: Pool, reopened: Pool) -> None:
        """If our own server receives forms, a newer form supersedes one that is still being received."""
        token = begin(pool, [6], form=True)
        direct = pool.direct(ID, token)
        if direct.form(0, 10, "image/png", LIFE) is not None:
            pytest.skip("the store takes it by itself")
        older = direct.receive_part(1, 6, 6)
        older.write(b"old")
        newer = reopened.direct(ID, token).receive_part(1, 6, 6)
        newer.write(b"second")
        with pytest.raises(Superseded):
            older.close()
        older.abandon()
        newer.close()
        assert complete(pool, hashed=True) == hashlib.sha256(b"second").hexdigest()
        assert len(self.bytes_in(pool)) == 1

    def test_stored_parts_are_visible_to_all_processes(self, pool: Pool, reopened: Pool, contents: list[bytes]) -> None:
        """All processes see the numbers, sizes and ETags of the parts, and the status has the size and the time."""
        began = time.time() - HOUR
        token = begin(pool, [*map(len, contents)], at=began)
        status = reopened.bucket(ID).get_status()
        assert (status.state, status.received, status.running) == (State.UPLOADING, 0, False)
        assert seconds_of(status.updated or "") == pytest.approx(began, abs=1)
        assert list(reopened.direct(ID, token).parts()) == []
        sending = addresses(pool, token, contents)
        etags = {number: sending[number - 1](contents[number - 1]) for number in (3, 1)}
        found = reopened.direct(ID, token).parts()
        assert [(part.number, part.size, part.etag) for part in found] == [
            (number, len(contents[number - 1]), etags[number]) for number in (1, 3)
        ]
        status = reopened.bucket(ID).get_status()
        assert status.received == len(contents[0]) + len(contents[2])
        assert seconds_of(status.updated or "") > began + HOUR / 2
        assert sending[0](b"z" * len(contents[0])) != etags[1]

    def test_a_part_that_changes_before_the_assembly_is_not_accepted(self, pool: Pool, contents: list[bytes]) -> None:
        """A part that changes between the listing of the parts and the assembly of the file is not accepted."""
        sending = send_all(pool, begin(pool, [*map(len, contents)]), contents)
        attempt = pool.resume(ID)
        direct = pool.direct(ID, attempt.token)
        parts = direct.parts()
        sending[1](b"z" * len(contents[1]))
        with pytest.raises(Incomplete):
            direct.assemble(parts, hashed=False)
        direct.abandon()
        attempt.fail(attempt.status.failed(Incomplete("changed")))
        assert self.bytes_in(pool) == []

    def test_a_late_part_is_not_included(self, pool: Pool, reopened: Pool, contents: list[bytes]) -> None:
        """A part that arrives after the file is assembled, before or after completion, is not included and not kept."""
        sending = send_all(pool, begin(pool, [*map(len, contents)]), contents)
        attempt, parts = assemble(reopened)
        for send, content in zip(sending, contents, strict=True):
            with suppress(RefusedError):
                send(b"z" * len(content))
        finish(attempt, parts)
        assert len(self.bytes_in(pool)) == 1
        for _ in ("done", "cleared"):
            for send, content in zip(sending, contents, strict=True):
                with pytest.raises(RefusedError):
                    send(b"z" * len(content))
            if pool.bucket(ID).is_complete():
                assert read(pool) == b"".join(contents)
                assert len(self.bytes_in(pool)) == 1
                assert pool.clear(ID)
        assert self.everything(pool) == []

    def test_a_late_form_is_not_included(self, pool: Pool, reopened: Pool, clock: Clock) -> None:
        """A late form is not included; a store that accepts it keeps it beside the file until the next purge."""
        direct = pool.direct(ID, begin(pool, [6], form=True))
        form = direct.form(0, 10, "image/png", LIFE)

        def send(content: bytes) -> None:
            post(form, content) if form else receive(direct, content)

        send(b"posted")
        attempt, parts = assemble(reopened)
        for moment in ("assembled", "done", "cleared"):
            with suppress(RefusedError) if form or moment == "assembled" else pytest.raises(RefusedError):
                send(b"zzzzzz")
            if moment == "assembled":
                finish(attempt, parts)
            if moment != "cleared":
                assert read(pool) == b"posted"
                assert form or len(self.bytes_in(pool)) == 1
            if moment == "done":
                assert pool.clear(ID)
        clock.advance(3)  # Stores report ages in whole seconds.
        list(pool.purge(1))
        assert self.everything(pool) == []

    def test_an_assembled_file_is_not_assembled_again(self, pool: Pool, reopened: Pool, contents: list[bytes]) -> None:
        """A file that was assembled but not marked as done is found by the next attempt and not assembled again."""
        send_all(pool, begin(pool, [*map(len, contents)]), contents)
        attempt, _ = assemble(pool)
        attempt.suspend(attempt.status)
        assert [part.number for part in pool.direct(ID, attempt.token).parts()] == [0]
        assert pool.bucket(ID).get_status().received == sum(map(len, contents))
        expected = b"".join(contents)
        assert complete(reopened, hashed=True) == hashlib.sha256(expected).hexdigest()
        assert read(pool) == expected

    @pytest.mark.full
    def test_an_upload_can_be_completed_after_a_crash_at_any_step(
        self, pool: Pool, crash_uploads: Callable[[], list[str]]
    ) -> None:
        """After a crash at any step the upload can be completed or restarted, and no garbage is left.

        The file has the correct bytes in both cases.
        """
        buckets = crash_uploads()
        assert len(buckets) > 8
        with ThreadPoolExecutor(4) as threads:
            ends = list(threads.map(lambda bucket: self.end_of(pool, bucket), buckets))
            assert all(threads.map(pool.clear, buckets))
        assert {"begun anew", "completed", "done"} <= set(ends)
        assert self.everything(pool) == []

    def end_of(self, pool: Pool, bucket: str) -> str:
        """Finish the upload of a crashed process, check it, and return how it ended."""
        deadline = time.monotonic() + PATIENCE
        while (status := pool.bucket(bucket).get_status()).running:
            assert time.monotonic() < deadline, "it never ends"
        end = "done"
        if status.state is not State.DONE:
            parts = pool.direct(bucket, status.attempt).parts() if status.attempt else []
            end = "completed" if sum(part.size for part in parts) == len(CONTENT) else "begun anew"
            if end == "begun anew":
                direct = pool.direct(bucket, begin(pool, [len(CONTENT)], bucket=bucket))
                address(direct, 1, len(CONTENT))(CONTENT)
            complete(pool, bucket=bucket)
        assert read(pool, bucket) == CONTENT
        return end

    @pytest.mark.full_with(place="swift")
    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("form", [False, True], ids=["parts", "form"])
    def test_clearing_removes_an_upload_in_any_state(
        self, pool: Pool, reopened: Pool, contents: list[bytes], state: str, form: bool
    ) -> None:
        """In every state, clearing an upload removes all of it, and replacing it leaves only the new one."""
        for end in ("cleared", "replaced"):
            attempt = self.bring_to(pool, contents, state, form=form)
            if end == "replaced" and state != "done":
                send_all(reopened, begin(reopened, [3]), [b"new"])
                complete(reopened)
                assert read(pool) == b"new"
                assert len(self.bytes_in(pool)) == 1
            assert reopened.clear(ID)
            if attempt is not None:
                attempt.fail(attempt.status.failed(Superseded()))
            assert self.everything(pool) == []

    @pytest.mark.full_with(place="swift")
    def test_old_uploads_are_purged_in_any_state(
        self, pool: Pool, reopened: Pool, contents: list[bytes], clock: Clock
    ) -> None:
        """Purging removes old uploads in every state with all their files, except those in use, which can finish."""
        buckets = {(state, form): f"{n:032x}" for n, (state, form) in enumerate(product(STATES, (False, True)))}
        running = {}
        for (state, form), bucket in buckets.items():
            if attempt := self.bring_to(pool, contents, state, form=form, bucket=bucket):
                running[bucket] = attempt
        clock.advance(3)  # Stores report ages in whole seconds.
        assert {each.id for each in reopened.purge(1)} == set(buckets.values()) - set(running)
        for bucket, attempt in running.items():
            direct = pool.direct(bucket, attempt.token)
            parts = direct.parts()
            direct.assemble(parts, hashed=False)
            finish(attempt, parts)
            assert read(pool, bucket) in (contents[2], b"posted")
            assert pool.clear(bucket)
        assert self.everything(pool) == []

    def bring_to(
        self, pool: Pool, contents: list[bytes], state: str, *, form: bool, bucket: str = ID
    ) -> Attempt | None:
        """Begin an upload and bring it into a state; return its attempt if it is in use."""
        contents = [b"posted"] if form else contents[0::2] if state == "in part" else contents[2:]
        direct = pool.direct(bucket, begin(pool, [*map(len, contents)], form=form, bucket=bucket))
        for number, content in enumerate(contents[: state != "begun"], 1):
            if form and (offered := direct.form(0, 10, "image/png", LIFE)):
                post(offered, content)
            elif form:
                receive(direct, content)
            else:
                address(direct, number, len(content))(content)
        if state in {"begun", "in part", "sent"}:
            return None
        attempt, parts = pool.resume(bucket), direct.parts()
        if state in {"assembled", "done"}:
            direct.assemble(parts, hashed=False)
        if state == "done":
            finish(attempt, parts)
        if state == "failed":
            direct.abandon()
            attempt.fail(attempt.status.failed(Incomplete("too late")))
        return attempt if state in {"being completed", "assembled"} else None

    def test_one_of_several_concurrent_completions_succeeds(
        self, pool: Pool, reopened: Pool, contents: list[bytes]
    ) -> None:
        """Of several concurrent attempts to complete an upload one succeeds, and the others get a reason."""
        uploads = [
            DirectUploads(UploadManager(each, Settings.parse({"upload_key": "k" * 32}))) for each in (pool, reopened)
        ]

        def race(number: int) -> UploadStatus | UploadError:
            try:
                return uploads[number % 2].complete(ID)
            except UploadError as error:
                return error

        for _ in range(3):
            send_all(pool, begin(pool, [len(contents[0])]), contents[:1])
            with ThreadPoolExecutor(4) as threads:
                ends = list(threads.map(race, range(4)))
            won = [end for end in ends if isinstance(end, UploadStatus)]
            assert [end.size for end in won] == [len(contents[0])], ends
            assert {type(end) for end in ends if end not in won} <= {AlreadyDone, Busy, Superseded}
            assert pool.bucket(ID).get_status() == reopened.bucket(ID).get_status()
            assert pool.bucket(ID).is_complete()
            assert read(pool) == contents[0]
            assert pool.clear(ID)
            assert self.everything(pool) == []

    def test_a_superseded_attempt_removes_nothing(self, pool: Pool, reopened: Pool, contents: list[bytes]) -> None:
        """An attempt that gives up an upload that another has completed or restarted leaves the other's bytes."""
        for taken in ("begun anew", "cleared"):
            send_all(pool, begin(pool, [*map(len, contents)]), contents)
            attempt = pool.resume(ID)
            direct = pool.direct(ID, attempt.token)
            if taken == "cleared":
                reopened.clear(ID)
            send_all(reopened, begin(reopened, [3]), [b"new"])
            with suppress(Superseded):
                direct.abandon()
            attempt.fail(attempt.status.failed(Incomplete("gone")))
            complete(reopened)
            assert read(pool) == b"new"
            assert pool.clear(ID)

    def test_an_upload_that_receives_parts_is_not_purged(
        self, pool: Pool, reopened: Pool, contents: list[bytes]
    ) -> None:
        """The age of an upload counts from its last part; an upload that receives no parts is purged."""
        token = begin(pool, [*map(len, contents)], at=time.time() - HOUR)
        sending = addresses(pool, token, contents)
        sending[0](contents[0])
        assert list(reopened.purge(HOUR / 2)) == []
        for number in (1, 2):
            sending[number](contents[number])
        complete(reopened)
        assert read(pool) == b"".join(contents)
        assert pool.clear(ID)
        begin(pool, [5], at=time.time() - HOUR)
        assert [bucket.id for bucket in reopened.purge(HOUR / 2)] == [ID]
        assert self.everything(pool) == []
