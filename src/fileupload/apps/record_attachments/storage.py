"""The storage of the files of records: its interface, and the implementation that leaves them in the pool."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO, ClassVar, Self

from fileupload.identifiers import new_id
from fileupload.pool.base import Bucket, Pool
from fileupload.pool.index import Key
from fileupload.status import State, UploadedFile, UploadStatus, timestamp

_FILES = "files"  # the first segment of the keys in the index that register locations

RECORDS_OWNER = "records:"  # the start of the owner that the status of uploads for records names

# Types that browsers display without running scripts. SVG and HTML run scripts, and so does any XML, that is, any type
# with the suffix +xml (RFC 7303). So types are compared as a whole, never by a prefix such as image/.
INLINE_SAFE_TYPES = frozenset(
    (
        *("image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "text/plain"),
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/opus", "audio/flac", "audio/webm"),
        *("audio/wav", "audio/x-wav", "audio/vnd.wave", "audio/x-m4a"),
        *("video/mp4", "video/mpeg", "video/ogg", "video/webm", "video/quicktime", "video/3gpp", "video/x-m4v"),
        *("video/x-matroska", "video/x-msvideo"),
    )
)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file to which a record may refer.

    :ivar location: its relative path, of plain characters.
    :ivar bucket_id: the bucket of its upload.
    :ivar size: in bytes.
    :ivar hash: the hex digest of its SHA-256.
    """

    location: str
    bucket_id: str
    filename: str
    mimetype: str
    size: int
    hash: str

    @property
    def is_shown(self) -> bool:
        """Return whether a browser may display the file instead of saving it."""
        return self.mimetype in INLINE_SAFE_TYPES

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Return the file in a value of the index, or None if the value is invalid."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def holds_file(file: StoredFile, status: UploadStatus) -> bool:
    """Return whether a bucket with this *status* holds *file*, or the status of it after the file was moved away.

    A location refers to a bucket, but does not own it: after the bucket was cleared, the client may have sent the same
    identifier to another application. Uploads that were stored before owners were recorded are recognised by size and
    hash. Bytes without a status are left over from a crash, and belong to no upload.
    """
    if status.state is State.UNKNOWN:
        return True
    if status.state is not State.DONE or (status.owner and not status.owner.startswith(RECORDS_OWNER)):
        return False
    return any((each.size, each.sha256 or "") == (file.size, file.hash) for each in status.files[:1])


class Storage(ABC):
    """Stores files by location. Each location is registered in the pool's index, for one bucket, before it is used.

    :cvar needs_bucket: whether the file stays in the bucket of its upload.
    :ivar address: the public base URL of the locations; empty if it is not known.
    """

    needs_bucket: ClassVar[bool]
    address: str = ""

    def __init__(self, pool: Pool) -> None:
        """Register locations in the index of *pool*."""
        self.pool = pool

    def register(self, file: StoredFile) -> bool:
        """Register the location of *file*, atomically; return False if it is taken."""
        key, name = _index_name(file.location)
        return not self.is_taken(file.location) and self.pool.index.put(key, name, json.dumps(asdict(file)), new=True)

    def adopt(self, file: StoredFile) -> bool:
        """Register *file*, which another program has stored at its location; return False if that is registered."""
        key, name = _index_name(file.location)
        return self.pool.index.put(key, name, json.dumps(asdict(file)), new=True)

    def find(self, location: str) -> StoredFile | None:
        """Return the file at a location, or None."""
        try:
            text = self.pool.index.get(*_index_name(location))
        except ValueError:
            return None
        return None if text is None else StoredFile.from_text(text)

    def registered(self) -> Iterator[StoredFile]:
        """Yield the files of all registered locations."""
        for key in self.pool.index.keys((_FILES,)):
            for name in self.pool.index.names(key):
                if (file := self.find("/".join((*key[1:], name)))) is not None:
                    yield file

    def remove(self, file: StoredFile) -> None:
        """Remove a file and then its registration; do nothing if its location is registered for another bucket."""
        if (found := self.find(file.location)) is not None and found.bucket_id == file.bucket_id:
            self.remove_bytes(file)
            self.pool.index.remove(*_index_name(file.location))

    def is_taken(self, location: str) -> bool:
        """Return whether a file that is not registered is at this location."""
        return False

    def size_of(self, location: str) -> int | None:
        """Return the size of the file at a location, registered or not, in bytes; None if there is none."""
        return None

    @abstractmethod
    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Store the file of a finished *bucket* at its location.

        :raises OSError: it cannot be stored.
        """

    @abstractmethod
    def open(self, file: StoredFile) -> BinaryIO:
        """Open a file for reading.

        :raises FileMissing: the file is gone.
        """

    @abstractmethod
    def remove_bytes(self, file: StoredFile) -> None:
        """Remove the content of *file*."""

    @abstractmethod
    def ping(self) -> None:
        """Write and delete a test file.

        :raises OSError: one of both failed.
        """


class PoolStorage(Storage):
    """Leaves files in their buckets, which are marked as kept, so that the pool does not purge them."""

    needs_bucket = True

    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Mark the bucket as kept."""
        bucket.keep(condition=partial(holds_file, file))

    def open(self, file: StoredFile) -> BinaryIO:
        """Open the file in its bucket."""
        return self.pool.bucket(file.bucket_id).open()

    def remove_bytes(self, file: StoredFile) -> None:
        """Remove the bucket."""
        self.pool.clear(file.bucket_id, condition=partial(holds_file, file))

    def ping(self) -> None:
        """Store an upload, and remove it."""
        bucket_id = new_id()
        status = UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp())
        attempt = self.pool.begin(bucket_id, status)
        try:
            writer = attempt.create_file()
            writer.write(b"heartbeat")
            writer.close()
            file = UploadedFile(field="", filename="heartbeat", content_type="text/plain", size=9)
            attempt.finish(status.done((file,), {}))
        finally:
            self.pool.clear(bucket_id)


def _index_name(location: str) -> tuple[Key, str]:
    """Return the key and the name under which the index registers *location*."""
    *folder, name = location.split("/")
    return (_FILES, *folder), name


def attachment_of(file: StoredFile, base_url: str) -> dict[str, Any]:
    """Return the value of the record's attribute ``attachment``."""
    return {
        "filename": file.filename,
        "hash": file.hash,
        "location": base_url + file.location,
        "mimetype": file.mimetype,
        "size": file.size,
    }
