"""Garbage collection: finds and removes orphaned files, to which no record refers, for example after a crash.

Each file's record is read from its server. A file is removed only if the server answers clearly that the record is gone
or refers to another file; an error or an unexpected answer removes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from fileupload import clocks
from fileupload.apps.record_attachments.api_adapters import KintoApi, RestApi
from fileupload.apps.record_attachments.form import FIELD
from fileupload.apps.record_attachments.ledger import LedgerEntry, RecordLedger, record_owner
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import Storage, StoredFile, holds_file
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate, index_key
from fileupload.errors import FileMissing
from fileupload.pool.base import is_stalled
from fileupload.status import State, UploadStatus, seconds_of

GetJson = Callable[[str], tuple[int, Any]]


class Verdict(StrEnum):
    """The decision about a file."""

    KEPT = "kept"  # its record refers to it
    LINKED = "linked"  # its record refers to it, and its entry was marked as linked now
    LEFT = "left"  # its upload may still be running
    REMOVED = "removed"  # no record refers to it
    MISSING = "missing"  # its record refers to it, but the file is gone
    UNKNOWN = "unknown"  # the server's answer does not decide it


@dataclass(frozen=True)
class Finding:
    """The result for one file.

    :ivar record: the path of its record; empty if it is not known.
    :ivar location: the location of the file; empty if it has none yet.
    :ivar reason: the reason of the verdict, as part of a sentence.
    """

    verdict: Verdict
    record: str
    location: str
    reason: str = ""


class RecordGarbage:
    """The garbage collection of all files of records."""

    def __init__(
        self, storage: Storage, settings: RecordSettings, get_json: GetJson, *, older_than: float, dry_run: bool = False
    ) -> None:
        """Collect the orphaned files in *storage*.

        :param get_json: sends a GET to a path; returns the status and the JSON body, or raises OSError.
        :param older_than: seconds for which an upload to which no record refers yet is left alone.
        :param dry_run: whether to change nothing.
        """
        self._storage = storage
        self._settings = settings
        self._ledger = RecordLedger(storage, settings)
        self._template = RecordTemplate(settings.record_url)
        self._attributes = (KintoApi if settings.uses_kinto_api else RestApi)(self._template).attributes
        self._get_json = get_json
        self._older_than = older_than
        self._dry_run = dry_run

    def collect(self) -> Iterator[Finding]:
        """Decide about each file, remove the orphaned ones, and yield the results one by one."""
        # Uploads may run at the same time. An entry is written before its location is registered, and removed after
        # it. So the locations are read first: one without an entry in the later list will never get one.
        registered = list(self._storage.registered())
        known = self._known_buckets()
        for entry in self._ledger.entries(()):
            yield self._examine(entry)
        keeps_old = self._settings.keep_old_files or any(
            rules.get("keep_old_files") for rules in self._settings.resources.values()
        )
        for file in registered if not keeps_old else ():
            if file.bucket_id not in known:
                yield self._remove_unknown(file)

    def _known_buckets(self) -> set[str]:
        """Return the ids of the buckets that have an entry, also those whose entry cannot be parsed."""
        index = self._storage.pool.index
        return {name for key in index.keys(index_key(())) for name in index.names(key)}

    def _examine(self, entry: LedgerEntry) -> Finding:
        record = self._template.at(entry.path)
        if record is None:
            path = "/" + "/".join(entry.path)
            return Finding(Verdict.UNKNOWN, path, entry.location, "its address does not match 'record_url'")
        if self._is_running(entry):
            return Finding(Verdict.LEFT, record.path, entry.location, "its upload may still be running")
        # The record is read after the entry; see RecordLedger.remove_outdated.
        try:
            status, body = self._get_json(record.path)
        except OSError as error:
            return Finding(Verdict.UNKNOWN, record.path, entry.location, f"the server cannot be reached: {error}")
        attributes = self._attributes(body)
        if status == 200 and isinstance(attributes, dict):
            return self._compare(entry, record, attributes.get(FIELD))
        if status in {404, 410}:
            return self._remove(entry, record, "the record is gone")
        answer = f"{status}, and no record" if status == 200 else str(status)
        return Finding(Verdict.UNKNOWN, record.path, entry.location, f"the server answers {answer}")

    def _is_running(self, entry: LedgerEntry) -> bool:
        """Return whether the upload of *entry* is running, or so recent that its record may not refer to it yet."""
        bucket = self._storage.pool.bucket(entry.bucket_id)
        status = bucket.get_status()
        if status.running and not is_stalled(status, self._older_than):
            return True
        if entry.linked:
            return False
        moments = [seconds_of(moment) for moment in (entry.begun, status.updated) if moment]
        ages = [clocks.age_of(moment) for moment in moments if not clocks.is_far_ahead(moment)]
        age = min(ages) if ages else bucket.idle(correct=not self._dry_run)
        return age < self._older_than

    def _compare(self, entry: LedgerEntry, record: RecordAddress, attachment: Any) -> Finding:
        location = attachment.get("location") if isinstance(attachment, dict) else None
        if not entry.location or not entry.is_at(location):
            return self._remove(entry, record, f"the record refers to {'another' if location else 'no'} file")
        if not entry.linked and not self._dry_run:
            if not self._storage.needs_bucket:
                self._remove_copy(entry)
            self._ledger.link(record, entry.bucket_id)
        if not self._exists(entry.location):
            return Finding(Verdict.MISSING, record.path, entry.location, "the record refers to a file that is gone")
        return Finding(Verdict.KEPT if entry.linked else Verdict.LINKED, record.path, entry.location)

    def _remove_copy(self, entry: LedgerEntry) -> None:
        """Remove the file from its bucket, after it was copied to the public storage."""
        file = self._storage.find(entry.location)

        def holds(status: UploadStatus) -> bool:
            return _owns(entry, status) or (file is not None and holds_file(file, status))

        self._storage.pool.bucket(entry.bucket_id).remove_file(condition=holds)

    def _exists(self, location: str) -> bool:
        file = self._storage.find(location)
        try:
            if file is not None:
                self._storage.open(file).close()
        except FileMissing:
            return False
        return file is not None

    def _remove(self, entry: LedgerEntry, record: RecordAddress, reason: str) -> Finding:
        # Also a file that was never linked is kept with keep_old_files: after a crash between the app's answer and the
        # link, its record may have referred to it.
        keep_file = bool(entry.location) and self._ledger.rules_of(entry).keep_old_files
        if not self._dry_run:
            self._ledger.delete(entry, keep_file=keep_file)
            if not keep_file:  # the file is still in its bucket if it never got a location
                self._storage.pool.clear(entry.bucket_id, unless_kept=True, condition=partial(_owns, entry))
        return Finding(
            Verdict.REMOVED, record.path, entry.location, reason + ("; the file is kept" if keep_file else "")
        )

    def _remove_unknown(self, file: StoredFile) -> Finding:
        if not self._dry_run:
            self._storage.remove(file)
        return Finding(Verdict.REMOVED, "", file.location, "it belongs to no record")


def _owns(entry: LedgerEntry, status: UploadStatus) -> bool:
    """Return whether a bucket with this *status* holds the upload of *entry*.

    After a crash that leaves an entry, the client may have used the same identifier for another record or application.
    Bytes without a status are left over from a crash, and belong to no upload.
    """
    return status.state is State.UNKNOWN or status.owner == record_owner(entry.path)
