"""The contract of a pool, which stores uploads. Protocols, apps and commands use only these classes.

Every pool keeps these promises:

* An upload becomes *done* by one atomic change of its status, after its bytes are stored (and durable, if the pool is).
  No crash, at any moment, leaves a bucket that is done and holds other bytes than were sent.
* Each attempt writes to a place of its own. A newer attempt takes the bucket over; the older one learns of it when it
  next publishes, at the latest when it finishes: it then raises ``Superseded`` and has changed nothing.
* A finished bucket accepts no further attempt until it is cleared.
* All processes and hosts can tell whether a running attempt is alive; after a crash it does not look alive for long.
* All state is in the pool; processes and hosts may come and go.
* Applications can store what they know of their buckets in the pool's index (see :mod:`fileupload.pool.index`).

Pools validate ids (:func:`fileupload.identifiers.is_id`) before they use them in a path or a key.

A normal upload::

    attempt = pool.begin(bucket_id, UploadStatus(state=State.STARTING, started=timestamp()))
    writer = attempt.create_file()
    writer.write(b"some bytes")
    writer.close()
    attempt.finish(status.done((file,), {}))

An upload that comes in several requests begins with a status that is ``resumable``. At the end of each request its
attempt is suspended; after a crash it reads as if it were. :meth:`Pool.resume` continues it, for one request at a time,
and ``Attempt.append_file`` returns the offset, which is measured from the stored bytes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from typing import BinaryIO, Self

from fileupload import clocks
from fileupload.identifiers import is_id
from fileupload.pool.direct import DirectFile
from fileupload.pool.index import Index
from fileupload.pool.parts import FileWriter
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of

Condition = Callable[[UploadStatus], bool]  # on the status of a bucket, for a change of the bucket

STALLED_AFTER = 24 * 3600.0  # seconds without a publication after which a running attempt counts as stalled


def is_stalled(status: UploadStatus, older_than: float = 0.0) -> bool:
    """Return whether an attempt is running, and has published nothing for *older_than* seconds and STALLED_AFTER.

    Its client has disappeared without an end of the connection that the server could see, as happens with HTTP/2 behind
    a proxy. Its process is alive, so the attempt is not interrupted, and nothing else would ever end it.
    """
    moment = status.updated or status.started
    age = clocks.age_of(seconds_of(moment) if moment else 0.0)
    return status.running and age >= max(older_than, STALLED_AFTER)


def matches(unless_kept: bool, condition: Condition | None, status: UploadStatus) -> bool:
    """Return whether :meth:`Pool.clear` with these arguments removes an upload with that *status*."""
    return not (unless_kept and status.kept) and (condition is None or condition(status))


class Attempt(ABC):
    """One attempt to fill a bucket. The request that began or resumed it owns it until it calls
    ``finish``, ``fail`` or ``suspend``.

    :ivar token: the pool's name of the attempt.
    :ivar status: the last status that was given to the pool.
    """

    token: str
    status: UploadStatus

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def inherited(self) -> bool:
        """True in a child process that was forked while the attempt ran; it must leave the upload to its parent."""
        return os.getpid() != self._process

    @abstractmethod
    def create_file(self) -> FileWriter:
        """Create the next file. The previous one must be closed.

        :raises Superseded: the attempt no longer owns the bucket.
        :raises OSError: the file could not be created.
        """

    @abstractmethod
    def append_file(self) -> tuple[FileWriter, int]:
        """Open the last file of a resumed attempt, which was not closed.

        :return: its writer, and the offset: the bytes of it that are stored.
        :raises FileMissing: the attempt has no file.
        """

    @abstractmethod
    def discard_file(self) -> None:
        """Remove the file that was created last, which must be closed."""

    @abstractmethod
    def publish(self, status: UploadStatus) -> None:
        """Show *status*, of a running upload, to all processes and hosts.

        :raises Superseded: the attempt no longer owns the bucket.
        """

    @abstractmethod
    def suspend(self, status: UploadStatus) -> None:
        """End this request's work on a resumable upload: the stored bytes stay, and another request may resume.

        A file that is being written need not be closed. After a ``finish`` that failed, the upload is not done.

        :raises Superseded: the attempt no longer owns the bucket.
        """

    @abstractmethod
    def finish(self, status: UploadStatus) -> None:
        """Make the upload done: *status* and the files become visible together, or not at all.

        :param status: the final one, as :meth:`UploadStatus.done` returns it.
        :raises Superseded: the attempt no longer owns the bucket; all it has written is removed.
        :raises OSError: the pool failed. The upload may be done; ``suspend`` or ``fail`` undoes that.
        """

    @abstractmethod
    def fail(self, status: UploadStatus) -> None:
        """Remove the files, and leave *status* as the reason; leave nothing if the attempt was superseded.

        In a child process, nothing is removed: the attempt is its parent's.
        """


class Bucket(ABC):
    """One upload in the pool, as the app sees it.

    :ivar id: 32 hex digits.
    :ivar identifier: the signed identifier by which it was requested, or an empty text.
    """

    id: str
    identifier: str = ""

    @abstractmethod
    def get_status(self) -> UploadStatus:
        """Return the current status of the upload; its state is *unknown* if there is none."""

    @abstractmethod
    def get_filename(self, index: int = 0) -> str | None:
        """Return the path of a file of a finished upload.

        :return: None if the upload is not finished, or the file was moved away; always None in an object store.
            :meth:`open` works with every pool.
        """

    @abstractmethod
    def open(self, index: int = 0) -> BinaryIO:
        """Return a file of a finished upload, opened for reading bytes::

            with bucket.open() as file:
                shutil.copyfileobj(file, target)

        :param index: number of the file, from 0, in the order of the form.
        :raises FileMissing: there is no such file, or it was moved away or removed.
        """

    @abstractmethod
    def download_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Copy a file of a finished upload to *path*, replacing a file of that name once the copy is complete.

        :raises FileMissing: there is no such file, or it was moved away or removed.
        :raises OSError: it could not be written to *path*.
        """

    def url(self, index: int = 0, *, expires: float = 3600.0) -> str | None:
        """Return a presigned URL with which anyone can read a file of a finished upload.

        :param expires: seconds for which it is valid.
        :return: None if the pool has no URLs, such as a directory.
        :raises FileMissing: there is no such file.
        """
        return None

    @abstractmethod
    def move_to(self, path: str | os.PathLike[str], index: int = 0) -> None:
        """Move a file of a finished upload to *path*, replacing a file of that name.

        The file is renamed if that is possible. Otherwise it is copied, and gets its name once the copy is complete.
        The bucket keeps its status, and so accepts no other upload, until it is cleared. Only the owner can read the
        file.

        :raises FileMissing: there is no such file, or it was moved away or removed.
        :raises OSError: it could not be written to *path*; the bucket still has it.
        """

    @abstractmethod
    def remove_file(self, index: int = 0, *, condition: Condition | None = None) -> bool:
        """Remove the bytes of a file of a finished upload.

        The bucket keeps its status, and so accepts no other upload, until it is cleared.

        :param condition: on the upload that has the file; if it does not hold, nothing is removed.
        :return: False if nothing was removed.
        """

    @abstractmethod
    def keep(self, *, condition: Condition | None = None) -> None:
        """Exempt a finished upload from ``purge`` until it is cleared.

        :param condition: on the upload, checked in one step with the change.
        :raises FileMissing: the upload is not finished, or the condition does not hold.
        """

    @abstractmethod
    def clear_upload(self) -> bool:
        """Remove the upload, finished or running; False if there is none."""

    @abstractmethod
    def idle(self, *, correct: bool = False) -> float:
        """Return the seconds since something happened in the bucket (see :mod:`fileupload.clocks`).

        :param correct: if every time in the pool is far ahead of this host's clock, let the age count from now on.
        :return: infinity if there is no bucket.
        """

    def is_complete(self) -> bool:
        """Return whether the upload is done."""
        return bool(self.get_status().state == "done")

    @property
    def files(self) -> tuple[UploadedFile, ...]:
        """The files of the finished upload, in the order of the form; empty before it is finished."""
        return self.get_status().files

    def with_identifier(self, identifier: str) -> Self:
        """Set the signed *identifier* by which this bucket was requested, and return the bucket."""
        self.identifier = identifier
        return self


