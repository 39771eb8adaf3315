"""Writes one object: a small one in one request, a large one in parts that are sent while the next part fills.

A part has 8 MiB, more if the declared length needs it, so that 10,000 parts suffice. Two parts are sent while one
fills, so an upload holds at most three parts in memory.

*Resuming.* The parts of a suspended upload stay with their multipart upload, whose upload id is in ``<key>.parts``. The
bytes that do not fill a part are an object of their own, ``<key>.rest-<number of parts>``; a crash loses them, and the
client sends them again. A writer that resumes counts the parts from 1 to the first gap, since parts are sent side by
side, and a crash can leave part 3 without part 2. The object is made of the parts with the ETags that the writer knows.
So if a superseded writer, which has not noticed yet, replaces a part, completing fails instead of mixing the bytes of
two clients.
"""

from __future__ import annotations

import errno
import math
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress

from fileupload.pool.object.store import ObjectStore
from fileupload.pool.parts import MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, FileWriter, Part

DEFAULT_PART_SIZE = 8 << 20  # bytes
_LARGE_PART_SIZE = 16 << 20  # for large files: a sixth faster on Swift and radosgw, with half the requests
_SMALL_PARTS = 64  # parts of DEFAULT_PART_SIZE before they grow
_UPLOAD_ID = ".parts"  # the end of the key that has the upload id
_IN_FLIGHT = 2  # parts that are sent while the next one fills


def part_size(expected: int | None) -> int:
    """Return the size of a part in bytes, so that an object of *expected* bytes has at most MAX_PARTS parts.

    If the length is not known, the parts grow with the object; see :func:`next_part_size`.
    """
    if not expected:
        return DEFAULT_PART_SIZE
    usual = min(_mebibytes(expected / _SMALL_PARTS), _LARGE_PART_SIZE)
    return min(max(DEFAULT_PART_SIZE, usual, _mebibytes(expected / (MAX_PARTS - 1))), MAX_PART_SIZE)


def next_part_size(size: int, number: int) -> int:
    """Return the size of the part after the part *number*, which has *size* bytes, of an object of unknown length."""
    # 10,000 parts whose size doubles every thousand parts hold more than the 5 TiB of the largest object.
    grows = number == _SMALL_PARTS or number % 1000 == 0
    return min(size * 2, MAX_PART_SIZE) if grows else size


def _mebibytes(size: float) -> int:
    """Return *size* bytes, rounded up to whole mebibytes."""
    return math.ceil(size / (1 << 20)) << 20


class PartBuffer:
    """Collects the bytes of one part. A cleared buffer keeps its memory, because allocating it again costs time."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes | memoryview) -> None:
        """Append all of *data*."""
        end = self._size + len(data)
        if end <= len(self._bytes):
            memoryview(self._bytes)[self._size : end] = data
        else:
            del self._bytes[self._size :]
            self._bytes += data
        self._size = end

    def content(self) -> bytearray:
        """Return the bytes, not a copy; valid until the buffer is cleared."""
        del self._bytes[self._size :]
        return self._bytes

    def clear(self) -> None:
        """Remove the bytes."""
        self._size = 0


class ObjectWriter(FileWriter):
    """Fills a part, sends it in another thread, and fills the next one meanwhile.

    :ivar taken: bytes that were written, those of a resumed writer included.
    """

    def __init__(
        self, store: ObjectStore, part_executor: Executor, key: str, *, expected: int | None, resumable: bool = False
    ) -> None:
        """Write the object *key*.

        :param expected: maximum size of the object in bytes, or None if it is not known.
        :param resumable: store beside the object what :meth:`resume` needs.
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
        """Continue the object of a suspended or crashed writer; return the offset, the bytes that are stored."""
        with suppress(FileNotFoundError):
            self._upload = self._store.get(self._key + _UPLOAD_ID).decode()
            self._parts = sorted(self._store.parts(self._key, self._upload), key=lambda part: part.number)
        # Parts are sent side by side, so one may be missing: the parts after a gap do not count. A part below the
        # minimum was sent as the last one, just before a crash: no other part could follow it, so it is sent again.
        usable = [part for n, part in enumerate(self._parts, 1) if part.number == n and part.size >= MIN_PART_SIZE]
        self._parts, self._number = usable, len(usable)
        with suppress(FileNotFoundError):
            self._buffer.append(self._store.get(self._rest_key()))
        # A part after a gap stays in the store, and counts again in a later resume once the gap is filled. So the parts
        # that fill it must have the sizes that the first writer used.
        for number in range(1, self._number + 1) if self._grows else ():
            self._size = next_part_size(self._size, number)
        self._size = max([self._size, *(part.size for part in self._parts)])
        self.taken = sum(part.size for part in self._parts) + len(self._buffer)
        return self.taken

    def suspend(self) -> None:
        """Store the bytes that do not fill a part, and end without making the object."""
        self._wait(0)
        # After a part that could not be stored, no bytes count.
        if self._buffer and len(self._parts) == self._number:
            self._store.put(self._rest_key(), self._buffer.content())
        self._end()

    def write(self, data: bytes) -> None:
        """Write all of *data*.

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
            self._store.delete([self._key + _UPLOAD_ID, self._rest_key()])
        self._end()

    def abandon(self) -> None:
        """Remove the parts of an object that was not closed."""
        if not self._open:
            return
        wait(self._sending)  # a part that arrived after the abort would stay
        self._end()
        if self._upload:
            self._store.abort_multipart_upload(self._key, self._upload)

    def _end(self) -> None:
        """Free the memory."""
        self._open = False
        self._buffer = PartBuffer()
        self._free.clear()
        self._sending.clear()

    def _send(self) -> None:
        """Send the part in the buffer, and wait until at most _IN_FLIGHT parts are being sent."""
        if not self._upload:
            self._upload = self._store.create_multipart_upload(self._key, "application/octet-stream")
            if self._resumable:
                self._store.put(self._key + _UPLOAD_ID, self._upload.encode())
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
        """Return the key of the bytes after the last part. An older rest has another number."""
        return f"{self._key}.rest-{len(self._parts)}"

    def _wait(self, most: int) -> None:
        """Wait until at most *most* parts are being sent.

        :raises OSError: one of them could not be stored.
        """
        while len(self._sending) > most:
            for future in wait(self._sending, return_when=FIRST_COMPLETED).done:
                buffer = self._sending.pop(future)
                self._parts.append(future.result())
                buffer.clear()
                self._free.append(buffer)
        self._parts.sort(key=lambda part: part.number)
