"""The search for the delimiter of a form in chunks, including delimiters that are cut at the end."""

import pytest

from fileupload.protocols.boundary_search import Delimiter, contains

BOUNDARY = "----boundary7"
DELIMITER = b"\r\n--" + BOUNDARY.encode()
CONTENT = b"\x00content \r of - a \n file\xff" * 40


@pytest.mark.parametrize("place", range(0, 200, 7))
def test_a_delimiter_is_found_at_any_place(place: int) -> None:
    """A delimiter in a chunk is found at any offset."""
    assert not Delimiter(BOUNDARY).is_absent(CONTENT[:place] + DELIMITER + b"x" * place)


@pytest.mark.parametrize("length", range(1, len(DELIMITER) + 1))
def test_a_prefix_of_the_delimiter_at_the_end_is_found(length: int) -> None:
    """A prefix of the delimiter at the end of a chunk is found, since the next chunk may complete it."""
    assert not Delimiter(BOUNDARY).is_absent(b"x" * 100 + DELIMITER[:length])
    assert not Delimiter(BOUNDARY).is_absent(DELIMITER[:length])


def test_a_chunk_without_a_delimiter_is_content() -> None:
    """A chunk without a delimiter, and without a carriage return near its end, is content."""
    assert Delimiter(BOUNDARY).is_absent(CONTENT + b"x" * len(DELIMITER))
    assert Delimiter(BOUNDARY).is_absent(b"")
    assert Delimiter(BOUNDARY).is_absent(DELIMITER[:-1] + b"x" * len(DELIMITER))


def test_zero_bytes_do_not_end_the_search() -> None:
    """The search uses lengths: a zero byte ends neither the chunk nor the delimiter."""
    assert contains(b"a\0b\0c", 5, b"\0c", 2)
    assert not contains(b"a\0b\0c", 5, b"\0d", 2)
