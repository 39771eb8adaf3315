"""The interface between the object pool and an object store: few operations, each atomic by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from fileupload.pool.parts import Form, Part, PresignedPut


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing.

    :ivar size: size in bytes.
    :ivar age: seconds since it was written, by the store's own clock.
    """

    key: str
    size: int
    age: float


class ObjectStore(ABC):
    """Objects under keys.

    Every method raises OSError if the store fails or cannot be reached, and FileNotFoundError for an object or
    multipart upload that does not exist. A write is atomic, and every later read sees it (all current S3-compatible
    stores promise that).
    """

    @property
    @abstractmethod
    def rejects_late_parts(self) -> bool:
        """Return whether the store refuses a part for a complete multipart upload, which would break the object."""

    @abstractmethod
    def put(self, key: str, data: bytes | bytearray, *, new: bool = False) -> bool:
        """Store an object, replacing an existing one.

        :param new: store it only if the key does not exist; of several simultaneous callers one succeeds.
        :return: False if *new* is true and the key exists.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the content of a small object."""

    @abstractmethod
    def open(self, key: str, start: int = 0) -> BinaryIO:
        """Return a stream of an object's bytes from offset *start*; it cannot seek."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. Keys that do not exist are ignored."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix*, in the order of their keys."""

    @abstractmethod
    def common_prefixes(self, prefix: str) -> Iterator[str]:
        """Yield each text between *prefix* and the next slash in a key once."""

    @abstractmethod
    def create_multipart_upload(self, key: str, content_type: str) -> str:
        """Create a multipart upload; return its upload id."""

    @abstractmethod
    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> Part:
        """Store a part of a multipart upload; all parts but the last must have MIN_PART_SIZE bytes."""

    @abstractmethod
    def parts(self, key: str, upload: str) -> Sequence[Part]:
        """Return the stored parts of a multipart upload."""

    @abstractmethod
    def complete_multipart_upload(self, key: str, upload: str, parts: Iterable[Part]) -> None:
        """Make the object of exactly these *parts*.

        :raises FileNotFoundError: the multipart upload does not exist, or a part has another ETag by now.
        """

    @abstractmethod
    def abort_multipart_upload(self, key: str, upload: str) -> None:
        """Remove a multipart upload with its parts. One that does not exist is ignored."""

    @abstractmethod
    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Yield key, upload id and age in seconds of the multipart uploads whose keys begin with *prefix*."""

    @abstractmethod
    def stat(self, key: str) -> Part:
        """Return size, ETag and age of an object, as a part with the number 1."""

    @abstractmethod
    def copy(self, source: str, key: str, *, etag: str = "", content_type: str = "") -> None:
        """Let the store copy an object of any size; no byte passes through this process.

        :param etag: copy only if *source* has this ETag; empty: any.
        :param content_type: media type of the copy; empty: that of *source*.
        :raises FileNotFoundError: *source* does not exist, has another ETag, or changes during the copy.
        """

    @abstractmethod
    def copy_from(self, origin: ObjectStore, source: str, key: str) -> bool:
        """Copy an object of *origin* as :meth:`copy` does; False if that is another store.

        :raises FileNotFoundError: *source* does not exist, or changes during the copy.
        """

    @abstractmethod
    def with_object_headers(
        self, content_type: str, *, disposition: str = "", acl: str = "", cache_control: str = ""
    ) -> ObjectStore:
        """Return the same store, which writes objects with these headers, for objects that others read there.

        :param disposition: the Content-Disposition; empty: none.
        :param cache_control: the Cache-Control; empty: none.
        :param acl: a canned ACL such as ``public-read``; empty: that of the store.
        """

    @abstractmethod
    def public_url(self, key: str) -> str:
        """Return the URL of an object, without a signature."""

    @abstractmethod
    def presigned_get_url(self, key: str, expires: float, *, filename: str = "", content_type: str = "") -> str:
        """Return a presigned URL with which anyone can read an object for *expires* seconds.

        :param filename: the name under which browsers save the file.
        :param content_type: the media type of the response.
        """

    @abstractmethod
    def part_url(self, key: str, upload: str, number: int, size: int | None, expires: float) -> str:
        """Return a presigned URL to which anyone can PUT a part for *expires* seconds.

        :param size: the exact size of the part in bytes; None for any size.
        """

    @abstractmethod
    def presigned_put(self, key: str, size: int | None, expires: float, *, acl: str = "") -> PresignedPut:
        """Return a request with which anyone can PUT an object for *expires* seconds.

        :param size: the exact size in bytes; None for any size.
        :param acl: a canned ACL, which the client must send as a header; empty: none.
        """

    @abstractmethod
    def presigned_post(self, key: str, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return a form with a POST policy for an object of *min_size* to *max_size* bytes.

        :return: None if the store does not support POST policies.
        """


class CopiesToStore(ABC):
    """A bucket whose files an object store can copy by itself.

    Callers test for it::

        copied = isinstance(bucket, CopiesToStore) and bucket.copy_to(store, key)
    """

    @abstractmethod
    def copy_to(self, store: ObjectStore, key: str, index: int = 0) -> bool:
        """Let *store* copy a file of a finished upload to *key*; False if the file is in another store.

        :raises FileMissing: there is no such file, or it was removed.
        """
