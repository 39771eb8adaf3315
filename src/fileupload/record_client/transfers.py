"""Outcomes, form bodies and hashes, shared by the upload and the download of many files."""

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

BLOCK = 256 << 10  # bytes
_MAX_TEXT = 300  # characters of a server's message that are shown


class TransferFailed(Exception):
    """The transfer of a file, or of all files, is not possible; the message gives the reason."""


class TransferResult(StrEnum):
    """The result of a transfer."""

    UPLOADED = "uploaded"
    DOWNLOADED = "downloaded"
    CURRENT = "up to date"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """The outcome of the transfer of one file.

    :ivar name: the file's name.
    :ivar detail: its location after an upload, or the reason of a failure.
    :ivar data: further keys of the JSON output.
    """

    name: str
    result: TransferResult
    detail: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class FormBody:
    """A streamed form (RFC 7578) with one file, and ``data`` for its record.

    Its length is known before it is sent: it contains exactly *size* bytes of *file*.

    :ivar content_type: the value of the header Content-Type.
    :ivar digest: the SHA-256 of the bytes of the file that were read so far.
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
        """Read *file* from its current position.

        :param advance: called with the number of bytes after each read of the file, for the progress bar.
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
        limit = BLOCK if size < 0 else size
        if data := self._head.read(limit):
            return data
        if self._left == 0:
            return self._tail.read(limit)
        data = self._file.read(min(limit, self._left))
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

    :raises TransferFailed: it is a folder, a device or a named pipe.
    :raises OSError: it cannot be opened.
    """
    # Without O_NONBLOCK, opening a named pipe would block until another process opens it for writing.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise TransferFailed("it is no regular file")
    return open(fd, "rb")


def hash_of(file: BinaryIO) -> str:
    """Return the SHA-256 of *file* from its current position, and rewind it to its beginning."""
    digest = hashlib.sha256()
    while data := file.read(BLOCK):
        digest.update(data)
    file.seek(0)
    return digest.hexdigest()


def original_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description of a record's file before it was compressed, or None.

    It is the key ``original`` of the attachment, or of the record itself.
    """
    attachment = record.get("attachment")
    if not isinstance(attachment, dict):
        return None
    candidates = [attachment.get("original")]
    # The record's own key may describe an older file: clients that replace the attachment do not always update it.
    if str(attachment.get("filename", "")).endswith(".gz"):
        candidates.append(record.get("original"))
    for found in candidates:
        if isinstance(found, dict) and isinstance(found.get("filename"), str):
            return found
    return None


def printable(text: str) -> str:
    """Return *text* without control characters, at most 300 characters, for output on a terminal."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT] + "..."


def reason_of(error: Exception) -> str:
    """Return the reason of a failure as part of a sentence, without a path."""
    if isinstance(error, TransferFailed):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
