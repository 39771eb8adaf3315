"""What the pool's index says of a bundle. Each fact is a name, written once: there is nothing to lock.

::

    ("sessions", <session>, <bundle>)
        <entry>                                        an upload was announced, before its first byte
        <entry>.accepted-<finished>-<files>-<bytes>    its files are attachments
        <entry>.removed-<index>-<bytes>                one of its files, of several, was removed
    ("sessions", <session>)
        <entry>                                        an upload of the session failed after its first byte, and its
                                                       status is kept for the client

An entry is ``<order>-<declared>-<bucket id>``: milliseconds since the epoch, made to grow within the bundle; the bytes
that the upload may have; its bucket.

An entry names a bucket, and does not own it: the client may have sent the same identifier to another application,
before or since. So a bucket is removed only if its status says that it is this session's (see ``BundleIndex.owns``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from fileupload.pool.base import Bucket, Pool, is_stalled
from fileupload.pool.index import Key
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of

SESSIONS = "sessions"
ABANDONED_AFTER = 3600.0  # seconds without news after which an upload that does not run will never be accepted

_NAME = re.compile(
    r"(?P<entry>(?P<order>\d{15})-(?P<declared>\d{1,19})-(?P<bucket>[0-9a-f]{32}))"
    r"(?:\.accepted-(?P<finished>\d{15})-(?P<files>\d{1,9})-(?P<size>\d{1,19})"
    r"|\.removed-(?P<index>\d{1,9})-(?P<removed>\d{1,19}))?",
    re.ASCII,
)
_MAX_DECLARED = 10**19 - 1


def session_owner(session: str) -> str:
    """Return the owner of the uploads of a *session*, as their status records it."""
    return f"session:{session}"


@dataclass(frozen=True)
class Acceptance:
    """That an upload was accepted: when it was finished (milliseconds), and what it brought."""

    finished: int
    files: int
    size: int


@dataclass(frozen=True, kw_only=True)
class BundleEntry:
    """What the index says of one upload.

    :ivar order: which of two uploads is the later one.
    :ivar declared: the most bytes it may have.
    :ivar acceptance: None before it is accepted.
    :ivar removed: the sizes of the files that were removed, by their index.
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
        """What orders the uploads of a session."""
        return self.order, self.bucket_id

    @property
    def files(self) -> int:
        """How many files it has left."""
        return max(0, self.acceptance.files - len(self.removed)) if self.acceptance else 0

    @property
    def size(self) -> int:
        """The bytes of those."""
        return max(0, self.acceptance.size - sum(self.removed.values())) if self.acceptance else 0

    @property
    def moment(self) -> float:
        """When it was finished, or else announced, in seconds since the epoch."""
        return (self.acceptance.finished if self.acceptance else self.order) / 1000

    def acceptance_name(self, acceptance: Acceptance) -> str:
        """Return the name that accepts the upload."""
        return f"{self.name}.accepted-{acceptance.finished:015d}-{acceptance.files}-{acceptance.size}"

    def removal_name(self, index: int, size: int) -> str:
        """Return the name that removes a file."""
        return f"{self.name}.removed-{index}-{size}"

    def names(self) -> Iterator[str]:
        """Yield all names that it has, in the order in which they may go: it is never more than it was."""
        if self.acceptance:
            yield self.acceptance_name(self.acceptance)
        yield self.name
        for index, size in self.removed.items():
            yield self.removal_name(index, size)


def read_entries(names: Iterable[str]) -> list[BundleEntry]:
    """Return the entries that *names* tell of, the oldest first; names of other kinds tell nothing."""
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

    place: BundleIndex = field(repr=False)
    entry: BundleEntry
    index: int
    file: UploadedFile
    finished: str

    @property
    def bucket(self) -> Bucket:
        """Where its bytes are."""
        return self.place.pool.bucket(self.entry.bucket_id)

    def remove(self) -> bool:
        """Remove it; False if somebody else did."""
        return self.place.remove_file(self.entry, self.index, self.file.size)


