"""What uploading and downloading many files have in common: their outcomes, their hashes, their bodies."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO

BLOCK = 256 << 10
_MAX_TEXT = 300  # characters of what a server says that are shown


class TransferFailed(Exception):
    """A file, or all of them, cannot be sent or fetched; the message says why."""


class TransferResult(StrEnum):
    """How it went with one file."""

    UPLOADED = "uploaded"
    DOWNLOADED = "downloaded"
    CURRENT = "up to date"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """How it went with one file.

    :ivar name: of the file.
    :ivar detail: where it is now, or why it failed.
    :ivar data: further facts, for programs.
    """

    name: str
    result: TransferResult
    detail: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class FormBody:
    """A form (RFC 7578) with one file, and ``data`` for its record, that is read piece by piece.

    Its length is known before: *size* bytes of *file* are sent, neither more nor fewer.

    :ivar content_type: the header of the request.
    :ivar digest: the SHA-256 of the bytes of the file that have been read.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        *,
        filename: str,
        mimetype: str,
        data: dict[str, Any] | None = None,
        advance: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Send *file* from where it stands.

        :param advance: told of the bytes that were read of the file, as they are.
        """
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.digest = hashlib.sha256()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="{_quoted(filename)}"\r\n'
        head += f"Content-Type: {mimetype}\r\n\r\n"
        if data is not None:
            text = f'--{boundary}\r\nContent-Disposition: form-data; name="data"\r\n\r\n{json.dumps(data)}\r\n'
            head = text + head
        self._head = io.BytesIO(head.encode("utf-8", "replace"))
        self._tail = io.BytesIO(f"\r\n--{boundary}--\r\n".encode())
        self._file, self._left, self._advance = file, size, advance
        self._length = len(self._head.getbuffer()) + size + len(self._tail.getbuffer())

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(BLOCK):
            yield data

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most *size*; none at the end.

        :raises TransferFailed: the file has become shorter.
        """
        most = BLOCK if size < 0 else size
        if data := self._head.read(most):
            return data
        if self._left == 0:
            return self._tail.read(most)
        data = self._file.read(min(most, self._left))
        if not data:
            raise TransferFailed("it became shorter while it was sent")
        self._left -= len(data)
        self.digest.update(data)
        self._advance(len(data))
        return data


def _quoted(name: str) -> str:
    """Return *name* as browsers write it in a form (HTML, multipart/form-data encoding algorithm)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def open_regular(path: str) -> BinaryIO:
    """Open the file at *path* for reading.

    :raises TransferFailed: it is a folder, a device, or a pipe that would never end.
    :raises OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise TransferFailed("it is no regular file")
    return open(fd, "rb")


def hash_of(file: BinaryIO) -> str:
    """Return the SHA-256 of *file*, and leave it at its beginning."""
    digest = hashlib.sha256()
    while data := file.read(BLOCK):
        digest.update(data)
    file.seek(0)
    return digest.hexdigest()


def original_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a record says of its file before it was compressed, in its attachment or beside it, or None."""
    attachment = record.get("attachment")
    if not isinstance(attachment, dict):
        return None
    candidates = [attachment.get("original")]
    # What stands beside it may be of an older file, which somebody has replaced without a word of that.
    if str(attachment.get("filename", "")).endswith(".gz"):
        candidates.append(record.get("original"))
    for found in candidates:
        if isinstance(found, dict) and isinstance(found.get("filename"), str):
            return found
    return None


def printable(text: str) -> str:
    """Return *text* as it can be shown on any terminal, and not too long."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT] + "..."


def reason_of(error: Exception) -> str:
    """Return why a file failed, in words and without a path."""
    if isinstance(error, TransferFailed):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
