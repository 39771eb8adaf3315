"""Values that the pool contract shares with direct uploads: writers of files and parts, and the limits of parts.

The limits are those of Amazon S3, which all S3-compatible stores keep. A pool in a directory keeps them too, so that
clients need not know the difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_PART_SIZE = 5 << 20  # bytes, of each part but the last
MAX_PART_SIZE = 5 << 30  # bytes
MAX_PARTS = 10_000  # of one file


@dataclass(frozen=True)
class Part:
    """A part that is completely stored, or an object as its own only part.

    :ivar number: from 1; 0 for the file that was assembled of all parts.
    :ivar etag: a text that changes with the bytes, in quotes as in the ``ETag`` header.
    :ivar size: size in bytes.
    :ivar age: seconds since the part was stored, by the store's own clock; 0 where the pool does not know.
    """

    number: int
    etag: str
    size: int
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Form:
    """A form that a browser can post: the address, and the fields that must precede the one file."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class PresignedPut:
    """A request that sends a whole file: the URL, and the signed headers, which the client must send."""

    url: str
    headers: Mapping[str, str]


class FileWriter(ABC):
    """Writes the bytes of one file of an attempt."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append all of *data* to the file.

        :raises OSError: it could not be stored.
        """

    @abstractmethod
    def close(self) -> None:
        """End the file. When this returns, its bytes are stored, durably if the pool is durable.

        :raises OSError: they could not be stored.
        """


class PartWriter(FileWriter):
    """Writes the bytes of one part, which does not count before it is closed.

    :ivar part: the stored part, once the writer is closed.
    """

    part: Part

    @abstractmethod
    def abandon(self) -> None:
        """Remove a part that was not closed; does nothing after ``close``."""
