"""The ledger of files by record, in the pool's index: an entry exists from before its file until after its removal.

Under the key of a record, each upload has an entry with the id of its bucket, written before its first byte is stored.
A second entry, *linked*, is written after the app has stored the attribute. So a crash at any time leaves no orphaned
file without an entry: a linked file that its record does not refer to any more is removed at the next change of the
record, and a file that was never linked by the garbage collection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from urllib.parse import quote

from fileupload.apps.record_attachments.form import mimetype_of
from fileupload.apps.record_attachments.locations import locations
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import RECORDS_OWNER, Storage, StoredFile
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate, index_key
from fileupload.errors import FileMissing, StorageFailed
from fileupload.pool.base import Bucket
from fileupload.pool.index import Key
from fileupload.status import UploadedFile, timestamp

_LINKED = "-linked"
_MAX_NAMES = 1000  # locations that are tried for one file


def record_owner(segments: tuple[str, ...]) -> str:
    """Return the owner that the status of uploads for the record at *segments* records."""
    text = "/".join(quote(segment, safe="", errors="surrogatepass") for segment in segments)
    return RECORDS_OWNER + hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class LedgerEntry:
    """The entry of one upload for a record.

    :ivar key: the key of the record in the index.
    :ivar path: the segments of the record's address.
    :ivar begun: when the upload began (RFC 3339).
    :ivar location: the location of the file; empty before it has one.
    :ivar linked: whether the record has referred to the file.
    """

    key: Key
    bucket_id: str
    path: tuple[str, ...]
    begun: str
    location: str
    linked: bool

    def is_at(self, location: object) -> bool:
        """Return whether the *location* in a record is that of this file, with any base URL or none."""
        return isinstance(location, str) and f"/{location}".endswith(f"/{self.location}")


class RecordLedger:
    """The entries of all records, and the storage of their files."""

    def __init__(self, storage: Storage, settings: RecordSettings) -> None:
        self.storage = storage
        self._index = storage.pool.index
        self._settings = settings

    def begin(self, record: RecordAddress, bucket_id: str) -> None:
        """Write the entry of an upload for *record*, unless it exists."""
        self._write(record, bucket_id, "", new=True)

    def place(self, record: RecordAddress, bucket: Bucket, file: UploadedFile, rules: RecordSettings) -> StoredFile:
        """Store the file of a finished *bucket* at a free location; return its description.

        :raises OSError, StorageFailed: the file cannot be stored.
        """
        for location in islice(locations(rules, record.values, file.filename), _MAX_NAMES):
            stored = StoredFile(
                location=location,
                bucket_id=bucket.id,
                filename=file.filename,
                mimetype=mimetype_of(file, rules),
                size=file.size,
                hash=file.sha256 or "",
            )
            self._write(record, bucket.id, location)
            if self.storage.register(stored):
                try:
                    self.storage.store(stored, bucket)
                except FileMissing:  # not the client's error (404): its upload was complete
                    raise StorageFailed from None
                return stored
        raise StorageFailed

    def adopt(self, record: RecordAddress, file: StoredFile) -> None:
        """Enter *file*, which another program has stored for *record*; this may be repeated after a crash.

        The order is that of an upload: the entry exists from before the registration, so garbage collection finds it.
        """
        self._write(record, file.bucket_id, file.location, new=True)
        self.storage.adopt(file)
        self.link(record, file.bucket_id)

    def link(self, record: RecordAddress, bucket_id: str) -> None:
        """Mark the entry as linked: the record now refers to the file."""
        self._index.put(index_key(record.segments), bucket_id + _LINKED)

    def delete(self, entry: LedgerEntry, *, keep_file: bool = False) -> None:
        """Remove the file of an entry, and then the entry, so that a crash in between leaves no orphaned file."""
        if entry.location and not keep_file:
            file = self.storage.find(entry.location)
            if file is not None and file.bucket_id == entry.bucket_id:
                self.storage.remove(file)
        self._index.remove(entry.key, entry.bucket_id + _LINKED)
        self._index.remove(entry.key, entry.bucket_id)

    def entry(self, record: RecordAddress, bucket_id: str) -> LedgerEntry | None:
        """Return the entry of one upload for *record*, or None."""
        key = index_key(record.segments)
        return self._read(key, bucket_id, set(self._index.names(key)))

    def entries(self, segments: tuple[str, ...]) -> Iterator[LedgerEntry]:
        """Yield the entries of the record at *segments*, and of all records below that address."""
        for key in self._index.keys(index_key(segments)):
            names = set(self._index.names(key))
            for name in sorted(names):
                entry = None if name.endswith(_LINKED) else self._read(key, name, names)
                # The key of a long segment is its hash, and another segment may have that hash as its text.
                if entry is not None and entry.path[: len(segments)] == segments:
                    yield entry

    def remove_outdated(self, entries: list[LedgerEntry], current: object) -> None:
        """Remove the linked *entries* whose file is not at the *current* location of their record.

        A record that has stopped referring to a location never refers to it again. So, if *entries* were read before
        *current*, no file is removed that the record refers to.
        """
        for entry in entries:
            if entry.linked and not entry.is_at(current):
                self.delete(entry, keep_file=self.rules_of(entry).keep_old_files)

    def rules_of(self, entry: LedgerEntry) -> RecordSettings:
        """Return the settings for the record of an entry."""
        record = RecordTemplate(self._settings.record_url).at(entry.path)
        return self._settings.of(record.groups) if record else self._settings

    def _write(self, record: RecordAddress, bucket_id: str, location: str, *, new: bool = False) -> None:
        text = json.dumps({"path": record.segments, "begun": timestamp(), "location": location})
        self._index.put(index_key(record.segments), bucket_id, text, new=new)

    def _read(self, key: Key, name: str, names: set[str]) -> LedgerEntry | None:
        text = self._index.get(key, name)
        if text is None:
            return None
        try:
            data = json.loads(text)
            path = tuple(str(segment) for segment in data["path"])
            return LedgerEntry(key, name, path, str(data["begun"]), str(data["location"]), name + _LINKED in names)
        except (ValueError, KeyError, TypeError):
            return None
