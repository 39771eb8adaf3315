"""Floods of parts, headers, line ends, text and random bytes: the cost is linear in their size."""

from __future__ import annotations

import logging
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest

from fileupload.wsgi.headers import parse_parameters
from tests.support.open_resources import open_resources
from tests.support.wsgi_client import BOUNDARY, ONLY_STATUS, Stream, UploadSite, field_part, file_part, form, part

MEBIBYTE = 1 << 20


def thread_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one run in this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of several runs, to exclude the load of other processes."""
    return min(thread_seconds(work) for _ in range(5))


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Check that twice the *size* costs at most 2.2 times as much; quadratic work would cost 4 times.

    Other processes can only increase a time, temporarily: so both sizes run alternately, and longer if necessary.
    """
    once = twice = float("inf")
    for turn in range(25):
        once = min(once, thread_seconds(lambda: work(size)))
        twice = min(twice, thread_seconds(lambda: work(2 * size)))
        if turn >= 4 and twice <= 2.2 * once + 0.03:
            return
    pytest.fail(f"{size} bytes took {once:.3f} s, twice as many {twice:.3f} s")


FLOODS = {
    "CR": b"\r",
    "LF": b"\n",
    "CRLF": b"\r\n",
    "CRLF--": b"\r\n--",
    "near boundary": f"\r\n--{BOUNDARY[:-1]}".encode(),
    "boundary inside a line": f"x--{BOUNDARY}".encode(),
    "hyphens": b"-",
}


