"""Aborted uploads: an abort at any point leaves nothing in the pool, in memory or open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.open_resources import open_resources
from tests.support.read_failures import Stop, broken, exhausted, killed, silence
from tests.support.wsgi_client import NOTHING, ONLY_STATUS, Stream, UploadSite, field_part, file_part, form, in_steps

BODY = form(
    field_part("a", "text"),
    file_part(b"1" * 40, "1.txt"),
    field_part("b", "text"),
    file_part(b"2" * 40, "2.txt"),
)


def buckets(site: UploadSite) -> set[Path]:
    """Return the folders of the buckets, which an aborted upload must leave unchanged."""
    return set(site.directory.glob("??/*"))


# The offsets in the body, and so the states of upload and parser, at which the body ends.
MOMENTS = {
    "before the first byte": 0,
    "in the first boundary": 4,
    "in the head of a field": 30,
    "in a field": BODY.index(b"text") + 2,
    "in the head of a file": BODY.index(b"1.txt"),
    "before a file's first byte": BODY.index(b"1111"),
    "in a file": BODY.index(b"1111") + 20,
    "in the boundary behind a file": BODY.index(b"1111") + 45,
    "between two files": BODY.rindex(b"text"),
    "in the second file": BODY.index(b"2222") + 20,
    "in the last boundary": len(BODY) - 4,
}


def ending(body: bytes, moment: int, end: Callable[[], None]) -> Iterator[bytes]:
    yield from in_steps(body[:moment], 10)
    end()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("end", [silence, broken, killed, exhausted])
@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
def test_an_abort_leaves_nothing(site: UploadSite, moment: str, end: Callable[[], None], declared: bool) -> None:
    """An aborted form leaves only a status (Struts CVE-2023-41835, Tomcat CVE-2025-61795, multer CVE-2026-2359)."""
    site.put(b"x")
    before, running = buckets(site), open_resources()
    identifier = site.identifier()
    stream = Stream(ending(BODY, MOMENTS[moment], end))
    length = str(len(BODY)) if declared else None
    if end is killed:
        with pytest.raises(Stop):
            site.post(stream, identifier, CONTENT_LENGTH=length)
    else:
        assert site.post(stream, identifier, CONTENT_LENGTH=length).outcome == (400, "incomplete")
    begun = MOMENTS[moment] > 0  # otherwise it is a refusal, which has no bucket
    assert site.names(identifier) == (ONLY_STATUS if begun else NOTHING)
    told = begun or end is not killed
    assert site.status(identifier)["state"] == ("error" if told else "unknown")
    assert site.manager.clear_upload_bucket(identifier) is told
    assert buckets(site) == before
    assert open_resources() <= running


@pytest.mark.parametrize("end", [silence, broken, killed])
def test_an_aborted_plain_body_leaves_nothing(site: UploadSite, end: Callable[[], None]) -> None:
    """An aborted PUT leaves only a status."""
    site.put(b"x")
    before, running = buckets(site), open_resources()
    identifier = site.identifier()
    try:
        site.put(Stream(ending(b"x" * 100, 50, end)), identifier, CONTENT_LENGTH="100")
    except Stop:
        assert end is killed
    assert site.names(identifier) == ONLY_STATUS
    assert site.manager.clear_upload_bucket(identifier)
    assert buckets(site) == before
    assert open_resources() <= running


@pytest.mark.parametrize("how", ["cleared", "replaced", "removed"])
@pytest.mark.parametrize("moment", [moment for moment, offset in MOMENTS.items() if offset])
def test_an_upload_that_loses_its_bucket_leaves_nothing(site: UploadSite, moment: str, how: str) -> None:
    """An attempt whose bucket is cleared, taken over or deleted ends with an error and closes its files."""
    site.put(b"x")
    before, running = buckets(site), open_resources()
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        yield from in_steps(BODY[: MOMENTS[moment]], 10)
        if how == "replaced":
            assert site.put(b"newer", identifier).status == 200
        elif how == "cleared":
            assert site.manager.clear_upload_bucket(identifier)
        else:
            remove_by_hand(site.directory / identifier[:2] / identifier[:32])
        yield BODY[MOMENTS[moment] :]

    assert site.post(Stream(pieces()), identifier).outcome == (409, "superseded")
    assert site.status(identifier)["state"] == ("done" if how == "replaced" else "unknown")
    site.manager.clear_upload_bucket(identifier)
    assert buckets(site) == before
    assert open_resources() <= running


def test_a_request_without_a_first_byte_does_not_affect_another_upload(site: UploadSite) -> None:
    """A request without a first byte has no bucket, and does not affect an upload that finishes meanwhile."""
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        assert site.names(identifier) == NOTHING
        assert site.put(b"newer", identifier).status == 200
        yield BODY

    assert site.post(Stream(pieces()), identifier).outcome == (409, "already-done")
    assert site.contents(identifier) == [b"newer"]


def remove_by_hand(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_refusals_leave_nothing_open(tmp_path: Path) -> None:
    """A hundred requests of each refused kind leave no file open."""
    site = UploadSite(tmp_path, max_size="100B", max_files=2)
    kinds: list[Callable[[], object]] = [
        lambda: site.put(b"x" * 101),
        lambda: site.put(b"x", "forged"),
        lambda: site.put(b"x", HTTP_CONTENT_RANGE="bytes 0-1/2"),
        lambda: site.post(form(*(file_part("x") for _ in range(3)))),
        lambda: site.post(form(file_part("x" * 101))),
        lambda: site.post(form(field_part("a", "b"))),
        lambda: site.post(BODY[:60]),
        lambda: site.post(b"x", None, "text/plain"),
    ]
    for kind in kinds:
        kind()
    before = open_resources()
    for _ in range(100):
        for kind in kinds:
            kind()
    assert open_resources() <= before


def test_an_app_that_fails_leaves_the_upload_done(site: UploadSite) -> None:
    """An exception of the app is propagated; the file is stored and nothing stays open."""
    before = open_resources()

    def fail(environ: object, start_response: object) -> None:
        raise ZeroDivisionError

    site.middleware.app = fail  # type: ignore[assignment]
    identifier = site.identifier()
    with pytest.raises(ZeroDivisionError):
        site.put(b"content", identifier)
    assert site.contents(identifier) == [b"content"]
    assert open_resources() <= before
