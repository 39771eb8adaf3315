"""The contract of a pool's index: what applications know of the buckets that they made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

Key = tuple[str, ...]
MAX_SEGMENT_BYTES = 140  # bytes in UTF-8


class Index(ABC):
    """Small texts under keys: what an application knows of its buckets, for all processes and hosts.

    A key is a path of words, such as ``("sessions", "4711", "letter")``, and holds any number of named texts. Words and
    names are any text of 1 to :data:`MAX_SEGMENT_BYTES` bytes. There is no change over several names: an application
    gives each fact a name of its own, and the process that learns it writes it once.
    """

    @abstractmethod
    def put(self, key: Key, name: str, text: str = "", *, new: bool = False) -> bool:
        """Store *text*, whole or not at all, durably if the pool is.

        :param new: only if there is none of that name; of several who try, exactly one succeeds.
        :return: False if it was to be new, and is not.
        :raises ValueError: a word or the name is empty or too long.
        """

    @abstractmethod
    def get(self, key: Key, name: str) -> str | None:
        """Return a text, or None."""

    @abstractmethod
    def names(self, key: Key) -> list[str]:
        """Return the names directly under *key*, in the order of their characters."""

    @abstractmethod
    def keys(self, prefix: Key) -> Iterator[Key]:
        """Yield every key that begins with *prefix*, itself included, and holds something."""

    @abstractmethod
    def remove(self, key: Key, name: str) -> bool:
        """Remove a text; False if there was none."""
