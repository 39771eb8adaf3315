"""Limits of an upload, in all protocols: an upload at each limit is accepted, and one past it is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.wsgi_client import (
    NOTHING,
    ONLY_STATUS,
    Answer,
    Stream,
    UploadSite,
    field_part,
    file_part,
    form,
    in_steps,
)

LIMIT = 3000


def send_form(site: UploadSite, size: int, identifier: str | None = None, *, length: bool = True) -> Answer:
    body = form(file_part(b"x" * size))
    return site.post(body if length else Stream(in_steps(body, 700)), identifier)


def send_files(site: UploadSite, size: int, identifier: str | None = None, *, length: bool = True) -> Answer:
    body = form(*(file_part(b"x" * (size // 3 + (n < size % 3))) for n in range(3)), field_part("text", "y" * 500))
    return site.post(body if length else Stream(in_steps(body, 700)), identifier)


def send_raw(site: UploadSite, size: int, identifier: str | None = None, *, length: bool = True) -> Answer:
    body = b"x" * size
    return site.put(body if length else Stream(in_steps(body, 700)), identifier)


every_way = pytest.mark.parametrize("send", [send_form, send_files, send_raw])
with_and_without_length = pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
TOO_LARGE = (413, "too-large")


@every_way
@with_and_without_length
def test_max_size_limits_the_bytes_of_the_files(tmp_path: Path, send: Callable[..., Answer], length: bool) -> None:
    """Files of ``max_size`` bytes, not counting fields and boundaries, are accepted; one more byte is refused."""
    site = UploadSite(tmp_path, max_size=f"{LIMIT}B")
    identifier = site.identifier()
    assert send(site, LIMIT, identifier, length=length).status == 200
    assert b"".join(site.contents(identifier)) == b"x" * LIMIT
    identifier = site.identifier()
    assert send(site, LIMIT + 1, identifier, length=length).outcome == TOO_LARGE
    # A plain body with a declared length is refused before its first byte.
    assert site.names(identifier) == (NOTHING if send is send_raw and length else ONLY_STATUS)
    assert site.status(identifier)["code"] == "too-large"


@every_way
@with_and_without_length
def test_an_identifier_may_lower_max_size_but_not_raise_it(
    tmp_path: Path, send: Callable[..., Answer], length: bool
) -> None:
    """An identifier may lower the limit, but not raise it."""
    site = UploadSite(tmp_path, max_size=f"{LIMIT}B")
    for claim, limit in (("100B", 100), ("1G", LIMIT)):
        assert send(site, limit, site.identifier(max_size=claim), length=length).status == 200
        assert send(site, limit + 1, site.identifier(max_size=claim), length=length).outcome == TOO_LARGE


def test_a_claim_of_0_bytes_is_a_limit(site: UploadSite) -> None:
    """A claim of 0 bytes is a limit, unlike a setting of 0, which means no limit."""
    assert send_raw(site, 0, site.identifier(max_size=0)).status == 200
    assert send_raw(site, 1, site.identifier(max_size=0)).outcome == TOO_LARGE


@every_way
def test_max_size_0_is_no_limit(tmp_path: Path, send: Callable[..., Answer]) -> None:
    """Without a limit only the disk space limits an upload."""
    assert send(UploadSite(tmp_path, max_size=0), 300_000).status == 200


@pytest.mark.parametrize("where", ["before", "behind"])
def test_the_bytes_around_the_parts_of_a_form_are_limited(tmp_path: Path, where: str) -> None:
    """The bytes of a chunked form around its parts are limited to what a valid form can need."""
    site = UploadSite(tmp_path, max_size="10B", max_files=1, max_fields=1, max_fields_size=1000)
    for size, outcome in ((2500, (200, None)), (4000, TOO_LARGE)):
        filler = b"x" * size
        whole = form(file_part("x"))
        body = filler + b"\r\n" + whole if where == "before" else whole + filler
        assert site.post(Stream(in_steps(body, 100))).outcome == outcome


@pytest.mark.parametrize("way", ["form", "raw"])
def test_a_declared_length_that_cannot_fit_is_refused_unread(tmp_path: Path, way: str) -> None:
    """A declared length beyond the limit is refused before any byte is read, and only then drained."""
    site = UploadSite(tmp_path, max_size=1, drain_size=0)
    stream = Stream([b"x"] * 10)
    send = site.post if way == "form" else site.put
    identifier = site.identifier()
    assert send(stream, identifier, CONTENT_LENGTH=str(1 << 40)).outcome == TOO_LARGE
    assert stream.asked == []
    assert site.names(identifier) == NOTHING


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("max_files", [file_part("x", f"{n}.txt") for n in range(4)]),
        ("max_fields", [file_part("x"), *(field_part(f"f{n}", "x") for n in range(4))]),
        ("max_field_size", [file_part("x"), field_part("f", "xxxx")]),
        ("max_fields_size", [file_part("x"), *(field_part("f", "x") for n in range(4))]),
    ],
)
def test_a_form_past_a_limit_is_refused(tmp_path: Path, name: str, parts: list[bytes]) -> None:
    """A form at each limit is accepted, and one past it is refused."""
    assert UploadSite(tmp_path / "4", **{name: 4}).post(form(*parts)).status == 200
    site, identifier = UploadSite(tmp_path / "3", **{name: 3}), ""
    for body in (form(*parts), Stream(in_steps(form(*parts), 1))):
        identifier = site.identifier()
        answer = site.post(body, identifier)
        assert answer.outcome == (413, "too-large" if name.endswith("size") else "limit-exceeded")
        assert site.names(identifier) == ONLY_STATUS


def test_inputs_without_a_file_count_as_files(tmp_path: Path) -> None:
    """Empty file parts count as parts: a flood of them is refused like a flood of files."""
    site = UploadSite(tmp_path, max_files=3)
    empty = file_part(b"", "")
    assert site.post(form(empty, empty, file_part("x"))).status == 200
    assert site.post(form(empty, empty, empty, file_part("x"))).outcome == (413, "limit-exceeded")


TYPE_NOT_ALLOWED = (415, "type-not-allowed")


@pytest.mark.parametrize(
    ("allowed", "kind", "taken"),
    [
        ("image/png", "image/png", True),
        ("image/png", "IMAGE/PNG; x=y", True),
        ("image/*", "image/webp", True),
        ("image/* text/csv", "text/csv", True),
        ("image/png", "image/jpeg", False),
        ("image/*", "imagex/png", False),
        ("image/*", "text/html", False),
    ],
)
@pytest.mark.parametrize("by", ["setting", "claim"])
def test_only_allowed_types_are_accepted(tmp_path: Path, allowed: str, kind: str, taken: bool, by: str) -> None:
    """The allowed ``content_types`` of the settings or the identifier apply to forms and plain bodies."""
    site = UploadSite(tmp_path, **({"content_types": allowed} if by == "setting" else {}))
    claims: dict[str, Any] = {} if by == "setting" else {"content_types": allowed.split()}
    form_answer = site.post(form(file_part("x", "a.png", kind=kind)), site.identifier(**claims))
    raw_answer = site.put(b"x", site.identifier(**claims), CONTENT_TYPE=kind)
    for answer in (form_answer, raw_answer):
        assert answer.status == 200 if taken else answer.outcome == TYPE_NOT_ALLOWED


def test_a_type_must_be_allowed_by_settings_and_claims(tmp_path: Path) -> None:
    """A type that either the settings or the identifier do not allow is refused."""
    site = UploadSite(tmp_path, content_types="image/*")
    for claim, kind, status in (
        ("image/png", "image/png", 200),
        ("text/*", "text/csv", 415),
        ("*", "a/b", 415),
    ):
        if claim != "*":
            assert site.put(b"x", site.identifier(content_types=[claim]), CONTENT_TYPE=kind).status == status


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a.pdf", True),
        ("A.PDF", True),
        ("x.tar.gz", True),
        ("a.gz", False),
        ("pdf", False),
        ("a.pdf.exe", False),
    ],
)
def test_only_allowed_extensions_are_accepted(tmp_path: Path, name: str, taken: bool) -> None:
    """The allowed ``extensions`` are compared without case, as a whole, with the end of the name."""
    site = UploadSite(tmp_path, extensions="pdf, tar.gz")
    for answer in (site.post(form(file_part("x", name))), site.put(b"x", filename=name)):
        assert answer.status == 200 if taken else answer.outcome == TYPE_NOT_ALLOWED


@pytest.mark.parametrize(
    "settings", [{"content_types": "image/png"}, {"extensions": "png"}], ids=lambda s: next(iter(s))
)
@pytest.mark.parametrize("name", ["", "..", "/", "\\", "\x01"])
def test_an_empty_name_does_not_bypass_the_allowed_types(tmp_path: Path, settings: Any, name: str) -> None:
    """An empty name does not bypass the allowed types; an empty file input is not refused by them."""
    site = UploadSite(tmp_path, **settings)
    identifier = site.identifier()
    html = file_part("<script>", name, kind="text/html")
    assert site.post(form(html), identifier).outcome == TYPE_NOT_ALLOWED
    assert site.names(identifier) == ONLY_STATUS
    nothing = file_part("", "", kind="application/octet-stream")
    assert site.post(form(nothing, file_part("x", "a.png", kind="image/png"))).status == 200


@every_way
def test_the_reserve_of_free_space_is_kept(tmp_path: Path, send: Callable[..., Answer]) -> None:
    """If less than ``min_free_space`` is free, an upload is refused and leaves nothing."""
    site = UploadSite(tmp_path, min_free_space="999T")
    for length in (True, False):
        identifier = site.identifier()
        assert send(site, 10, identifier, length=length).outcome == (507, "pool-full")
        assert list(site.directory.iterdir()) == [site.directory / ".upload_key"]


def test_the_status_shows_a_running_upload(site: UploadSite) -> None:
    """From its first byte on, an upload shows its name, length and received bytes; before, it is unknown."""
    identifier = site.identifier()
    assert site.status(identifier) == {"identifier": identifier, "state": "unknown"}
    body = form(file_part(b"x" * 500, "ä.bin", kind="image/x-a"))
    seen: list[dict[str, Any]] = []

    def pieces() -> Iterator[bytes]:
        assert site.status(identifier)["state"] == "unknown"
        yield body[:1]
        seen.append(site.status(identifier))
        yield from in_steps(body[1:], 100)

    assert site.post(Stream(pieces()), identifier, CONTENT_LENGTH=str(len(body))).status == 200
    assert (seen[0]["state"], seen[0]["size"], seen[0]["received"]) == ("starting", len(body), 0)
    done = site.status(identifier)
    assert (done["state"], done["size"], done["filename"]) == ("done", 500, "ä.bin")
    assert done["sha256"] == hashlib.sha256(b"x" * 500).hexdigest()


@pytest.mark.parametrize("way", ["form", "raw"])
def test_a_repeated_upload_that_is_done_is_refused_unread(tmp_path: Path, way: str) -> None:
    """A repeated upload that is already done is refused before its first byte is read."""
    site = UploadSite(tmp_path, drain_size=0)
    identifier = site.identifier()
    assert site.put(b"first", identifier).status == 200
    stream = Stream([b"x"] * 10)
    send = site.post if way == "form" else site.put
    assert send(stream, identifier, CONTENT_LENGTH="10").outcome == (409, "already-done")
    assert stream.asked == []


@pytest.mark.parametrize("way", ["form", "raw"])
@pytest.mark.parametrize("length", ["10", None], ids=["length", "chunked"])
def test_a_request_without_a_first_byte_creates_no_bucket(site: UploadSite, way: str, length: str | None) -> None:
    """A request without a first byte has no bucket, also if it breaks off; the status has the reason."""
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        assert list(site.manager.pool.buckets()) == []
        raise OSError("the client is gone")
        yield b""

    send = site.post if way == "form" else site.put
    assert send(Stream(pieces()), identifier, CONTENT_LENGTH=length).outcome == (400, "incomplete")
    assert list(site.manager.pool.buckets()) == []
    assert site.status(identifier)["code"] == "incomplete"


def test_a_finished_upload_is_not_replaced(site: UploadSite) -> None:
    """A second upload gets 409 until the first is cleared, and changes nothing."""
    identifier = site.identifier()
    assert site.put(b"first", identifier).status == 200
    assert site.put(b"second", identifier).outcome == (409, "already-done")
    assert site.post(form(file_part("second")), identifier).outcome == (409, "already-done")
    assert site.contents(identifier) == [b"first"]
    site.manager.clear_upload_bucket(identifier)
    assert site.put(b"second", identifier).status == 200
    assert site.contents(identifier) == [b"second"]


def test_a_refused_upload_does_not_disturb_a_finished_one(tmp_path: Path) -> None:
    """A refusal before the first byte does not change the status of a finished upload."""
    site = UploadSite(tmp_path, max_size="10B")
    identifier = site.identifier()
    assert site.put(b"first", identifier).status == 200
    assert site.put(b"x" * 11, identifier).status == 413
    assert site.status(identifier)["state"] == "done"


def test_a_failed_upload_may_be_tried_again(site: UploadSite) -> None:
    """After an error the same identifier accepts the next attempt."""
    identifier = site.identifier()
    assert site.post(form(file_part("x"))[:-9], identifier).status == 400
    assert site.post(form(file_part("x")), identifier).status == 200
    assert "error" not in site.status(identifier)


@pytest.mark.parametrize("newer", [b"newer", None])
def test_a_superseded_attempt_ends_with_409(site: UploadSite, newer: bytes | None) -> None:
    """An attempt superseded by a newer one or a reset ends with 409 and does not affect the newer one."""
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        yield b"older"
        if newer is None:
            site.manager.clear_upload_bucket(identifier)
        else:
            assert site.put(newer, identifier).status == 200
        yield b"older"

    assert site.put(Stream(pieces()), identifier, CONTENT_LENGTH="10").outcome == (409, "superseded")
    assert site.status(identifier)["state"] == ("done" if newer else "unknown")
    if newer:
        assert site.contents(identifier) == [newer]