class BundleIndex:
    """The entries of one bundle, and the buckets that they speak of."""

    def __init__(self, pool: Pool, key: Key) -> None:
        self.pool = pool
        self.key = key

    def entries(self) -> list[BundleEntry]:
        """Return all entries, the oldest first."""
        return read_entries(self.pool.index.names(self.key))

    def announce(self, bucket_id: str, declared: int) -> BundleEntry:
        """Write down that an upload of at most *declared* bytes is to begin in that bucket."""
        newest = max((entry.order for entry in self.entries()), default=0)
        order = max(time.time_ns() // 1_000_000, newest + 1)
        entry = BundleEntry(order=order, declared=min(declared, _MAX_DECLARED), bucket_id=bucket_id)
        self.pool.index.put(self.key, entry.name)
        return entry

    def accept(self, entry: BundleEntry, status: UploadStatus) -> None:
        """Make the files of a finished upload attachments, all at once."""
        size = sum(file.size for file in status.files)
        acceptance = Acceptance(_finished(status), len(status.files), size)
        self.pool.index.put(self.key, entry.acceptance_name(acceptance))

    def status_of(self, entry: BundleEntry) -> UploadStatus | None:
        """Return the status of the finished upload of *entry*.

        None if it is not finished, is another by now, or was finished by a process that died before it was accepted.
        """
        status = self.pool.bucket(entry.bucket_id).get_status()
        if status.state is not State.DONE:
            return None
        if entry.acceptance is None:
            return status if time.time() - _finished(status) / 1000 < ABANDONED_AFTER else None
        return status if entry.acceptance.finished == _finished(status) else None

    def is_expected(self, entry: BundleEntry) -> bool:
        """Tell whether the upload of *entry* runs, or is about to begin."""
        status = self.pool.bucket(entry.bucket_id).get_status()
        if status.running:
            return not is_stalled(status)
        return status.state is State.UNKNOWN and time.time() - entry.moment < ABANDONED_AFTER

    def owns(self, entry: BundleEntry, status: UploadStatus) -> bool:
        """Tell whether a bucket with that *status* holds the upload of *entry*, so that the session may remove it.

        An upload that was stored before owners were recorded is told by the moment at which it was finished. What an
        application keeps is never a session's. Bytes without a status belong to no upload: a crash left them.
        """
        if status.state is State.UNKNOWN or status.kept:
            return not status.kept
        accepted = entry.acceptance is not None and status.state is State.DONE
        if accepted and entry.acceptance is not None and entry.acceptance.finished != _finished(status):
            return False  # it was replaced under the same identifier
        return status.owner == session_owner(self.key[1]) or (accepted and not status.owner)

    def files(self) -> list[BundleFile]:
        """Return the files that are stored, in the order of arrival; of one name there may be several.

        Entries that a crash, or a purge of the pool, has left without an upload are removed on the way.
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
            # It may have been replaced since we read the names, and what replaced it is not among them.
            for entry in gone:
                self._forget_gone(entry)

    def _files_of(self, entry: BundleEntry, status: UploadStatus) -> Iterator[BundleFile]:
        for index, file in enumerate(status.files):
            if index not in entry.removed:
                yield BundleFile(self, entry, index, file, status.finished or "")

    def _forget_gone(self, entry: BundleEntry) -> None:
        if self.pool.bucket(entry.bucket_id).get_status().state is State.UNKNOWN:
            self.remove(entry)  # a crash in the middle of a removal leaves bytes without a status
        else:
            self.forget(entry)

    def _remove_abandoned(self, entry: BundleEntry) -> None:
        if time.time() - entry.moment < ABANDONED_AFTER:
            return
        status = self.pool.bucket(entry.bucket_id).get_status()
        # One that is done may belong to a later entry, in a bundle that is not known here: expiry sees them all.
        if status.state is State.DONE or (status.running and not is_stalled(status)):
            return
        if status.updated is None or time.time() - seconds_of(status.updated) >= ABANDONED_AFTER:
            self.remove(entry)

    def remove_file(self, entry: BundleEntry, index: int, size: int) -> bool:
        """Remove one file of an accepted upload, and the upload with its last; False if somebody else did."""
        if entry.acceptance is not None and entry.acceptance.files == 1:
            return self.remove(entry)
        # The bytes tell who was first. The name of a removal cannot: who finds the upload gone would write it anew.
        removed = self.pool.bucket(entry.bucket_id).remove_file(index, condition=partial(self.owns, entry))
        self.pool.index.put(self.key, entry.removal_name(index, size), new=True)
        left = next((other for other in self.entries() if other.name == entry.name), None)
        if left is not None and left.acceptance is None:
            self.forget(left)
        elif left is not None and left.files == 0:
            self.remove(left)
        return removed

    def remove(self, entry: BundleEntry) -> bool:
        """Remove an upload, and what is known of it; False if it was gone, or the bucket is another's."""
        removed = self.pool.clear(entry.bucket_id, condition=partial(self.owns, entry))
        self.forget(entry)
        return removed

    def forget(self, entry: BundleEntry) -> None:
        """Remove what is known of an upload."""
        for name in entry.names():
            self.pool.index.remove(self.key, name)


def _finished(status: UploadStatus) -> int:
    return round(seconds_of(status.finished) * 1000) if status.finished else 0
