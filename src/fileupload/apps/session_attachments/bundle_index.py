"""The entries of a bundle in the pool's index. Each fact is a name that is written once, so no lock is needed.

::

    ("sessions", <session>, <bundle>)
        <entry>                                        an upload was announced, before its attempt began
        <entry>.accepted-<finished>-<files>-<bytes>    the upload was accepted: its files are attachments
        <entry>.removed-<index>-<bytes>                one of its several files was removed
    ("sessions", <session>)
        <entry>                                        an upload of the session failed after its first byte; its status
                                                       is kept for the client until it expires

An entry is ``<order>-<declared>-<bucket id>``: milliseconds since the epoch, increased where needed so that they grow
within the bundle; the maximum size of the upload in bytes; its bucket.

An entry refers to a bucket, but does not own it: the client may have sent the same identifier to another application,
before or later. So a bucket is removed only if its status names this session as owner (see ``BundleIndex.owns``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from fileupload import clocks
from fileupload.pool.base import Bucket, Pool, is_stalled
from fileupload.pool.index import Key
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of

SESSIONS = "sessions"
ABANDONED_AFTER = 3600.0  # seconds without a change after which an upload that does not run counts as abandoned

_NAME = re.compile(
    r"(?P<entry>(?P<order>\d{15})-(?P<declared>\d{1,19})-(?P<bucket>[0-9a-f]{32}))"
    r"(?:\.accepted-(?P<finished>\d{15})-(?P<files>\d{1,9})-(?P<size>\d{1,19})"
    r"|\.removed-(?P<index>\d{1,9})-(?P<removed>\d{1,19}))?",
    re.ASCII,
)
_MAX_DECLARED = 10**19 - 1


def session_owner(session: str) -> str:
    """Return the owner that the status of a *session*'s uploads records."""
    return f"session:{session}"


@dataclass(frozen=True)
class Acceptance:
    """The acceptance of an upload.

    :ivar finished: when the upload was finished, in milliseconds since the epoch.
    :ivar files: the number of its files.
    :ivar size: the bytes of all of them.
    """

    finished: int
    files: int
    size: int


