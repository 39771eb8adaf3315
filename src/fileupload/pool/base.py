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
* What applications know of the buckets they made can lie in the pool too: in its index.

Ids are checked by the pool itself (``identifiers.is_id``) before they become a path or a key.

An upload that comes in several requests begins with a status that is ``resumable``. Between two requests its attempt is
suspended, after a crash it reads as if it were; ``Pool.resume`` takes it up, for one at a time, and where to go on is
measured from the stored bytes.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Self

from fileupload.identifiers import is_id
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of

if TYPE_CHECKING:
    from fileupload.pool.direct import DirectFile
    from fileupload.pool.index import Index
    from fileupload.pool.object.store import ObjectStore

Condition = Callable[[UploadStatus], bool]  # what must hold of the status of a bucket for a change to be made

STALLED_AFTER = 24 * 3600.0  # seconds without news after which a running attempt counts as stalled


def is_stalled(status: UploadStatus, older_than: float = 0.0) -> bool:
    """Tell whether an attempt is running, and has published nothing for *older_than* seconds and STALLED_AFTER.

    Its client went away without an end of the connection that the server could see, as happens with HTTP/2 behind a
    proxy. Its process is alive, so that it is not interrupted, and nothing else would ever end it.
    """
    news = status.updated or status.started
    age = time.time() - (seconds_of(news) if news else 0.0)
    return status.running and age >= max(older_than, STALLED_AFTER)


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
    """One try at filling a bucket, owned by whoever began or resumed it, until ``finish``, ``fail`` or ``suspend``.

    :ivar status: the last one that was given to the pool.
    """

    token: str
    status: UploadStatus

    @abstractmethod
    def create_file(self) -> FileWriter:
        """Begin the next file. The previous one must be closed."""

    @abstractmethod
    def append_file(self) -> tuple[FileWriter, int]:
        """Open the last file of a resumed attempt, which was not closed; return its writer, and the bytes stored of it.

        :raises FileMissing: it has none.
        """

    @abstractmethod
    def discard_file(self) -> None:
        """Forget the file that was begun last, as if it had never been; it must be closed."""

    @abstractmethod
    def publish(self, status: UploadStatus) -> None:
        """Let all processes and hosts see *status*, that of a running upload.

        :raises Superseded: the bucket is no longer this attempt's.
        """

    @abstractmethod
    def suspend(self, status: UploadStatus) -> None:
        """Let go of a resumable upload: what is stored stays, durably if the pool is, and others may go on.

        A file that is being written need not be closed before. Where ``finish`` has failed, it takes that back.

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
    def download_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, where it appears when it is whole; one of that name is replaced.

        :raises FileMissing: there is no such file, or not any more.
        :raises OSError: it could not be put there.
        """

    def url(self, index: int = 0, *, expires: float = 3600.0) -> str | None:
        """Return an address under which anyone can read a file for *expires* seconds; None in a pool without addresses.

        :raises FileMissing: there is no such file.
        """
        return None

    def copy_to(self, store: ObjectStore, key: str, index: int = 0) -> bool:
        """Let *store* itself copy a file of a finished upload to *key*; False if the pool is not in that store.

        :raises FileMissing: there is no such file, or not any more.
        """
        return False

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
    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload; False if they were not there any more.

        The bucket keeps its status, and so takes no other upload, until it is cleared.

        :param condition: of the upload whose file it is; where it does not hold nothing is removed.
        """

    @abstractmethod
    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge``, until it is cleared.

        :param condition: of that upload, decided together with the change.
        :raises FileMissing: it is not finished, or the condition does not hold.
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
    """The place where uploads live.

    :ivar index: what applications know of their buckets.
    """

    index: Index

    @abstractmethod
    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys that the pool keeps, newest first.

        Where there are none, *held* are put there, or a new one is made; of several processes that do so at the same
        time one succeeds, and all return its keys.
        """

    def key_stamp(self) -> Hashable | None:
        """Return what changes with the keys, at little cost; None where nothing tells of that."""
        return None

    @abstractmethod
    def bucket(self, bucket_id: str) -> Bucket:
        """Return the bucket of an id, without a look at whether it is there."""

    def find_bucket(self, bucket_id: str) -> Bucket | None:
        """Return the bucket of that id, or None."""
        bucket = self.bucket(bucket_id) if is_id(bucket_id) else None
        return None if bucket is None or bucket.get_status().state is State.UNKNOWN else bucket

    @abstractmethod
    def buckets(self) -> Iterator[Bucket]:
        """Yield all buckets, in no order; ones that come and go meanwhile may be missed."""

    @abstractmethod
    def is_done(self, bucket_id: str) -> bool:
        """Tell whether the bucket is finished, so that :meth:`begin` refuses it; cheap where there is no bucket."""

    @abstractmethod
    def begin(self, bucket_id: str, status: UploadStatus) -> Attempt:
        """Begin an attempt, with *status* as its first; the bucket is made if there is none.

        A running older attempt is superseded.

        :raises AlreadyDone: the bucket is finished.
        """

    @abstractmethod
    def resume(self, bucket_id: str) -> Attempt:
        """Take up the resumable attempt of a bucket where it was left, by its suspension or by a crash.

        :raises NotResumable: there is none, or it is finished.
        :raises AlreadyDone: the upload is complete.
        :raises Busy: someone is at it.
        """

    @abstractmethod
    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> DirectFile:
        """Return the file of the resumable attempt *attempt* that the client sends to the pool by itself.

        :param terms: the status in which it stands how others may read the file in an object store, if they may.
        """

    @abstractmethod
    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Keep *status*, of an upload that was refused before it began, for at most an hour.

        It makes no bucket: :meth:`buckets` and :meth:`purge` know nothing of it. Where there is none, ``get_status``
        tells the refusal, until the bucket is begun or cleared. Only so many are kept, and long texts in them are cut;
        any of them may be lost. In a bucket that is there it replaces the reason of an upload that failed, if it has
        the same owner; anything else in that bucket is left as it is.
        """

    @abstractmethod
    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove a bucket with all it holds; False if there is none.

        An application that removes a bucket because its own index names it must give a *condition* on the owner: the
        client may have used the same identifier for an upload to another application since.

        :param unless_kept: not if it is to be kept; then too, False.
        :param condition: only if it holds of the status, else False. Status and removal are one step: an upload that
            begins, finishes or is kept in between is not removed. The status is unknown where a crash has left bytes
            without one.
        """

    @abstractmethod
    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[Bucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds.

        An upload that is to be kept is never touched. A running one is removed only if it is stalled: nothing was
        published of it, and its files have not grown, for *older_than* seconds and for STALLED_AFTER. Its attempt is
        then superseded.
        """

    @abstractmethod
    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True for one caller among all processes and hosts in each *interval* seconds.

        :param name: of what it is a turn; lower-case letters.
        """

    @abstractmethod
    def free_space(self) -> int | None:
        """Return the bytes that may still be stored, or None where there is no such limit."""
