"""Finds the files that no record speaks of, and removes them: what no request showed, and what a crash left.

The server of the records is asked about each file, and nothing is removed that it does not speak of clearly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from fileupload.apps.record_attachments.api_adapters import KintoApi, RestApi
from fileupload.apps.record_attachments.form import FIELD
from fileupload.apps.record_attachments.ledger import LedgerEntry, RecordLedger, record_owner
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import Storage, StoredFile, holds_file
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate, index_key
from fileupload.errors import FileMissing
from fileupload.pool.base import is_stalled
from fileupload.status import State, UploadStatus, seconds_of

Ask = Callable[[str], tuple[int, Any]]


class Verdict(StrEnum):
    """What is right for a file."""

    KEPT = "kept"  # its record speaks of it
    LINKED = "linked"  # the same, and it was not known yet
    LEFT = "left"  # its upload may still be under way
    REMOVED = "removed"  # no record speaks of it
    MISSING = "missing"  # its record speaks of it, and it is gone
    UNKNOWN = "unknown"  # the server does not tell


@dataclass(frozen=True)
class Finding:
    """What was found out about one file.

    :ivar record: the path of its record; empty where that is not known.
    :ivar location: of the file; empty where it has none yet.
    :ivar reason: why, in words.
    """

    verdict: Verdict
    record: str
    location: str
    reason: str = ""


class RecordGarbage:
    """Looks at all files of records."""

    def __init__(
        self, storage: Storage, settings: RecordSettings, ask: Ask, *, older_than: float, dry_run: bool = False
    ) -> None:
        """Look at the files in *storage*.

        :param ask: gives the status and the JSON body of the answer to a GET, by path; raises OSError for none.
        :param older_than: seconds for which an upload that is in no record yet is left alone.
        :param dry_run: change nothing.
        """
        self._storage = storage
        self._settings = settings
        self._files = RecordLedger(storage, settings)
        self._template = RecordTemplate(settings.record_url)
        self._attributes = (KintoApi if settings.uses_kinto_api else RestApi)(self._template).attributes
        self._ask = ask
        self._older_than = older_than
        self._before = time.time() - older_than
        self._dry_run = dry_run

    def collect(self) -> Iterator[Finding]:
        """Yield what was found about each file, once it has been dealt with."""
        # An entry is there before its location is registered, and goes after it. So what was registered when the
        # entries were not read yet, and has none then, has none for ever.
        registered = list(self._storage.registered())
        known = self._known_buckets()
        for entry in self._files.entries(()):
            yield self._look_at(entry)
        keeps_old = self._settings.keep_old_files or any(
            rules.get("keep_old_files") for rules in self._settings.resources.values()
        )
        for file in registered if not keeps_old else ():
            if file.bucket_id not in known:
                yield self._remove_unknown(file)

    def _known_buckets(self) -> set[str]:
        """Return the ids of the buckets that have an entry, also one that cannot be read."""
        index = self._storage.pool.index
        return {name for key in index.keys(index_key(())) for name in index.names(key)}

    def _look_at(self, entry: LedgerEntry) -> Finding:
        record = self._template.at(entry.path)
        if record is None:
            path = "/" + "/".join(entry.path)
            return Finding(Verdict.UNKNOWN, path, entry.location, "its address is none of those in 'record_url'")
        if self._is_under_way(entry):
            return Finding(Verdict.LEFT, record.path, entry.location, "its upload may still be under way")
        # The entry was read before: a location never comes back to a record that has once left it.
        try:
            status, body = self._ask(record.path)
        except OSError as error:
            return Finding(Verdict.UNKNOWN, record.path, entry.location, f"the server cannot be asked: {error}")
        attributes = self._attributes(body)
        if status == 200 and isinstance(attributes, dict):
            return self._compare(entry, record, attributes.get(FIELD))
        if status in {404, 410}:
            return self._remove(entry, record, "the record is gone")
        answer = f"{status}, and no record" if status == 200 else str(status)
        return Finding(Verdict.UNKNOWN, record.path, entry.location, f"the server answers {answer}")

    def _is_under_way(self, entry: LedgerEntry) -> bool:
        """Tell whether the upload of *entry* still runs, or was over only lately and may not be in its record yet."""
        status = self._storage.pool.bucket(entry.bucket_id).get_status()
        moments = [entry.begun, status.updated or entry.begun]
        running = status.running and not is_stalled(status, self._older_than)
        return running or (not entry.linked and max(map(seconds_of, moments)) > self._before)

    def _compare(self, entry: LedgerEntry, record: RecordAddress, attachment: Any) -> Finding:
        location = attachment.get("location") if isinstance(attachment, dict) else None
        if not entry.location or not entry.is_at(location):
            return self._remove(entry, record, f"the record speaks of {'another' if location else 'no'} file")
        if not entry.linked and not self._dry_run:
            if not self._storage.needs_bucket:
                self._remove_copy(entry)
            self._files.link(record, entry.bucket_id)
        if not self._is_there(entry.location):
            return Finding(Verdict.MISSING, record.path, entry.location, "the record speaks of a file that is gone")
        return Finding(Verdict.KEPT if entry.linked else Verdict.LINKED, record.path, entry.location)

    def _remove_copy(self, entry: LedgerEntry) -> None:
        """Remove the file from its bucket, where it has been copied to a public place and its record has it."""
        file = self._storage.find(entry.location)

        def holds(status: UploadStatus) -> bool:
            return _owns(entry, status) or (file is not None and holds_file(file, status))

        self._storage.pool.bucket(entry.bucket_id).remove_file(condition=holds)

    def _is_there(self, location: str) -> bool:
        file = self._storage.find(location)
        try:
            if file is not None:
                self._storage.open(file).close()
        except FileMissing:
            return False
        return file is not None

    def _remove(self, entry: LedgerEntry, record: RecordAddress, reason: str) -> Finding:
        # Of a file without a link nobody knows whether it was ever in its record; who keeps old files may miss it.
        keep_file = bool(entry.location) and self._files.rules_of(entry).keep_old_files
        if not self._dry_run:
            self._files.delete(entry, keep_file=keep_file)
            if not keep_file:  # also where the file never got to a location
                self._storage.pool.clear(entry.bucket_id, unless_kept=True, condition=partial(_owns, entry))
        return Finding(
            Verdict.REMOVED, record.path, entry.location, reason + ("; the file is kept" if keep_file else "")
        )

    def _remove_unknown(self, file: StoredFile) -> Finding:
        if not self._dry_run:
            self._storage.remove(file)
        return Finding(Verdict.REMOVED, "", file.location, "it belongs to no record")


def _owns(entry: LedgerEntry, status: UploadStatus) -> bool:
    """Tell whether a bucket with that *status* holds the upload of *entry*.

    A crash leaves entries, and the client may then have sent the same identifier to another record or application.
    Bytes without a status belong to no upload: a crash left them.
    """
    return status.state is State.UNKNOWN or status.owner == record_owner(entry.path)
