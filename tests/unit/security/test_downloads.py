"""Downloads: files are never rendered in the site's origin, and byte ranges are correct."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.open_resources import open_resources
from tests.support.wsgi_client import Answer, UploadSite, file_part, form

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def download_site(tmp_path: Path) -> UploadSite:
    """Return a site with ``downloads = true``."""
    return UploadSite(tmp_path / "pool", downloads=True)


def get(site: UploadSite, identifier: str, more: str = "", method: str = "GET", **environ: Any) -> Answer:
    return site.send(method, "/upload", f"X-Progress-ID={identifier}{more}", **environ)


def stored(site: UploadSite, filename: str = "a.bin", kind: str = "application/x-a", content: bytes = CONTENT) -> str:
    identifier = site.identifier()
    assert site.put(content, identifier, filename, CONTENT_TYPE=kind).status == 200
    return identifier


def test_downloads_are_off_by_default(site: UploadSite) -> None:
    """Without the setting a download request reaches the app."""
    assert get(site, stored(site)).headers["x-app"] == "yes"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/html"),
        ("image.svg", "image/svg+xml"),
        ("a.xhtml", "application/xhtml+xml"),
        ("a.js", "text/javascript"),
        ("a.xml", "text/xml"),
        ("a.txt", "text/plain"),
        ("noname", "application/octet-stream"),
    ],
)
def test_active_content_is_not_shown_in_our_origin(download_site: UploadSite, name: str, kind: str) -> None:
    """HTML and SVG are attachments too, are not sniffed, and could run no script if they were shown."""
    answer = get(download_site, stored(download_site, name, kind, b"<script>alert(1)</script>"))
    assert answer.status == 200
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == kind
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        'say "hi".txt',
        "back\\slash.txt",
        "line\r\nSet-Cookie: a=b.txt",
        "ä ö ü \U0001f4be.txt",
        "\u202egnp.exe",
        "semi;colon=a.txt",
        "100%41.txt",
        "'single'.txt",
        "x" * 300,
        "",
    ],
    ids=lambda name: ascii(name)[:20],
)
def test_names_in_headers_are_encoded(download_site: UploadSite, name: str) -> None:
    """Quotes, line ends and non-ASCII are encoded, and an RFC 6266 client decodes the name."""
    identifier = stored(download_site, name)
    header = get(download_site, identifier).headers["content-disposition"]
    assert header.isascii()
    assert header.isprintable()
    plain, _, extended = header.partition("; filename*=UTF-8''")
    assert plain.startswith('attachment; filename="')
    assert plain.count('"') == 2
    assert plain.endswith('"')
    assert not set(plain[22:-1]) & set("\\%")
    assert unquote(extended, errors="strict") == (download_site.status(identifier)["filename"] or "file")
    assert not set(extended) & set("; \"'")


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        (None, 200, CONTENT),
        ("bytes=0-9", 206, CONTENT[:10]),
        ("bytes=10-", 206, CONTENT[10:]),
        ("bytes=-10", 206, CONTENT[-10:]),
        ("bytes=1000-99999", 206, CONTENT[1000:]),
        ("bytes=0-0", 206, CONTENT[:1]),
        ("bytes=1024-", 416, None),
        ("bytes=5000-6000", 416, None),
        ("bytes=9-0", 200, CONTENT),
        ("bytes=0-0,5-5", 206, CONTENT[:1]),  # the first of several ranges
        ("bytes=x-y", 200, CONTENT),
        ("lines=0-9", 200, CONTENT),
        ("bytes=" + "0-1," * 2000, 206, CONTENT[:2]),
        ("bytes=0-9, 20-29", 206, CONTENT[:10]),
        ("bytes=-5000", 206, CONTENT),  # a suffix longer than the file is the whole file
        ("bytes=-0", 416, None),
        ("bytes=-", 200, CONTENT),
        ("bytes=0-9,x", 200, CONTENT),
        ("bytes=0-" + "9" * 19, 206, CONTENT),
        ("bytes=0-" + "9" * 20, 200, CONTENT),
        ("bytes=" + "9" * 5000 + "-", 200, CONTENT),
        ("bytes=٣-٤", 200, CONTENT),
    ],
    ids=lambda value: str(value)[:16],
)
def test_byte_ranges_are_served(download_site: UploadSite, asked: str | None, status: int, part: bytes | None) -> None:
    """A byte range gets that part, one past the end gets 416, and a malformed one gets the whole file."""
    answer = get(download_site, stored(download_site), HTTP_RANGE=asked)
    assert answer.status == status
    if part is not None:
        assert answer.body == part
        assert answer.headers["content-length"] == str(len(part))
    if status == 206:
        start = CONTENT.index(part or b"")
        assert answer.headers["content-range"].startswith("bytes ")
        assert answer.headers["content-range"].endswith("/1024")
        assert start >= 0
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1024"


def test_if_range_with_another_entity_tag_gets_the_whole_file(download_site: UploadSite) -> None:
    """If-Range with the current entity tag gives the part, with another one the whole file."""
    identifier = stored(download_site)
    tag = get(download_site, identifier).headers["etag"]
    assert tag.startswith('"')
    assert get(download_site, identifier, HTTP_RANGE="bytes=0-9", HTTP_IF_RANGE=tag).status == 206
    answer = get(download_site, identifier, HTTP_RANGE="bytes=0-9", HTTP_IF_RANGE='"other"')
    assert (answer.status, answer.body) == (200, CONTENT)


@pytest.mark.parametrize("name", ["HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"])
@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +9999999",
        f"Sun, 06 Nov {'9' * 5000} 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        " GMT",
        '"' * 9000,
    ],
    ids=lambda date: date[:32],
)
def test_a_date_as_a_condition_has_no_effect(download_site: UploadSite, name: str, date: str) -> None:
    """A date as a condition has no effect, and as a condition on a range it gives the whole file."""
    answer = get(download_site, stored(download_site), HTTP_RANGE="bytes=0-9", **{name: date})
    whole = name == "HTTP_IF_RANGE"
    assert (answer.status, answer.body) == ((200, CONTENT) if whole else (206, CONTENT[:10]))


def test_a_file_that_the_client_has_is_not_sent_again(download_site: UploadSite) -> None:
    """If-None-Match with the entity tag, alone or in a list, gets 304 without the bytes."""
    identifier = stored(download_site)
    tag = get(download_site, identifier).headers["etag"]
    for given in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        answer = get(download_site, identifier, HTTP_IF_NONE_MATCH=given)
        assert (answer.status, answer.body) == (304, b"")
    for given in ('"other"', tag.strip('"'), f"x {tag}", '"' * 9000, f"{'x' * 9000}, {tag}"):
        assert get(download_site, identifier, HTTP_IF_NONE_MATCH=given).status == 200


def test_head_returns_the_headers_of_get(download_site: UploadSite) -> None:
    """HEAD returns the headers of GET and no body."""
    identifier = stored(download_site)
    whole, head = get(download_site, identifier), get(download_site, identifier, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == whole.headers


def test_a_file_of_a_form_is_selected_by_its_number(download_site: UploadSite) -> None:
    """The parameter ``file=`` counts from 0, and an invalid or too high number gives no file."""
    identifier = download_site.identifier()
    assert download_site.post(form(file_part("one"), file_part("two")), identifier).status == 200
    assert get(download_site, identifier, "&file=1").body == b"two"
    for number in ("2", "-1", "+1", "1_0", "٣", "x", "", "1.0", " 1", "9" * 400, "9" * 5000):
        answer = get(download_site, identifier, f"&file={number}")
        assert answer.outcome == (404, "file-missing"), number


def test_an_unavailable_file_is_not_found(download_site: UploadSite) -> None:
    """A download of an unknown, failed, moved or cleared upload is not found."""
    assert get(download_site, download_site.identifier()).outcome == (404, "file-missing")
    failed = download_site.identifier()
    download_site.post(form(file_part("x"))[:-9], failed)
    assert get(download_site, failed).outcome == (404, "file-missing")
    moved = stored(download_site)
    bucket = download_site.manager.access_upload_bucket(moved)
    assert bucket is not None
    bucket.move_to(str(download_site.directory / "moved"))
    assert get(download_site, moved).outcome == (404, "file-missing")


def test_downloads_leave_nothing_open(download_site: UploadSite) -> None:
    """The file is closed after each kind of response, also one that was not read to its end."""
    identifier = stored(download_site)
    tag = get(download_site, identifier).headers["etag"]
    before = open_resources()
    for environ in (
        {},
        {"HTTP_RANGE": "bytes=0-9"},
        {"HTTP_RANGE": "bytes=9999-"},
        {"HTTP_IF_NONE_MATCH": tag},
    ):
        for method in ("GET", "HEAD"):
            for _ in range(20):
                get(download_site, identifier, method=method, **environ)
    assert open_resources() <= before
