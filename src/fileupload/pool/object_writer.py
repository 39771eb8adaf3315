"""Writes one object: small ones at once, large ones in parts that are sent while the next one fills."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Executor, Future
from contextlib import suppress

from fileupload.pool.base import FileWriter
from fileupload.pool.direct import LARGEST_PART, LEAST_PART, MOST_PARTS, Part
from fileupload.pool.object_store import ObjectStore

SMALLEST_PART = 8 << 20  # bytes; fewer parts are fewer requests, and an upload holds up to three of them in memory
_USUAL_PART = 16 << 20  # of a large upload, which stores take faster by a sixth than in parts of half the size
_SMALL_PARTS = 64  # smallest ones, before they grow to that size
_PARTS = ".parts"  # behind a key: the name of the undertaking that makes it of parts
_IN_FLIGHT = 2  # parts that are sent at once; with the one that fills, an upload holds three


def part_size(expected: int | None) -> int:
    """Return the bytes of a part, so that *expected* bytes fit into the number of parts that stores take.

    Of an object of unknown length the parts grow as it does; see :func:`next_part_size`.
    """
    if not expected:
        return SMALLEST_PART
    usual = min(_mebibytes(expected / _SMALL_PARTS), _USUAL_PART)
    return min(max(SMALLEST_PART, usual, _mebibytes(expected / (MOST_PARTS - 1))), LARGEST_PART)


def next_part_size(size: int, number: int) -> int:
    """Return the bytes of the part after that *number*, which had *size*, of an object of unknown length."""
    # 10,000 parts that double each thousand hold more than the 5 TiB of the largest object.
    grows = number == _SMALL_PARTS or number % 1000 == 0
    return min(size * 2, LARGEST_PART) if grows else size


def _mebibytes(size: float) -> int:
    """Return *size* bytes, rounded up to whole mebibytes."""
    return math.ceil(size / (1 << 20)) << 20


class ObjectWriter(FileWriter):
    """Fills a part, sends it in another thread, and fills the next one.

    :ivar taken: the bytes that it has.
    """

    def __init__(
        self, store: ObjectStore, senders: Executor, key: str, *, expected: int | None, resumable: bool = False
    ) -> None:
        """Write the object *key*.

        :param expected: bytes at most, where that is known.
        :param resumable: note beside the object what :meth:`resume` needs.
        """
        self._store = store
        self._senders = senders
        self._key = key
        self._size = part_size(expected)
        self._grows = expected is None
        self._buffer = bytearray()
        self._upload = ""
        self._number = 0
        self._sending: deque[Future[Part]] = deque()
        self._parts: list[Part] = []
        self._open = True
        self._resumable = resumable
        self.taken = 0

    def resume(self) -> int:
        """Take up what a suspended or crashed writer of the same key has stored; return its bytes."""
        with suppress(FileNotFoundError):
            self._upload = self._store.get(self._key + _PARTS).decode()
            self._parts = sorted(self._store.parts(self._key, self._upload), key=lambda part: part.number)
        # Parts are sent side by side, so one may be missing before the last: what stands behind it does not count.
        # The same holds for a last part that was stored while the object was being made: nothing could follow it.
        whole = [part for n, part in enumerate(self._parts, 1) if part.number == n and part.size >= LEAST_PART]
        self._parts, self._number = whole, len(whole)
        with suppress(FileNotFoundError):
            self._buffer += self._store.get(self._rest_key())
        if self._parts:
            self._size = max(self._size, max(part.size for part in self._parts))
        self.taken = sum(part.size for part in self._parts) + len(self._buffer)
        return self.taken

    def suspend(self) -> None:
        """Store what is not yet a part, and let go; the object is not made."""
        self._wait(0)
        if self._buffer:
            self._store.put(self._rest_key(), self._buffer)
        self._open = False
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        """Take all of *data*.

        :raises OSError: a part could not be stored.
        """
        self._buffer += data
        self.taken += len(data)
        while len(self._buffer) >= self._size:
            self._send(self._size)

    def close(self) -> None:
        """Make the object."""
        if not self._upload:
            self._store.put(self._key, self._buffer)
        else:
            if self._buffer:
                self._send(len(self._buffer))
            self._wait(0)
            self._store.complete_parts(self._key, self._upload, self._parts)
        if self._resumable:
            self._store.delete([self._key + _PARTS, self._rest_key()])
        self._open = False
        self._buffer = bytearray()

    def abandon(self) -> None:
        """Leave nothing of an object that was not closed."""
        if not self._open:
            return
        self._open = False
        self._buffer = bytearray()
        for future in self._sending:
            with suppress(Exception):
                future.result()  # a part that comes after the end would stay
        self._sending.clear()
        if self._upload:
            self._store.abort_parts(self._key, self._upload)

    def _send(self, size: int) -> None:
        if not self._upload:
            self._upload = self._store.begin_parts(self._key, "application/octet-stream")
            if self._resumable:
                self._store.put(self._key + _PARTS, self._upload.encode())
        self._wait(_IN_FLIGHT - 1)
        rest = self._buffer[size:]
        del self._buffer[size:]
        part, self._buffer = self._buffer, rest
        self._number += 1
        self._sending.append(self._senders.submit(self._store.put_part, self._key, self._upload, self._number, part))
        if self._grows:
            self._size = next_part_size(self._size, self._number)

    def _rest_key(self) -> str:
        """Return where the rest behind the parts lies; one that was stored behind fewer parts is of the past."""
        return f"{self._key}.rest-{len(self._parts)}"

    def _wait(self, most: int) -> None:
        """Wait until at most so many parts are being sent.

        :raises OSError: one of them could not be stored.
        """
        while len(self._sending) > most:
            self._parts.append(self._sending.popleft().result())
