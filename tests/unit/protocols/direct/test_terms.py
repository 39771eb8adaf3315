"""The terms of a direct upload: reading a request, cutting a file into parts, and checking the sent parts."""

from __future__ import annotations

import pytest

from fileupload.errors import Incomplete, MalformedRequest, TooLarge
from fileupload.pool.parts import MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, Part
from fileupload.protocols.direct.terms import DirectUploadRequest, check_parts, part_size, part_sizes
from fileupload.status import DirectUploadTerms, State, UploadStatus

MIB = 1 << 20
TIB = 1 << 40


def test_an_upload_request_has_defaults_and_is_cleaned() -> None:
    """Missing values have their defaults; given values are cleaned as in all protocols."""
    wish = DirectUploadRequest.read({"filename": "C:\\a.PNG", "size": 0})
    assert wish == DirectUploadRequest(filename="a.PNG", content_type="image/png", size=0)
    full = {"filename": "a", "content-type": "Text/HTML; charset=x", "size": 10**19 - 1, "sha256": "0" * 64}
    wish = DirectUploadRequest.read({**full, "method": "POST", "acl": "public-read", "whole": True})
    assert wish == DirectUploadRequest(
        filename="a", content_type="text/html", size=10**19 - 1, sha256="0" * 64, form=True
    )


@pytest.mark.parametrize("sha256", ["0" * 63, "0" * 65, "A" * 64, "٣" * 64, "0" * 64 + "\n"])
def test_a_malformed_checksum_is_refused(sha256: str) -> None:
    """A checksum that is not 64 lower-case hex digits is refused."""
    with pytest.raises(MalformedRequest, match="64 hex digits"):
        DirectUploadRequest.read({"filename": "a", "size": 1, "sha256": sha256})


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (0, [0]),
        (1, [1]),
        (MIN_PART_SIZE, [MIN_PART_SIZE]),
        (MIN_PART_SIZE + 1, [MIN_PART_SIZE, 1]),
        (3 * MIN_PART_SIZE, [MIN_PART_SIZE] * 3),
    ],
)
def test_a_file_is_divided_into_parts_of_equal_size(size: int, sizes: list[int]) -> None:
    """All parts but the last have the same size; there is at least one part, and only a single part may be empty."""
    assert list(part_sizes(size, part_size(size, MIN_PART_SIZE))) == sizes


@pytest.mark.parametrize("size", [MAX_PARTS * MIN_PART_SIZE, MAX_PARTS * MIN_PART_SIZE + 1, 5 * TIB - 1, 5 * TIB])
def test_the_part_size_grows_with_the_file(size: int) -> None:
    """The part size grows with the file in whole MiB, so that the store's maximum number of parts suffices."""
    chosen = part_size(size, MIN_PART_SIZE)
    sizes = part_sizes(size, chosen)
    assert chosen % MIB == 0
    assert MIN_PART_SIZE <= chosen <= MAX_PART_SIZE
    assert (len(sizes) <= MAX_PARTS, sum(sizes)) == (True, size)


def agreed(size: int | None, max_size: int | None = None) -> UploadStatus:
    return UploadStatus(state=State.UPLOADING, size=size, direct=DirectUploadTerms(max_size=max_size))


def stored(*sizes: int, first: int = 1) -> list[Part]:
    return [Part(number, f'"{number}"', size) for number, size in enumerate(sizes, first)]


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (agreed(10), stored(10)),
        (agreed(0), stored(0)),
        (agreed(MIN_PART_SIZE + 1), stored(MIN_PART_SIZE, 1)),
        (agreed(10), stored(10, first=0)),
        (agreed(None), stored(MIN_PART_SIZE + 7, MIN_PART_SIZE, 3)),
        (agreed(None, 10), stored(10)),
    ],
)
def test_an_upload_within_the_terms_is_accepted(status: UploadStatus, parts: list[Part]) -> None:
    """An upload of the agreed size, or within the limits, is accepted, also if it was assembled before."""
    check_parts(status, parts, None)
    check_parts(status, parts, {part.number: part.etag.strip('"') for part in parts})


@pytest.mark.parametrize(
    ("status", "parts", "etags", "error"),
    [
        (agreed(10), [], None, Incomplete),
        (agreed(None), [], None, Incomplete),
        (agreed(10), stored(9), None, Incomplete),
        (agreed(10), stored(11), None, TooLarge),
        (agreed(None, 10), stored(11), None, TooLarge),
        (agreed(10), stored(10, first=2), None, Incomplete),
        (agreed(None), stored(MIN_PART_SIZE, MIN_PART_SIZE, first=2), None, Incomplete),
        (agreed(None), stored(MIN_PART_SIZE - 1, 1), None, MalformedRequest),
        (agreed(10), stored(9, first=0), None, Incomplete),
        (agreed(10), stored(10), {}, Incomplete),
        (agreed(10), stored(10), {1: "2"}, Incomplete),
        (agreed(10), stored(10), {1: "1", 2: "2"}, Incomplete),
    ],
)
def test_an_upload_outside_the_terms_is_refused(
    status: UploadStatus, parts: list[Part], etags: dict[int, str] | None, error: type[Exception]
) -> None:
    """Too few bytes, too many, a gap, an invalid part or parts other than those the client named are refused."""
    with pytest.raises(error):
        check_parts(status, parts, etags)


def test_some_missing_parts_are_named() -> None:
    """An error about very many missing parts names the first few."""
    parts = [Part(2, "", MIN_PART_SIZE), Part(9_000, "", 1)]
    with pytest.raises(Incomplete, match=r"without part 1, 3, 4, 5, 6\)"):
        check_parts(agreed(9_000 * MIN_PART_SIZE), parts, None)
