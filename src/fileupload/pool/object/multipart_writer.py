"""Writes one object: small ones at once, large ones in parts that are sent while the next one fills."""

from __future__ import annotations

import errno
import math
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress

from fileupload.pool.base import FileWriter
from fileupload.pool.direct import MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, Part
from fileupload.pool.object.store import ObjectStore

DEFAULT_PART_SIZE = 8 << 20  # bytes; fewer parts are fewer requests, and an upload holds up to three of them in memory
_USUAL_PART = 16 << 20  # of a large upload, which stores take faster by a sixth than in parts of half the size
_SMALL_PARTS = 64  # smallest ones, before they grow to that size
_PARTS = ".parts"  # behind a key: the name of the undertaking that makes it of parts
_IN_FLIGHT = 2  # parts that are sent while the next one fills; an upload never holds more than three


def part_size(expected: int | None) -> int:
    """Return the bytes of a part, so that *expected* bytes fit into the number of parts that stores take.

    Of an object of unknown length the parts grow as it does; see :func:`next_part_size`.
    """
    if not expected:
        return DEFAULT_PART_SIZE
    usual = min(_mebibytes(expected / _SMALL_PARTS), _USUAL_PART)
    return min(max(DEFAULT_PART_SIZE, usual, _mebibytes(expected / (MAX_PARTS - 1))), MAX_PART_SIZE)


def next_part_size(size: int, number: int) -> int:
    """Return the bytes of the part after that *number*, which had *size*, of an object of unknown length."""
    # 10,000 parts that double each thousand hold more than the 5 TiB of the largest object.
    grows = number == _SMALL_PARTS or number % 1000 == 0
    return min(size * 2, MAX_PART_SIZE) if grows else size


def _mebibytes(size: float) -> int:
    """Return *size* bytes, rounded up to whole mebibytes."""
    return math.ceil(size / (1 << 20)) << 20


class PartBuffer:
    """Takes the bytes of one part after another. What was cleared keeps its memory, which costs time to have anew."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes | memoryview) -> None:
        """Take all of *data*."""
        end = self._size + len(data)
        if end <= len(self._bytes):
            memoryview(self._bytes)[self._size : end] = data
        else:
            del self._bytes[self._size :]
            self._bytes += data
        self._size = end

    def content(self) -> bytearray:
        """Return what was taken; it is no copy, and holds until this is cleared."""
        del self._bytes[self._size :]
        return self._bytes

    def clear(self) -> None:
        """Begin anew."""
        self._size = 0


class ObjectWriter(FileWriter):
    """Fills a part, sends it in another thread, and fills the next one.

    :ivar taken: the bytes that it has.
    """

    def __init__(
        self, store: ObjectStore, part_executor: Executor, key: str, *, expected: int | None, resumable: bool = False
    ) -> None:
        """Write the object *key*.

        :param expected: bytes at most, where that is known.
        :param resumable: note beside the object what :meth:`resume` needs.
        """
        self._store = store
        self._part_executor = part_executor
        self._key = key
        self._size = part_size(expected)
        self._grows = expected is None
        self._buffer = PartBuffer()
        self._free: list[PartBuffer] = []
        self._upload = ""
        self._number = 0
        self._sending: dict[Future[Part], PartBuffer] = {}
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
        whole = [part for n, part in enumerate(self._parts, 1) if part.number == n and part.size >= MIN_PART_SIZE]
        self._parts, self._number = whole, len(whole)
        with suppress(FileNotFoundError):
            self._buffer.append(self._store.get(self._rest_key()))
        # A part that was stored behind a missing one is found again later: it is right if the others are as they were.
        for number in range(1, self._number + 1) if self._grows else ():
            self._size = next_part_size(self._size, number)
        self._size = max([self._size, *(part.size for part in self._parts)])
        self.taken = sum(part.size for part in self._parts) + len(self._buffer)
        return self.taken

    def suspend(self) -> None:
        """Store what is not yet a part, and let go; the object is not made."""
        self._wait(0)
        # Behind a part that could not be stored, nothing counts.
        if self._buffer and len(self._parts) == self._number:
            self._store.put(self._rest_key(), self._buffer.content())
        self._end()

    def write(self, data: bytes) -> None:
        """Take all of *data*.

        :raises OSError: a part could not be stored.
        """
        self.taken += len(data)
        rest = memoryview(data)
        while len(self._buffer) + len(rest) >= self._size:
            room = max(self._size - len(self._buffer), 0)
            self._buffer.append(rest[:room])
            rest = rest[room:]
            self._send()
        self._buffer.append(rest)

    def close(self) -> None:
        """Make the object."""
        if not self._upload:
            self._store.put(self._key, self._buffer.content())
        else:
            if self._buffer:
                self._send()
            self._wait(0)
            if len(self._parts) != self._number:
                raise OSError(errno.EIO, "a part could not be stored", self._key)
            self._store.complete_multipart_upload(self._key, self._upload, self._parts)
        if self._resumable:
            self._store.delete([self._key + _PARTS, self._rest_key()])
        self._end()

    def abandon(self) -> None:
        """Leave nothing of an object that was not closed."""
        if not self._open:
            return
        wait(self._sending)  # a part that comes after the end would stay
        self._end()
        if self._upload:
            self._store.abort_multipart_upload(self._key, self._upload)

    def _end(self) -> None:
        """Give up what is in memory."""
        self._open = False
        self._buffer = PartBuffer()
        self._free.clear()
        self._sending.clear()

    def _send(self) -> None:
        """Send what is in the buffer, and go on once there is room for the next part."""
        if not self._upload:
            self._upload = self._store.create_multipart_upload(self._key, "application/octet-stream")
            if self._resumable:
                self._store.put(self._key + _PARTS, self._upload.encode())
        self._number += 1
        content = self._buffer.content()
        future = self._part_executor.submit(self._store.put_part, self._key, self._upload, self._number, content)
        self._sending[future], self._buffer = self._buffer, PartBuffer()
        self._wait(_IN_FLIGHT)
        if self._free:
            self._buffer = self._free.pop()
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
            for future in wait(self._sending, return_when=FIRST_COMPLETED).done:
                buffer = self._sending.pop(future)
                self._parts.append(future.result())
                buffer.clear()
                self._free.append(buffer)
        self._parts.sort(key=lambda part: part.number)
