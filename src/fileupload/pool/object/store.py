"""What an object store is to the pool: the few operations that the pool is made of, each safe by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from fileupload.pool.direct import Form, Part


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing.

    :ivar age: seconds since it was written, by the store's own clock.
    """

    key: str
    size: int
    age: float


class ObjectStore(ABC):
    """Objects under keys. Whatever fails raises OSError; what is not there, FileNotFoundError.

    A write is whole or not at all, and seen by all who read after it (as all S3-compatible stores promise by now).

    :ivar rejects_late_parts: whether an object that was made of parts cannot be changed by a part that comes late.
    """

    rejects_late_parts = True

    @abstractmethod
    def put(self, key: str, data: bytes | bytearray, *, new: bool = False) -> bool:
        """Store an object.

        :param new: only if there is none; of several who try, exactly one succeeds.
        :return: False if it was to be new, and is not.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return a small object."""

    @abstractmethod
    def open(self, key: str, start: int = 0) -> BinaryIO:
        """Return the bytes of an object from *start* on, as they come; it cannot be sought in."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; it does not matter whether they are there."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix*, in the order of their keys."""

    @abstractmethod
    def common_prefixes(self, prefix: str) -> Iterator[str]:
        """Yield what stands between *prefix* and the next slash in the keys, each once."""

    @abstractmethod
    def create_multipart_upload(self, key: str, content_type: str) -> str:
        """Begin to store an object in parts; return the name of that undertaking."""

    @abstractmethod
    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> Part:
        """Store one part; all but the last have 5 MiB or more."""

    @abstractmethod
    def parts(self, key: str, upload: str) -> Sequence[Part]:
        """Return the parts that are stored."""

    @abstractmethod
    def complete_multipart_upload(self, key: str, upload: str, parts: Iterable[Part]) -> None:
        """Make the object of its parts."""

    @abstractmethod
    def abort_multipart_upload(self, key: str, upload: str) -> None:
        """Remove the parts of an object that will not be; it does not matter whether they are there."""

    @abstractmethod
    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Yield key, undertaking and age in seconds of the objects below *prefix* that are not made yet."""

    @abstractmethod
    def presigned_get_url(self, key: str, expires: float, *, filename: str = "", content_type: str = "") -> str:
        """Return an address under which anyone can read an object for *expires* seconds."""

    @abstractmethod
    def stat(self, key: str) -> Part:
        """Return size and ETag of an object, as its only part."""

    @abstractmethod
    def copy(self, source: str, key: str, *, etag: str = "", content_type: str = "") -> None:
        """Let the store copy an object of any size; not a byte of it passes through us.

        :param etag: only if *source* still has that one.
        :param content_type: of the copy; empty: that of *source*.
        :raises FileNotFoundError: there is no *source*, or it has another ETag.
        """

    @abstractmethod
    def copy_from(self, origin: ObjectStore, source: str, key: str) -> bool:
        """Copy an object of *origin*, as :meth:`copy` does; False if that is in another store.

        :raises FileNotFoundError: there is no *source*.
        """

    @abstractmethod
    def with_object_headers(self, content_type: str, *, disposition: str = "", acl: str = "") -> ObjectStore:
        """Return the same store, for writing objects that others read there: it serves them in this way.

        :param disposition: a Content-Disposition.
        :param acl: a canned ACL such as ``public-read``; empty: the store's own rules hold.
        """

    @abstractmethod
    def public_url(self, key: str) -> str:
        """Return the address of an object, without a signature."""

    @abstractmethod
    def part_url(self, key: str, upload: str, number: int, size: int | None, expires: float) -> str:
        """Return an address to which anyone can PUT a part for *expires* seconds, of *size* bytes if given."""

    @abstractmethod
    def presigned_post(self, key: str, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return where an object of *min_size* to *max_size* bytes can be posted; None without POST policies."""
