"""Where the files of records lie: the contract, and the one place that is the pool itself."""

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

_FILES = "files"  # the word under which the index knows of locations

RECORDS_OWNER = "records:"  # how the owner of an upload for a record begins, as the upload's status records it

# What browsers show without running anything in it. SVG and HTML run scripts, and so may whatever a browser parses as
# XML, which is all that ends in +xml (RFC 7303): so these types are compared as a whole, never by how they begin.
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
    """A file that a record may speak of.

    :ivar location: its relative path, of plain characters.
    :ivar bucket_id: the bucket that it came in.
    """

    location: str
    bucket_id: str
    filename: str
    mimetype: str
    size: int
    hash: str

    @property
    def is_shown(self) -> bool:
        """Whether a browser may show it in the place of saving it."""
        return self.mimetype in INLINE_SAFE_TYPES

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Read what the register holds; None if it holds something else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def holds_file(file: StoredFile, status: UploadStatus) -> bool:
    """Tell whether a bucket with that *status* holds *file*, or what was left of it when it was moved away.

    The register names a bucket, and does not own it: once the bucket was cleared, the client may have sent the same
    identifier to another application. An upload that was stored before owners were recorded is told by its bytes.
    Bytes without a status belong to no upload: a crash left them.
    """
    if status.state is State.UNKNOWN:
        return True
    if status.state is not State.DONE or (status.owner and not status.owner.startswith(RECORDS_OWNER)):
        return False
    return any((each.size, each.sha256 or "") == (file.size, file.hash) for each in status.files[:1])


class Storage(ABC):
    """Keeps files by location. Each location is registered in the pool's index, for one bucket, before it is used.

    :cvar needs_bucket: whether the file stays in the bucket that it came in.
    :ivar address: where the public finds what is stored, as it stands before locations; empty if that is not known.
    """

    needs_bucket: ClassVar[bool]
    address: str = ""

    def __init__(self, pool: Pool) -> None:
        """Keep the register in the index of *pool*."""
        self.pool = pool

    def register(self, file: StoredFile) -> bool:
        """Take a location for *file*; False if it is another's."""
        key, name = _place(file.location)
        return not self.is_taken(file.location) and self.pool.index.put(key, name, json.dumps(asdict(file)), new=True)

    def find(self, location: str) -> StoredFile | None:
        """Return the file that has a location, or None."""
        try:
            text = self.pool.index.get(*_place(location))
        except ValueError:
            return None
        return None if text is None else StoredFile.from_text(text)

    def registered(self) -> Iterator[StoredFile]:
        """Yield all files that have a location."""
        for key in self.pool.index.keys((_FILES,)):
            for name in self.pool.index.names(key):
                if (file := self.find("/".join((*key[1:], name)))) is not None:
                    yield file

    def remove(self, file: StoredFile) -> None:
        """Remove a file, and give up its location; nothing happens if the location is another's."""
        if (found := self.find(file.location)) is not None and found.bucket_id == file.bucket_id:
            self.remove_bytes(file)
            self.pool.index.remove(*_place(file.location))

    def is_taken(self, location: str) -> bool:
        """Tell whether something that is not registered has this location."""
        return False

    @abstractmethod
    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Bring the one file of a finished *bucket* to its location.

        :raises OSError: it cannot be put there.
        """

    @abstractmethod
    def open(self, file: StoredFile) -> BinaryIO:
        """Open a file for reading.

        :raises FileMissing: it is not there.
        """

    @abstractmethod
    def remove_bytes(self, file: StoredFile) -> None:
        """Remove what is stored of *file*."""

    @abstractmethod
    def ping(self) -> None:
        """Write and delete a test file.

        :raises OSError: that was not possible.
        """


class PoolStorage(Storage):
    """Files stay in their buckets, which are kept from purging."""

    needs_bucket = True

    def store(self, file: StoredFile, bucket: Bucket) -> None:
        """Keep the bucket."""
        bucket.keep(condition=partial(holds_file, file))

    def open(self, file: StoredFile) -> BinaryIO:
        """Open the file in its bucket."""
        return self.pool.bucket(file.bucket_id).open()

    def remove_bytes(self, file: StoredFile) -> None:
        """Remove the bucket."""
        self.pool.clear(file.bucket_id, condition=partial(holds_file, file))

    def ping(self) -> None:
        """Make an upload, and remove it."""
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


def _place(location: str) -> tuple[Key, str]:
    """Return the key and the name under which the register has *location*."""
    *folder, name = location.split("/")
    return (_FILES, *folder), name


def attachment_of(file: StoredFile, base_url: str) -> dict[str, Any]:
    """Return the attribute that the record gets."""
    return {
        "filename": file.filename,
        "hash": file.hash,
        "location": base_url + file.location,
        "mimetype": file.mimetype,
        "size": file.size,
    }
