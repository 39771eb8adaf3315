"""Serving of files by the filter: files of records only, and as files."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import requests

from tests.support.records.kinto_harness import MAT, RECORD, Kinto
from tests.support.waiting import PATIENCE

CONTENT = bytes(range(256)) * 400


def fetch(url: str, method: str = "GET", **headers: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    prepared = requests.Request(method, url, headers=names).prepare()
    prepared.url = url  # sent as it is, without the client's own normalization
    with requests.Session() as session:
        return session.send(prepared, allow_redirects=False, timeout=PATIENCE)


def test_a_file_is_served_whole(kinto: Kinto) -> None:
    """Any client gets the bytes, with their type, their length, and headers against content sniffing."""
    attachment = kinto.attached(RECORD, ("a.png", CONTENT))
    answer = fetch(attachment["location"])
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"].startswith("inline")
    head = fetch(attachment["location"], "HEAD")
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(CONTENT)))


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-99", 206, 0, 99),
        ("bytes=100-", 206, 100, len(CONTENT) - 1),
        ("bytes=-5", 206, len(CONTENT) - 5, len(CONTENT) - 1),
        (f"bytes={len(CONTENT)}-", 416, 0, -1),
        ("bytes=5-1", 200, 0, len(CONTENT) - 1),
        ("lines=1-2", 200, 0, len(CONTENT) - 1),
    ],
)
def test_byte_ranges_are_served(kinto: Kinto, asked: str, status: int, first: int, last: int) -> None:
    """Byte ranges are served as in RFC 9110, 14."""
    answer = fetch(kinto.attached(RECORD, ("a.png", CONTENT))["location"], Range=asked)
    assert answer.status_code == status
    if status != 416:
        assert answer.content == CONTENT[first : last + 1]
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"


def test_a_request_with_the_current_entity_tag_gets_no_bytes(kinto: Kinto) -> None:
    """A client that sends the current entity tag gets no bytes again."""
    location = kinto.attached(RECORD, ("a.png", CONTENT))["location"]
    tag = fetch(location).headers["ETag"]
    again = fetch(location, If_None_Match=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert fetch(location, If_None_Match='"other"').status_code == 200
    assert fetch(location, Range="bytes=0-9", If_Range='"other"').status_code == 200


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("a.svg", "image/svg+xml", False),
        ("a.png", "image/png+xml", False),
        ("a.png", "image/pngx", False),
        ("a.txt", "text/plain+xml", False),
        ("a.png", "audio/x+xml", False),
        ("a.png", "video/mp4+xml", False),
        ("a.png", "audio/mpeg", True),
        ("a.png", "video/mp4", True),
        ("a.txt", "text/html", False),
        ("a.xml", "application/xml", False),
        ("a.xml", "application/xhtml+xml", False),
        ("a.pdf", "application/pdf", False),
        ("a.json", "application/json", False),
        ("a.txt", "text/plain", True),
        ("a.jpg", "image/jpeg", True),
    ],
)
def test_active_content_is_saved_and_not_shown(kinto: Kinto, name: str, kind: str, shown: bool) -> None:
    """Only safe types are shown in the browser; SVG and HTML are saved."""
    answer = fetch(kinto.attached(RECORD, (name, b"<script>alert(1)</script>", kind))["location"])
    assert answer.headers["Content-Disposition"].startswith("inline" if shown else "attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_download_is_saved_under_the_name_of_the_upload(kinto: Kinto) -> None:
    """A download is saved under the name that the file was uploaded with."""
    answer = fetch(kinto.attached(RECORD, ('Ελλ"ηνικά.pdf', b"x"))["location"])
    assert "filename*=UTF-8''%CE%95" in answer.headers["Content-Disposition"]


def hidden(kinto: Kinto) -> list[str]:
    """Return paths below the files' address that exist in the pool, but are no file of a record."""
    private = kinto.manager.create_identifier()
    bucket_id = private[:32]
    attempt = kinto.pool / bucket_id[:2] / bucket_id / "0"
    attempt.parent.mkdir(parents=True)
    attempt.write_bytes(b"private")
    if kinto.public is not None:
        (kinto.public / "not-ours.jpg").write_bytes(b"private")
    inside = next(name for name in kinto.left() if name.endswith("/0"))
    return [
        "",
        "fennec",
        "fennec/fonts",
        "fennec/fonts/",
        "not-ours.jpg",
        ".upload_key",
        "../.upload_key",
        "..%2f.upload_key",
        "%2e%2e/.upload_key",
        "....//.upload_key",
        "/.upload_key",
        f"{bucket_id[:2]}/{bucket_id}/0",
        f"../{bucket_id[:2]}/{bucket_id}/0",
        inside,
        ".index/+files/+fennec/+fonts",
        "%00",
        "%ff%fe",
        "x" * 5000,
        "a/" * 500,
    ]


def test_only_files_of_records_are_served(kinto: Kinto) -> None:
    """Keys, folders, other uploads of the same pool and paths that lead outside are not found."""
    kinto.attached()
    for path in hidden(kinto):
        answer = fetch(f"{kinto.url}/files/{path}")
        assert answer.status_code in {307, 400, 404}, path
        assert b"private" not in answer.content
        assert str(kinto.pool) not in answer.text
    assert fetch(f"{kinto.url}/files").status_code in {307, 404}


def test_a_missing_file_is_answered_with_404_in_kintos_format(kinto: Kinto) -> None:
    """A location that is no longer used answers 404 in Kinto's format."""
    location = kinto.attached()["location"]
    kinto.request("DELETE", RECORD)
    data: dict[str, Any] = fetch(location).json()
    assert (data["code"], data["errno"]) == (404, 111)


def test_a_file_that_was_removed_from_the_disk_is_missing(kinto: Kinto) -> None:
    """A file removed from the disk is answered with 404, and its record can be deleted."""
    location = kinto.attached()["location"]
    for path in kinto.stored():
        kinto.pool.joinpath(path).unlink()
    assert fetch(location).status_code == 404
    assert kinto.request("DELETE", RECORD, headers=MAT).status_code == 200
    assert kinto.left() == set()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_file_supports_get_and_head_only(kinto: Kinto, method: str) -> None:
    """The address of a file supports GET and HEAD only."""
    location = kinto.attached()["location"]
    assert fetch(location, method).status_code in {307, 404, 405}
    assert fetch(location).content == b"--fake--"
