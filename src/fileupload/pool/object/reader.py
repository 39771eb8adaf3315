"""Reads an object like a file, with requests that begin where they are needed.

A request for an object streams all bytes from an offset on. A file keeps such a stream open as long as it is read in
order, and 1 MiB of it is buffered. Seeking to another position ends the stream; the next read begins a new one there,
with a Range header. So a download is one request however it is read, and ``seek(-3, 2)`` costs one small request.

The size is that in the status of the upload, not that of the stream. A stream that ends early raises OSError: a store
that cuts a response must not look like the end of the file.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO, cast

from fileupload.pool.object.store import ObjectStore

_BUFFER = 1 << 20  # bytes


def open_object(store: ObjectStore, key: str, size: int) -> BinaryIO:
    """Return an object of *size* bytes as a file that can seek.

    :raises FileNotFoundError: it does not exist.
    """
    return cast(BinaryIO, io.BufferedReader(_ObjectFile(store, key, size), _BUFFER))


class _ObjectFile(io.RawIOBase):
    """Reads an object from the current stream, or from a new one after a seek."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0
        # Opened now, so that a missing object is reported by open() and not by the first read.
        self._stream: BinaryIO | None = store.open(key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        target = max(0, base + offset)
        if target != self._position:
            self._close_stream()
            self._position = target
        return target

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        if self._stream is None:
            self._stream = self._store.open(self._key, self._position)
        data = self._stream.read(min(len(buffer), self._size - self._position))
        if not data:
            raise OSError("the object store sent fewer bytes than the file has")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._close_stream()
        super().close()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
