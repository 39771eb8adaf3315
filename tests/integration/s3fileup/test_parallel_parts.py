"""Parallel parts share one limit, and a request for many parts costs little."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fileupload.pool.directory.direct import DirectoryDirect
from fileupload.protocols.direct.uploads import DirectUploads
from fileupload.status import UploadStatus
from tests.integration.s3fileup.conftest import Open
from tests.support.s3fileup_site import S3FileupSite
from tests.support.waiting import PATIENCE, wait_until

LIMIT = 1 << 20
PART = LIMIT - 1000

pytestmark = pytest.mark.parametrize("kind", ["directory"])


@pytest.fixture
def site(open_site: Open) -> S3FileupSite:
    """Return the app with a limit of one part."""
    return open_site(anonymous=True, max_size="1M")


def begin(site: S3FileupSite) -> tuple[str, dict[str, str]]:
    """Begin an upload in parts as Uppy does; return its address and its query."""
    begun = site.got("POST", "/s3/multipart", json={"filename": "a"})
    return f"/s3/multipart/{begun['uploadId']}", {"key": begun["key"]}


def sign(site: S3FileupSite, upload: tuple[str, dict[str, str]], count: int) -> list[str]:
    """Return the presigned URLs of the first parts."""
    numbers = ",".join(str(number) for number in range(1, count + 1))
    answer = site.got("GET", f"{upload[0]}/batch", params={**upload[1], "partNumbers": numbers})
    return [answer["presignedUrls"][str(number)] for number in range(1, count + 1)]


@contextmanager
def held_open(url: str, content: bytes, sent: int) -> Iterator[socket.socket]:
    """Send the head of a part and *sent* bytes of it, and keep the connection."""
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), PATIENCE)) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:sent])
        yield connection


def status_of(connection: socket.socket) -> int:
    """Return the status of the answer on *connection*."""
    answer = b""
    while b"\r\n" not in answer:
        piece = connection.recv(1 << 16)
        assert piece, answer
        answer += piece
    return int(answer.split()[1])


def sizes(site: S3FileupSite) -> list[int]:
    """Return the size of each part in the pool, complete or not."""
    found = []
    for path in site.leftovers():
        with suppress(FileNotFoundError):  # superseded, or published, meanwhile
            found.append(Path(path).stat().st_size)
    return found


def test_parts_in_flight_share_the_limit(site: S3FileupSite) -> None:
    """Of twelve parallel parts, one fits the limit: the others are refused before a byte is stored."""
    content = bytes(PART)
    first, *others = sign(site, begin(site), 12)
    with held_open(first, content, PART - 10) as connection, ExitStack() as stack:
        wait_until(lambda: sum(sizes(site)))
        rest = [stack.enter_context(held_open(url, content, PART)) for url in others]
        assert [status_of(each) for each in rest] == [413] * 11
        assert len(sizes(site)) == 1
        connection.sendall(content[PART - 10 :])
        assert status_of(connection) == 200
    assert site.ask("PUT", others[0], data=content).status_code == 413
    assert site.ask("PUT", others[0], data=bytes(1000)).status_code == 200


def test_an_interrupted_part_frees_its_share_of_the_limit(site: S3FileupSite) -> None:
    """A part whose connection breaks frees its share of the limit."""
    first, second = sign(site, begin(site), 2)
    with held_open(first, bytes(PART), 10):
        wait_until(lambda: sizes(site))
        assert site.ask("PUT", second, data=bytes(PART)).status_code == 413
    wait_until(lambda: not sizes(site))
    assert site.ask("PUT", second, data=bytes(PART)).status_code == 200


def test_a_second_request_for_a_part_supersedes_the_first(site: S3FileupSite) -> None:
    """A second request for a part replaces the first, whose bytes are freed while it is still connected."""
    content = b"z" * PART
    upload = begin(site)
    (url,) = sign(site, upload, 1)
    with held_open(url, bytes(PART), PART - 10) as older:
        wait_until(lambda: sum(sizes(site)))
        with held_open(url, content, 10) as newer:
            wait_until(lambda: sizes(site) == [0])
            older.sendall(bytes(10))
            assert status_of(older) == 409
            newer.sendall(content[10:])
            assert status_of(newer) == 200
    parts = site.ask("GET", upload[0], params=upload[1]).json()
    site.got("POST", f"{upload[0]}/complete", params=upload[1], json={"parts": parts})
    assert site.stored(upload[1]["key"]) == content


def test_a_part_that_is_sent_again_counts_once(site: S3FileupSite) -> None:
    """While a stored part is sent again, it counts once towards the limit, and further addresses are signed."""
    upload = begin(site)
    first, _ = sign(site, upload, 2)
    assert site.ask("PUT", first, data=bytes(PART)).status_code == 200
    with held_open(first, bytes(PART), PART - 10) as connection:
        wait_until(lambda: sum(sizes(site)) > LIMIT)
        assert len(sign(site, upload, 2)) == 2
        connection.sendall(bytes(10))
        assert status_of(connection) == 200


def test_each_number_is_signed_once(site: S3FileupSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is repeated thousands of times in a query is signed once, after one look-up of the upload."""
    looks, signed = [], []
    find, part_url = DirectUploads.find, DirectoryDirect.part_url

    def counted_find(uploads: DirectUploads, bucket_id: str) -> UploadStatus:
        looks.append(bucket_id)
        return find(uploads, bucket_id)

    def counted_part_url(direct: DirectoryDirect, number: int, size: int | None, expires: float) -> None:
        signed.append(number)
        return part_url(direct, number, size, expires)

    address, query = begin(site)
    monkeypatch.setattr(DirectUploads, "find", counted_find)
    monkeypatch.setattr(DirectoryDirect, "part_url", counted_part_url)
    answer = site.got("GET", f"{address}/batch", params={**query, "partNumbers": ",".join(["1", "2"] * 5000)})
    assert list(answer["presignedUrls"]) == ["1", "2"]
    assert (len(looks), signed) == (1, [1, 2])


def test_too_many_part_numbers_are_refused(site: S3FileupSite) -> None:
    """One request may name at most 1,000 parts."""
    address, query = begin(site)
    for count, status in ((1000, 200), (1001, 400)):
        numbers = ",".join(map(str, range(1, count + 1)))
        answer = site.ask("GET", f"{address}/batch", params={**query, "partNumbers": numbers})
        assert answer.status_code == status