class Pool(ABC):
    """A store of uploads, shared by any number of processes and hosts.

    :ivar index: the pool's index, where applications store what they know of their buckets.
    """

    index: Index

    @abstractmethod
    def check(self) -> None:
        """Check that the storage can do what uploads need. Apps that receive uploads call this at their start.

        :raises SettingError: it cannot; the message says what is missing, and what to do.
        """

    @abstractmethod
    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the signing keys that the pool stores, newest first.

        If it stores none, it stores *held*, or else a new key. Of several processes that do so at the same time one
        succeeds, and all return its keys.
        """

    def key_stamp(self) -> Hashable | None:
        """Return a value that changes when the stored keys change; None if the pool has no cheap way to tell."""
        return None

    @abstractmethod
    def bucket(self, bucket_id: str) -> Bucket:
        """Return the bucket of that id, without a check whether it exists."""

    def find_bucket(self, bucket_id: str) -> Bucket | None:
        """Return the bucket of that id, or None if there is none or *bucket_id* is not an id."""
        bucket = self.bucket(bucket_id) if is_id(bucket_id) else None
        return None if bucket is None or bucket.get_status().state is State.UNKNOWN else bucket

    @abstractmethod
    def buckets(self) -> Iterator[Bucket]:
        """Yield all buckets, in any order. Buckets that are created or removed meanwhile may be missing."""

    @abstractmethod
    def is_done(self, bucket_id: str) -> bool:
        """Return whether the bucket is finished, so that :meth:`begin` would refuse it; cheap if it does not exist."""

    @abstractmethod
    def begin(self, bucket_id: str, status: UploadStatus) -> Attempt:
        """Begin an attempt with its first *status*; the bucket is created if it does not exist.

        A running older attempt is superseded.

        :raises AlreadyDone: the bucket is finished.
        """

    @abstractmethod
    def resume(self, bucket_id: str) -> Attempt:
        """Continue the resumable attempt of a bucket after it was suspended or its process has crashed.

        :raises NotResumable: there is no such attempt, or it has failed.
        :raises AlreadyDone: the upload is finished.
        :raises Busy: another request is working on it.
        """

    @abstractmethod
    def direct(self, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> DirectFile:
        """Return the direct upload of a resumable attempt: the file that the client sends straight to the pool.

        :param attempt: the name of the attempt, as in its status.
        :param terms: the status of the upload. It must be given to ``begin`` and ``assemble``, if its terms have
            options for the pool.
        """

    def bucket_id_of_form_key(self, key: str) -> str | None:
        """Return the id of the bucket to which the object *key* of a posted form belongs.

        The key alone proves nothing: check it with :meth:`DirectFile.is_form_key`.

        :return: None if it is not such a key, or the pool has no keys.
        """
        return None

    @abstractmethod
    def record_refusal(self, bucket_id: str, status: UploadStatus) -> None:
        """Store *status*, of an upload that was refused before it began, for at most an hour.

        No bucket is created: :meth:`buckets` and :meth:`purge` ignore refusals. If there is no bucket, ``get_status``
        returns the refusal, until a bucket is begun or cleared. The number of refusals is limited, long texts in them
        are cut, and any of them may be lost. If the bucket exists, the refusal replaces the reason of a failed upload
        of the same owner; any other bucket is left as it is.
        """

    @abstractmethod
    def clear(self, bucket_id: str, *, unless_kept: bool = False, condition: Condition | None = None) -> bool:
        """Remove a bucket with everything in it.

        An application that removes a bucket because its own index names it must give a *condition* on the owner: the
        client may have used the same identifier for an upload to another application since.

        :param unless_kept: do not remove an upload that is kept.
        :param condition: on the status of the bucket. Check and removal are one step: an upload that begins, finishes
            or is kept in between is not removed. The state is *unknown* if a crash has left bytes without a status.
        :return: False if nothing was removed.
        """

    @abstractmethod
    def purge(self, older_than: float, *, dry_run: bool = False) -> Iterator[Bucket]:
        """Remove, and yield, the buckets in which nothing happened for *older_than* seconds.

        Kept uploads are never removed. A running one is removed only if it is stalled: its attempt has published
        nothing and its files have not grown for *older_than* seconds and for STALLED_AFTER. The attempt is then
        superseded.

        :param dry_run: yield the buckets, but remove nothing.
        """

    @abstractmethod
    def acquire_interval_lease(self, interval: float, name: str = "") -> bool:
        """Return True for one caller among all processes and hosts in each *interval* seconds::

            if pool.acquire_interval_lease(3600, "reports"):
                send_reports()

        :param name: the purpose of the lease, in lower-case letters.
        """

    @abstractmethod
    def free_space(self) -> int | None:
        """Return the bytes that can still be stored, or None if there is no such limit."""