@dataclass(frozen=True, kw_only=True)
class BundleEntry:
    """The entry of one upload in the index.

    :ivar order: orders the uploads of a bundle by their beginning.
    :ivar declared: the maximum size of the upload, in bytes.
    :ivar acceptance: None until the upload is accepted.
    :ivar removed: the sizes in bytes of the removed files, by their index in the upload.
    """

    order: int
    declared: int
    bucket_id: str
    acceptance: Acceptance | None = None
    removed: Mapping[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that announces the upload."""
        return f"{self.order:015d}-{self.declared}-{self.bucket_id}"

    @property
    def rank(self) -> tuple[int, str]:
        """The position among the uploads of a session; unique, also for two uploads that begin at the same time."""
        return self.order, self.bucket_id

    @property
    def files(self) -> int:
        """The number of files that were not removed."""
        return max(0, self.acceptance.files - len(self.removed)) if self.acceptance else 0

    @property
    def size(self) -> int:
        """The bytes of the files that were not removed."""
        return max(0, self.acceptance.size - sum(self.removed.values())) if self.acceptance else 0

    @property
    def moment(self) -> float:
        """When the upload was finished, or announced if it is not accepted, in seconds since the epoch."""
        return (self.acceptance.finished if self.acceptance else self.order) / 1000

    def acceptance_name(self, acceptance: Acceptance) -> str:
        """Return the name that accepts the upload."""
        return f"{self.name}.accepted-{acceptance.finished:015d}-{acceptance.files}-{acceptance.size}"

    def removal_name(self, index: int, size: int) -> str:
        """Return the name that removes a file."""
        return f"{self.name}.removed-{index}-{size}"

    def names(self) -> Iterator[str]:
        """Yield all names of the entry, in the order in which they must be removed.

        A crash between two removals leaves an entry with fewer files than before, never with more.
        """
        if self.acceptance:
            yield self.acceptance_name(self.acceptance)
        yield self.name
        for index, size in self.removed.items():
            yield self.removal_name(index, size)


def read_entries(names: Iterable[str]) -> list[BundleEntry]:
    """Return the entries in *names* of the index, the oldest first; names of other forms are ignored."""
    found: dict[str, list[re.Match[str]]] = {}
    for match in filter(None, map(_NAME.fullmatch, names)):
        found.setdefault(match["entry"], []).append(match)
    return sorted(map(_read_entry, found.values()), key=lambda entry: entry.rank)


def _read_entry(matches: list[re.Match[str]]) -> BundleEntry:
    acceptances = [match for match in matches if match["finished"]]
    return BundleEntry(
        order=int(matches[0]["order"]),
        declared=int(matches[0]["declared"]),
        bucket_id=matches[0]["bucket"],
        acceptance=Acceptance(*(int(acceptances[0][name]) for name in ("finished", "files", "size")))
        if acceptances
        else None,
        removed={int(match["index"]): int(match["removed"]) for match in matches if match["index"]},
    )


@dataclass(frozen=True)
class BundleFile:
    """A file of an accepted upload that was not removed."""

    bundle_index: BundleIndex = field(repr=False)
    entry: BundleEntry
    index: int
    file: UploadedFile
    finished: str

    @property
    def bucket(self) -> Bucket:
        """The bucket that holds the file."""
        return self.bundle_index.pool.bucket(self.entry.bucket_id)

    def remove(self) -> bool:
        """Remove the file; return False if another request has removed it."""
        return self.bundle_index.remove_file(self.entry, self.index, self.file.size)


class BundleIndex:
    """The entries of one bundle, and the buckets to which they refer."""

    def __init__(self, pool: Pool, key: Key) -> None:
        self.pool = pool
        self.key = key

    def entries(self) -> list[BundleEntry]:
        """Return all entries, the oldest first."""
        return read_entries(self.pool.index.names(self.key))

    def announce(self, bucket_id: str, declared: int) -> BundleEntry:
        """Add the entry of an upload that is about to begin; return it.

        :param declared: the maximum size of the upload, in bytes.
        """
        newest = max((entry.order for entry in self.entries()), default=0)
        order = max(time.time_ns() // 1_000_000, newest + 1)
        entry = BundleEntry(order=order, declared=min(declared, _MAX_DECLARED), bucket_id=bucket_id)
        self.pool.index.put(self.key, entry.name)
        return entry

    def accept(self, entry: BundleEntry, status: UploadStatus) -> None:
        """Make the files of a finished upload attachments, in one atomic write."""
        size = sum(file.size for file in status.files)
        acceptance = Acceptance(_finished(status), len(status.files), size)
        self.pool.index.put(self.key, entry.acceptance_name(acceptance))

    def status_of(self, entry: BundleEntry) -> UploadStatus | None:
        """Return the status of the finished upload of *entry*.

        None if it is not finished; if another upload has replaced it in its bucket; or if its process died between
        finishing and accepting it.
        """
        status = self.pool.bucket(entry.bucket_id).get_status()
        if status.state is not State.DONE:
            return None
        if entry.acceptance is None:
            return status if clocks.is_recent(_finished(status) / 1000, ABANDONED_AFTER) else None
        return status if entry.acceptance.finished == _finished(status) else None

    def is_expected(self, entry: BundleEntry) -> bool:
        """Return whether the upload of *entry* is running, or about to begin."""
        status = self.pool.bucket(entry.bucket_id).get_status()
        if status.running:
            return not is_stalled(status)
        return status.state is State.UNKNOWN and clocks.is_recent(entry.moment, ABANDONED_AFTER)

    def owns(self, entry: BundleEntry, status: UploadStatus) -> bool:
        """Return whether a bucket with this *status* holds the upload of *entry*, so that the session may remove it.

        Uploads that were stored before owners were recorded are recognised by the time at which they were finished. An
        upload that an application keeps never belongs to a session. Bytes without a status are left over from a crash,
        and may be removed.
        """
        if status.state is State.UNKNOWN or status.kept:
            return not status.kept
        accepted = entry.acceptance is not None and status.state is State.DONE
        if accepted and entry.acceptance is not None and entry.acceptance.finished != _finished(status):
            return False  # another upload with the same identifier has replaced it
        return status.owner == session_owner(self.key[1]) or (accepted and not status.owner)

    def files(self) -> list[BundleFile]:
        """Return the files of all accepted uploads, the oldest first; several may have the same name.

        Entries whose upload is gone, after a crash or a purge of the pool, are removed.
        """
        while True:
            found: list[BundleFile] = []
            gone = []
            for entry in self.entries():
                if entry.acceptance is None:
                    self._remove_abandoned(entry)
                elif (status := self.status_of(entry)) is None:
                    gone.append(entry)
                else:
                    found += self._files_of(entry, status)
            if not gone:
                return found
            # Race: between the reading of the names and of the status, another upload may have replaced this one. Its
            # entry is not in the names that were read, so read them again.
            for entry in gone:
                self._forget_gone(entry)

    def _files_of(self, entry: BundleEntry, status: UploadStatus) -> Iterator[BundleFile]:
        for index, file in enumerate(status.files):
            if index not in entry.removed:
                yield BundleFile(self, entry, index, file, status.finished or "")

    def _forget_gone(self, entry: BundleEntry) -> None:
        if self.pool.bucket(entry.bucket_id).get_status().state is State.UNKNOWN:
            self.remove(entry)  # a crash during a removal leaves bytes without a status
        else:
            self.forget(entry)

    def _remove_abandoned(self, entry: BundleEntry) -> None:
        if clocks.is_recent(entry.moment, ABANDONED_AFTER):
            return
        status = self.pool.bucket(entry.bucket_id).get_status()
        # A finished upload may belong to a later entry in another bundle; only expiry reads the entries of all bundles.
        if status.state is State.DONE or (status.running and not is_stalled(status)):
            return
        if status.updated is None or not clocks.is_recent(seconds_of(status.updated), ABANDONED_AFTER):
            self.remove(entry, seen=status)

    def remove_file(self, entry: BundleEntry, index: int, size: int) -> bool:
        """Remove one file of an accepted upload, and the whole upload with its last file.

        :return: False if another request has removed the file.
        """
        if entry.acceptance is not None and entry.acceptance.files == 1:
            return self.remove(entry)
        # Two requests may remove one file at the same time. The removal of the bytes decides which of them was first.
        # The name of the removal cannot: when the upload is gone with its names, the second request could write it.
        removed = self.pool.bucket(entry.bucket_id).remove_file(index, condition=partial(self.owns, entry))
        self.pool.index.put(self.key, entry.removal_name(index, size), new=True)
        left = next((other for other in self.entries() if other.name == entry.name), None)
        if left is not None and left.acceptance is None:
            self.forget(left)
        elif left is not None and left.files == 0:
            self.remove(left)
        return removed

    def remove(self, entry: BundleEntry, *, seen: UploadStatus | None = None) -> bool:
        """Remove an upload and its entry; return False if the upload was gone, or the bucket has another owner.

        :param seen: the status for which the upload is to be removed. If it was unknown, and has begun since, only the
            entry is removed: the time of an entry may be far ahead, because it is later than all before it in its
            bundle, so it does not tell that the upload was announced a moment ago.
        """
        begins = seen is not None and seen.state is State.UNKNOWN

        def removable(status: UploadStatus) -> bool:
            return self.owns(entry, status) and not (begins and status.state is not State.UNKNOWN)

        removed = self.pool.clear(entry.bucket_id, condition=removable)
        self.forget(entry)
        return removed

    def forget(self, entry: BundleEntry) -> None:
        """Remove the entry of an upload; its bucket is not touched."""
        for name in entry.names():
            self.pool.index.remove(self.key, name)


def _finished(status: UploadStatus) -> int:
    return round(seconds_of(status.finished) * 1000) if status.finished else 0