def flooded(flood: bytes, size: int, before: bytes, after: bytes, step: int) -> Iterator[bytes]:
    """Yield *size* bytes of *flood* between *before* and *after*, in chunks with cuts at varying offsets."""
    yield before
    piece = (flood * (step // len(flood) + 2))[:step]
    yield from repeat(piece, size // step)
    yield after


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("step", [997, 65_536])
def test_floods_in_a_file_are_scanned_in_linear_time(site: UploadSite, flood: str, step: int) -> None:
    """A file that begins with CR or is full of partial boundaries is scanned once (Werkzeug CVE-2023-46136)."""
    head, tail = form(file_part(b"\rSPLIT")).split(b"SPLIT")

    def upload(size: int) -> None:
        answer = site.post(Stream(flooded(FLOODS[flood], size, head, tail, step)))
        assert answer.status == 200
        assert answer.json["size"] == 1 + size // step * step

    assert_linear(upload, 2 * MEBIBYTE)


@pytest.mark.parametrize("flood", ["CR", "CRLF", "CRLF--", "near boundary", "hyphens"])
def test_preamble_and_epilogue_are_skipped_in_linear_time(site: UploadSite, flood: str) -> None:
    """Preamble and epilogue are skipped in one pass (Rack CVE-2025-61770, python-multipart CVE-2024-53981)."""
    body = form(file_part(b"x"))

    def upload(size: int) -> None:
        pieces = flooded(FLOODS[flood], size, b"\r\n" + body, b"", 997)
        before = flooded(FLOODS[flood], size, b"", b"", 997)
        assert site.post(Stream(each for source in (before, pieces) for each in source)).status == 200

    assert_linear(upload, MEBIBYTE)


def peak_memory(work: Callable[[], object]) -> int:
    """Return the peak of the memory that *work* allocated."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filler", [b"x", b"\r", b"\r\n"])
def test_preamble_and_epilogue_are_not_kept_in_memory(
    site: UploadSite, filler: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Preamble and epilogue are neither kept nor logged."""
    piece, identifier = filler * (4096 // len(filler)), site.identifier()
    body = form(file_part(b"content"))

    def pieces() -> Iterator[bytes]:
        yield from repeat(piece, 2048)
        yield b"\r\n" + body
        yield from repeat(piece, 2048)

    with caplog.at_level(logging.DEBUG):
        assert peak_memory(lambda: site.post(Stream(pieces()), identifier)) < MEBIBYTE
    assert site.contents(identifier) == [b"content"]
    (line,) = (record.getMessage() for record in caplog.records if record.name.startswith("fileupload"))
    assert line.startswith("upload done ")


@pytest.mark.parametrize("server", ["gunicorn", "Cheroot"])
def test_a_large_file_is_not_kept_in_memory(site: UploadSite, server: str) -> None:
    """A file of 64 MiB needs memory for a few reads only."""

    def pieces() -> Iterator[bytes]:
        head, tail = form(file_part(b"SPLIT")).split(b"SPLIT")
        yield head
        yield from repeat(bytes(MEBIBYTE), 64)
        yield tail

    assert peak_memory(lambda: site.post(Stream(pieces()), SERVER_SOFTWARE=server)) < 6 * MEBIBYTE


def endless_field(sent: list[int]) -> Iterator[bytes]:
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n'.encode()
    for _ in range(16384):
        sent[0] += 65536
        yield bytes(65536)


def test_a_gigabyte_of_text_stops_at_the_limit(tmp_path: Path) -> None:
    """A field without a filename is limited in memory (Starlette CVE-2024-47874, Rack CVE-2025-61771)."""
    site, sent = UploadSite(tmp_path, drain_size="1M"), [0]
    identifier = site.identifier()

    def send() -> None:
        stream = Stream(endless_field(sent))
        assert site.post(stream, identifier, CONTENT_LENGTH=str(1 << 30)).outcome == (413, "too-large")

    assert peak_memory(send) < 2 * MEBIBYTE + (MEBIBYTE >> 1)
    assert sent[0] < 4 * MEBIBYTE
    assert site.names(identifier) == ONLY_STATUS


def test_many_fields_stop_at_the_total_limit(tmp_path: Path) -> None:
    """The fields are also limited in total (Werkzeug CVE-2024-49767)."""
    site = UploadSite(tmp_path, drain_size=0)
    body = form(
        *(field_part(f"f{n}", b"x" * 1000) for n in range(900)),
        *(field_part("g", b"x" * MEBIBYTE) for _ in "ab"),
    )
    assert site.post(body).outcome == (413, "too-large")


@pytest.mark.parametrize("kind", ["files", "empty files", "fields", "both"])
def test_the_first_part_beyond_a_limit_is_refused_at_once(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first part beyond a limit is refused at once, in one line (Django CVE-2023-24580 and similar)."""
    site = UploadSite(tmp_path, max_files=20, max_fields=20, drain_size=0)
    parts = {
        "files": [file_part("x")],
        "empty files": [file_part("", "")],
        "fields": [field_part("a", "x")],
        "both": [file_part("x"), field_part("a", "x")],
    }[kind]
    before, most, taken = open_resources(), 0, 0

    def pieces() -> Iterator[bytes]:
        nonlocal most, taken
        for n in range(100_000):
            most, taken = max(most, len(open_resources() - before)), n
            yield f"--{BOUNDARY}\r\n".encode() + parts[n % len(parts)] + b"\r\n"

    identifier = site.identifier()
    with caplog.at_level(logging.DEBUG, "fileupload"):
        assert site.post(Stream(pieces()), identifier).outcome == (413, "limit-exceeded")
    assert taken <= 20 * len(parts) + 1
    assert most <= 6  # the bucket, its attempt, the heartbeat, one file; not one for each part
    assert open_resources() <= before
    assert len(caplog.records) == 1
    assert site.names(identifier) == ONLY_STATUS


HEAD = 'Content-Disposition: form-data; name="a"; filename="x"'


@pytest.mark.parametrize("step", [1, 65_536])
@pytest.mark.parametrize(
    "flood",
    [
        b"X: y\r\n",
        b"X" * 64,
        b"X: y",
        b" \r\n",
        b" y\r\n",
        b":\r\n",
        b"\r",
        b"X: \r",
        b"Content-Length: 1\r\n",
    ],
)
def test_a_head_without_an_end_is_refused_early(tmp_path: Path, flood: bytes, step: int) -> None:
    """An endless part header is refused (python-multipart CVE-2026-42561, Rack CVE-2025-61772)."""
    site = UploadSite(tmp_path, drain_size=0)
    flooding = flood * (400_000 // len(flood))
    stream = Stream(flooded(flooding, 400_000, f"--{BOUNDARY}\r\n{HEAD}\r\n".encode(), b"", step))
    answer = site.post(stream)
    assert answer.outcome in {(413, "limit-exceeded"), (400, "malformed-form")}
    assert len(stream.asked) <= 8 * 4096 + 200


def test_a_folded_header_ends_at_its_limit(tmp_path: Path) -> None:
    """A header folded over a thousand lines ends at its limit (PHP CVE-2015-4024)."""
    site = UploadSite(tmp_path, drain_size=0)
    folded = f"--{BOUNDARY}\r\n{HEAD}\r\nX: y".encode() + b"\r\n y" * 1300 + b"\r\n\r\n"
    assert cpu_seconds(lambda: site.post(folded)) < 1
    assert site.post(folded + folded).outcome == (400, "incomplete")


PARAMETERS = [
    '; a="' + "\\" * 8000,
    '; a="' + '\\"' * 4000,
    "; a=b" * 1600,
    "; a" * 2600,
    ";" + " " * 8000,
    ";" + " \t" * 4000 + "=",
    "; a" + " " * 8000,
    "; a=" + " " * 8000 + ";",
    "; a*" * 2000,
    '; a*="' + ";" * 8000,
    '; a*="' * 1300,
    '; a=""' * 1300 + "x",
    "a" * 8000,
    ";=" * 4000,
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda text: text[:8])
def test_hostile_parameters_are_read_fast(parameters: str, strict: bool) -> None:
    """Parsing 8 KB takes at most 10 ms (python-multipart CVE-2024-24762, multipart CVE-2026-28356)."""

    def read() -> None:
        with suppress(ValueError):
            parse_parameters("form-data" + parameters, strict=strict)

    assert cpu_seconds(read) < 0.01


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda text: text[:8])
def test_hostile_parameters_of_a_part_are_answered_fast(tmp_path: Path, parameters: str) -> None:
    """A hostile disposition of a part, up to its limit, or type of a request is parsed as fast."""
    site = UploadSite(tmp_path, max_header_size=9000)
    body = form(part(f"Content-Disposition: form-data{parameters}", "x"))
    assert cpu_seconds(lambda: site.post(body)) < 0.1
    assert site.post(body).status == 400
    assert cpu_seconds(lambda: site.post(body, None, f"multipart/form-data{parameters}")) < 0.1
