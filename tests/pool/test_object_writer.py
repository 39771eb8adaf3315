"""Sizes of the parts in which an object goes to a store."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from fileupload.pool.direct import LARGEST_PART, LEAST_PART, MOST_PARTS
from fileupload.pool.object_writer import SMALLEST_PART, next_part_size, part_size

MEBIBYTE, GIBIBYTE, TEBIBYTE = 1 << 20, 1 << 30, 1 << 40
LARGEST_OBJECT = 5 * TEBIBYTE


@pytest.mark.parametrize("size", [1, 8 * MEBIBYTE, GIBIBYTE, 200 * GIBIBYTE, TEBIBYTE + 1, LARGEST_OBJECT])
def test_any_length_fits(size: int) -> None:
    """An object of any length that stores take goes in parts that they take."""
    assert LEAST_PART <= part_size(size) <= LARGEST_PART
    assert math.ceil(size / part_size(size)) <= MOST_PARTS


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 8), (100 * MEBIBYTE, 8), (512 * MEBIBYTE, 8), (513 * MEBIBYTE, 9), (GIBIBYTE, 16), (100 * GIBIBYTE, 16)],
)
def test_parts_of_usual_lengths_are_small(size: int, expected: int) -> None:
    """Parts are of 8 MiB, and of 16 for large objects, since an upload holds three of them in memory."""
    assert part_size(size) == expected * MEBIBYTE


def test_parts_of_an_unknown_length_grow() -> None:
    """Of an object whose length is not known the parts grow, so that as many as there may be hold the largest."""
    sizes = [SMALLEST_PART]
    while len(sizes) < MOST_PARTS:
        sizes.append(next_part_size(sizes[-1], len(sizes)))
    assert sum(sizes) >= LARGEST_OBJECT
    assert all(before <= after <= LARGEST_PART for before, after in pairwise(sizes))
    assert sum(sizes[:64]) == 64 * SMALLEST_PART
