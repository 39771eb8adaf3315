"""The contract of a pool's index: small texts in which applications store what they know of their buckets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

Key = tuple[str, ...]
MAX_SEGMENT_BYTES = 140  # bytes in UTF-8


class Index(ABC):
    """Small texts under keys, visible to all processes and hosts.

    A key is a path of segments, such as ``("sessions", "4711", "letter")``, and holds any number of named texts.
    Segments and names are any text of 1 to :data:`MAX_SEGMENT_BYTES` bytes. No change covers several names, so an
    application gives each fact a name of its own, and the process that learns the fact writes it once::

        pool.index.put(("sessions", "4711"), bucket_id, "letter.pdf")
        pool.index.names(("sessions", "4711"))  # [bucket_id]
    """

    @abstractmethod
    def put(self, key: Key, name: str, text: str = "", *, new: bool = False) -> bool:
        """Store *text* atomically, and durably if the pool is durable.

        :param new: store it only if there is no text of that name; of several simultaneous callers one succeeds.
        :return: False if *new* is true and there is a text of that name.
        :raises ValueError: a segment or the name is empty or too long.
        """

    @abstractmethod
    def get(self, key: Key, name: str) -> str | None:
        """Return a text, or None if there is none."""

    @abstractmethod
    def names(self, key: Key) -> list[str]:
        """Return the names directly under *key*, sorted."""

    @abstractmethod
    def keys(self, prefix: Key) -> Iterator[Key]:
        """Yield every key that begins with *prefix*, itself included, and holds at least one text."""

    @abstractmethod
    def remove(self, key: Key, name: str) -> bool:
        """Remove a text; False if there was none."""
