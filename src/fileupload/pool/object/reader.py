"""Reads one object as a file."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, cast

from fileupload.pool.object.store import ObjectStore

_BUFFER = 1 << 20


def open_object(store: ObjectStore, key: str, size: int) -> BinaryIO:
    """Return an object of *size* bytes, read from the store as it is read here; seeking asks anew.

    :raises FileNotFoundError: it is not there.
    """
    return cast(BinaryIO, io.BufferedReader(_ObjectFile(store, key, size), _BUFFER))


class _ObjectFile(io.RawIOBase):
    """Reads an object; where it was last left, the store goes on sending."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0
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
            self._drop()
            self._position = target
        return target

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        if self._stream is None:
            self._stream = self._store.open(self._key, self._position)
        data = self._stream.read(min(len(buffer), self._size - self._position))
        if not data:
            raise OSError("the store sent less than it has")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
