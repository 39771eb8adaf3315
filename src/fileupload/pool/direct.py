"""The contract of direct uploads: files that clients send to the pool by themselves, in parts.

The parts come in any order, several at once, and again if need be: of one number the last counts that was whole. They
become a file when the owner of the attempt says so, and change nothing from then on. What is sent to a bucket that was
finished, cleared or begun anew is refused, or lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fileupload.pool.base import FileWriter

MIN_PART_SIZE = 5 << 20  # bytes; what stores want of all parts but the last
MAX_PART_SIZE = 5 << 30
MAX_PARTS = 10_000


@dataclass(frozen=True)
class Part:
    """A part that is stored whole.

    :ivar number: from 1; 0 for what holds all of them.
    :ivar etag: changes with its bytes.
    :ivar age: seconds since it was stored, by the store's own clock, where that is known.
    """

    number: int
    etag: str
    size: int
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Form:
    """Where a form with one file, and these fields before it, can be posted to."""

    url: str
    fields: Mapping[str, str]


class PartWriter(FileWriter):
    """Takes the bytes of one part; it counts once it is closed.

    :ivar part: what is then stored.
    """

    part: Part

    @abstractmethod
    def abandon(self) -> None:
        """Leave nothing of a part that was not closed."""


class DirectFile(ABC):
    """The one file of an attempt that is resumable, and suspended while the client sends.

    :ivar streams_through_server: whether all bytes pass through this process when the file is assembled, so that their
        hash costs little.
    """

    streams_through_server = False

    @abstractmethod
    def begin(self, *, form: bool) -> None:
        """Prepare it; for the owner of the attempt, once.

        :param form: the client will post a form, in the place of parts.
        """

    @abstractmethod
    def part_url(self, number: int, size: int | None, expires: float) -> str | None:
        """Return the address to which anyone can PUT that part for *expires* seconds.

        :param size: the bytes that it must have, or None for any.
        :return: None where our own server has to take it, by :meth:`receive_part`.
        """

    @abstractmethod
    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return where anyone can post a file of *min_size* to *max_size* bytes for *expires* seconds.

        :return: None where our own server has to take it, as its only part.
        """

    def is_form_key(self, key: str) -> bool:
        """Tell whether *key* is what the form was given as its own, which nobody else knows."""
        return False

    @abstractmethod
    def receive_part(self, number: int, size: int = 0, limit: int | None = None) -> PartWriter:
        """Begin to receive a part that is sent to our own server.

        A part of this number that is still being received is superseded: its client has sent it again, most likely
        over a new connection. Its writer raises ``Superseded`` at its next operation, and its bytes are freed.

        :param size: the bytes that the request declares; 0 where it declares none.
        :param limit: the most bytes of all parts together, those that are still being received included.
        :raises TooLarge: they would have more.
        :raises Superseded: the upload was finished, cleared or begun anew.
        """

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return the parts that are stored, by their numbers; where the file was assembled, one with number 0."""

    @abstractmethod
    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Make the file of exactly these *parts*; for the owner of the attempt, who has resumed it.

        :return: the hex SHA-256 of its bytes, if *hashed*.
        :raises Incomplete: a part is not there any more as it was.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Remove all of it."""
