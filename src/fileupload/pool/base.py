"""The contract of a pool, in types and words. Protocols, apps and commands know nothing else.

What every pool promises:

* An upload is *done* by one atomic change of its status, made after its bytes are stored (and durable, if the
  pool is). No crash, at any instant, leaves a bucket that says done and holds other bytes than were sent.
* Each attempt writes in a place of its own. Beginning a newer one takes the bucket away from an older one, which
  learns of it when it next publishes, or at the latest when it finishes: it then raises ``Superseded`` and has
  changed nothing.
* A finished bucket takes no further attempt until it is cleared.
* Whether a running attempt is alive is known to all processes and hosts, and a crash cannot fake it.
* All state is in the pool; processes and hosts may come and go.

Ids are checked by the pool itself (``identifiers.is_id``) before they become a path or a key.

A protocol that appends over several requests fits in as a further pair: ``Attempt.suspend`` keeps the bytes
without an owner, ``Pool.resume`` takes such an attempt up again and measures what is stored.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import BinaryIO, Self

from fileupload.identifiers import is_id
from fileupload.status import State, UploadedFile, UploadStatus


class FileWriter(ABC):
    """Takes the bytes of one file of an attempt."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Store all of *data* behind what is there.

        :raises OSError: it could not be stored.
        """

    @abstractmethod
    def close(self) -> None:
        """End the file; after this its bytes are stored, durably if the pool is."""


class Attempt(ABC):
    """One try at filling a bucket, owned by whoever began it, until ``finish`` or ``fail``."""

    token: str

    @abstractmethod
    def create_file(self) -> FileWriter:
        """Begin the next file. The previous one must be closed."""

    @abstractmethod
    def discard_file(self) -> None:
        """Forget the file that was begun last, as if it had never been; it must be closed."""

    @abstractmethod
    def publish(self, status: UploadStatus) -> None:
        """Let all processes and hosts see *status*, that of a running upload.

        :raises Superseded: the bucket is no longer this attempt's.
        """

    @abstractmethod
    def finish(self, status: UploadStatus) -> None:
        """Make the upload done: *status* and the files become visible together, or not at all.

        :raises Superseded: the bucket is no longer this attempt's; nothing of the attempt is left.
        """

    @abstractmethod
    def fail(self, status: UploadStatus) -> None:
        """Give up: *status* is what is left of the attempt, or nothing at all where it was superseded."""


class Bucket(ABC):
    """One upload in the pool, as the app sees it."""

    id: str
    identifier: str = ""

    @abstractmethod
    def get_status(self) -> UploadStatus:
        """Return what is known of the upload now."""

    @abstractmethod
    def get_filename(self, index: int = 0) -> str | None:
        """Return the path of a file of a finished upload, or None: not finished, moved away, or no path.

        A pool that is no folder always answers None; ``open`` works with every pool.
        """

    @abstractmethod
    def open(self, index: int = 0) -> BinaryIO:
        """Return a file of a finished upload, opened for reading bytes.

        :raises FileMissing: there is none, or not any more.
        """

    @abstractmethod
    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Move a file of a finished upload to *path*, where a file of that name is replaced.

        A rename where that is possible, else a copy that appears under its name when it is whole. The bucket
        keeps its status, and so takes no other upload, until it is cleared. The file stays readable for its owner
        alone.

        :raises FileMissing: there is no such file, or not any more.
        :raises OSError: the file could not be put there; it is still in the bucket.
        """

    @abstractmethod
    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none any more."""

    def is_complete(self) -> bool:
        """Tell whether the upload is done."""
        return bool(self.get_status().state == "done")

    @property
    def files(self) -> tuple[UploadedFile, ...]:
        """The files of the finished upload, in the order of the form; empty before."""
        return self.get_status().files

    def with_identifier(self, identifier: str) -> Self:
        """Return this bucket, knowing the signed *identifier* by which it was asked for."""
        self.identifier = identifier
        return self


class Pool(ABC):
    """The place where uploads live."""

    @abstractmethod
    def signing_keys(self) -> tuple[str, ...]:
        """Return the keys that the pool keeps, newest first; one is made if there is none."""

    @abstractmethod
    def handle(self, bucket_id: str) -> Bucket:
        """Return the bucket of an id, without a look at whether it is there."""

    def bucket(self, bucket_id: str) -> Bucket | None:
        """Return the bucket of that id, or None."""
        bucket = self.handle(bucket_id) if is_id(bucket_id) else None
        return None if bucket is None or bucket.get_status().state is State.UNKNOWN else bucket

    @abstractmethod
    def buckets(self) -> Iterator[Bucket]:
        """Yield all buckets, in no order; ones that come and go meanwhile may be missed."""

    @abstractmethod
    def begin(self, bucket_id: str, status: UploadStatus) -> Attempt:
        """Begin an attempt, with *status* as its first; the bucket is made if there is none.

        A running older attempt is superseded.

        :raises AlreadyDone: the bucket is finished.
        """

    @abstractmethod
    def refuse(self, bucket_id: str, status: UploadStatus) -> None:
        """Keep *status*, of an upload that was refused before it began.

        A finished or a running upload in that bucket is left as it is.
        """

    @abstractmethod
    def clear(self, bucket_id: str) -> bool:
        """Remove a bucket with all it holds; False if there is none."""

    @abstractmethod
    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[Bucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds.

        A running upload is never touched.
        """

    @abstractmethod
    def take_turn(self, interval: float) -> bool:
        """Return True for one caller among all processes and hosts in each *interval* seconds."""

    @abstractmethod
    def free_space(self) -> int | None:
        """Return the bytes that may still be stored, or None where there is no such limit."""
