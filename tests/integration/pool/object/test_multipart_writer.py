"""Multipart uploads of objects to a store: the size of their parts, and their memory."""

from __future__ import annotations

import errno
import math
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.pool.object import multipart_writer as object_writer
from fileupload.pool.object.multipart_writer import (
    DEFAULT_PART_SIZE,
    ObjectWriter,
    PartBuffer,
    next_part_size,
    part_size,
)
from fileupload.pool.parts import MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE
from fileupload.pool.s3.store import S3Store

MEBIBYTE, GIBIBYTE, TEBIBYTE = 1 << 20, 1 << 30, 1 << 40
LARGEST_OBJECT = 5 * TEBIBYTE


@pytest.mark.parametrize("size", [1, 8 * MEBIBYTE, GIBIBYTE, 200 * GIBIBYTE, TEBIBYTE + 1, LARGEST_OBJECT])
def test_an_object_of_any_length_is_split_into_valid_parts(size: int) -> None:
    """An object of any length that stores accept is split into parts that they accept."""
    assert MIN_PART_SIZE <= part_size(size) <= MAX_PART_SIZE
    assert math.ceil(size / part_size(size)) <= MAX_PARTS


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 8), (100 * MEBIBYTE, 8), (512 * MEBIBYTE, 8), (513 * MEBIBYTE, 9), (GIBIBYTE, 16), (100 * GIBIBYTE, 16)],
)
def test_parts_of_usual_lengths_are_small(size: int, expected: int) -> None:
    """Parts have 8 MiB, and 16 MiB for large objects, since an upload holds three of them in memory."""
    assert part_size(size) == expected * MEBIBYTE


def test_parts_of_an_unknown_length_grow() -> None:
    """The parts of an object of unknown length grow, so that the largest number of them holds the largest object."""
    sizes = [DEFAULT_PART_SIZE]
    while len(sizes) < MAX_PARTS:
        sizes.append(next_part_size(sizes[-1], len(sizes)))
    assert sum(sizes) >= LARGEST_OBJECT
    assert all(before <= after <= MAX_PART_SIZE for before, after in pairwise(sizes))
    assert sum(sizes[:64]) == 64 * DEFAULT_PART_SIZE


@given(st.lists(st.lists(st.binary(max_size=9)), max_size=9))
def test_a_buffer_returns_the_bytes_of_each_part(parts: list[list[bytes]]) -> None:
    """A buffer returns the bytes of each part, whatever it has held before."""
    buffer = PartBuffer()
    for chunks in parts:
        for chunk in chunks:
            buffer.append(chunk)
        whole = b"".join(chunks)
        assert len(buffer) == len(whole)
        assert buffer.content() == whole
        buffer.clear()


def test_an_object_of_many_parts_is_stored_unchanged(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object has the bytes written, in chunks of any size, and at most three parts of it are in memory."""
    monkeypatch.setattr(object_writer, "DEFAULT_PART_SIZE", MIN_PART_SIZE)
    key, chance = uuid.uuid4().hex, random.Random(4)
    content = chance.randbytes(6 * MIN_PART_SIZE + 1)
    buffers = set()
    sent = store.put_part

    def put_part(*arguments: Any) -> Any:
        buffers.add(id(arguments[3]))
        return sent(*arguments)

    monkeypatch.setattr(store, "put_part", put_part)
    with ThreadPoolExecutor(8) as part_executor:
        writer = ObjectWriter(store, part_executor, key, expected=None)
        at = 0
        while at < len(content):
            size = chance.choice([1, 1000, 65_536, MIN_PART_SIZE, 2 * MIN_PART_SIZE + 1])
            writer.write(content[at : at + size])
            at += size
        writer.close()
    assert writer.taken == len(content)
    with store.open(key) as file:
        assert file.read() == content
    assert len(buffers) <= 3


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_completing_fails_after_a_lost_part(store: S3Store, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    """If a part was lost, completing fails at each retry, and makes no object of the other parts and keeps none.

    The loss is simulated, since real stores cannot be made to lose a part.
    """
    monkeypatch.setattr(object_writer, "DEFAULT_PART_SIZE", MIN_PART_SIZE)
    key, content = uuid.uuid4().hex, random.Random(lost).randbytes(3 * MIN_PART_SIZE + 10)
    sent = store.put_part

    def put_part(key: str, upload: str, number: int, data: bytearray) -> Any:
        if number == lost:
            raise OSError(errno.EIO, "lost")
        return sent(key, upload, number, data)

    with ThreadPoolExecutor(8) as part_executor:
        with monkeypatch.context() as faulty:
            faulty.setattr(store, "put_part", put_part)
            writer = ObjectWriter(store, part_executor, key, expected=None, resumable=True)
            with suppress(OSError):
                writer.write(content)
            for end in (writer.close, writer.close, writer.suspend, writer.suspend):
                with suppress(OSError):
                    end()
        with pytest.raises(FileNotFoundError):
            store.stat(key)
        again = ObjectWriter(store, part_executor, key, expected=None, resumable=True)
        taken = again.resume()
        assert taken == (lost - 1) * MIN_PART_SIZE
        again.write(content[taken:])
        again.close()
    with store.open(key) as file:
        assert file.read() == content
