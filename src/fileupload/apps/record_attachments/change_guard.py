"""Changes of records on their way to the app: what they may not do, and which files they leave without a record."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from webob import Response

from fileupload.apps.record_attachments.api_adapters import ApiAdapter
from fileupload.apps.record_attachments.attribute import ABSENT, CHANGED, AttributeReader, is_same_json
from fileupload.apps.record_attachments.bodies import FormField
from fileupload.apps.record_attachments.errors import AttachmentFixed
from fileupload.apps.record_attachments.ledger import LedgerEntry, RecordLedger
from fileupload.apps.record_attachments.paths import AddressKind, aliases
from fileupload.apps.record_attachments.subrequests import AppClient, AppFailed
from fileupload.apps.record_attachments.urls import RecordTemplate, Removal

log = logging.getLogger("fileupload")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1


@dataclass(frozen=True, kw_only=True)
class Change:
    """A request that may change records.

    :ivar path: below the mount, as WSGI gives it.
    :ivar body: what it says, decoded from JSON; None if nothing.
    :ivar fields: those of its query, and of its body if that is a form.
    :ivar certain: whether the app will take it for a request of this method.
    """

    method: str
    path: str
    body: Any = None
    fields: tuple[FormField, ...] = ()
    certain: bool = True


@dataclass
class PendingChange:
    """What was there before a change: the entries that it may concern, and where they are."""

    segments: tuple[str, ...]
    removal: Removal | None = None
    entries: list[LedgerEntry] = field(default_factory=list)
    certain: bool = True


class ChangeGuard:
    """Looks at changes before and after the app has made them."""

    def __init__(self, template: RecordTemplate, api: ApiAdapter, files: RecordLedger) -> None:
        self._template = template
        self._api = api
        self._files = files
        self._reader = AttributeReader(api.envelope)

    @staticmethod
    def concerns(method: str, kind: AddressKind) -> bool:
        """Tell whether a request with this method may change records, at an address of this kind."""
        if method == "DELETE":
            return kind in {AddressKind.RECORD, AddressKind.RECORDS, AddressKind.ABOVE}
        if kind is AddressKind.FLUSH:
            return method == "POST"
        # Apps may take POST, and methods of their own, for an update of a record, or PUT for one of a whole list.
        return method not in _SAFE_METHODS and kind in {AddressKind.RECORD, AddressKind.RECORDS}

    def check(self, client: AppClient, change: Change) -> str:
        """Refuse a change of the attribute that a POST of a file alone may set.

        :return: the entity tag of the record (RFC 9110, 8.8.3) for which the change is none; empty if it never is, or
            if the app gives none.
        :raises AttachmentFixed: it is one.
        """
        wanted = ABSENT if change.method == "DELETE" else self.attachment_in(change)
        if wanted is ABSENT:
            return ""
        if wanted is CHANGED:
            raise AttachmentFixed
        record = self._template.record(change.path)
        answer = None if record is None else client.request("GET", record.path)
        known = answer is not None and answer.status_code == 200
        current = self._api.attachment(answer) if known and answer is not None else None
        # Who reads a record, changes something else and writes it back, changes nothing here.
        if not is_same_json(wanted, current):
            raise AttachmentFixed
        tag = answer.headers.get("ETag", "") if current is not None and answer is not None else ""
        return "" if tag.startswith("W/") else tag

    def begin(self, client: AppClient, change: Change) -> PendingChange | None:
        """Return what is there before a change, or None if it can leave no file behind."""
        if self._flushes(change.method, change.path):
            removal: Removal | None = Removal(self._template.base, each=False)
        else:
            removal = self._template.removal(change.path) if change.method == "DELETE" else None
        record = None if removal else self._template.record(change.path)
        if removal is None and record is None:
            return None
        segments = self._api.canonical(client, removal.segments if removal else record.segments if record else ())
        return PendingChange(segments, removal, list(self._files.entries(segments)) if removal else [], change.certain)

    def end(self, client: AppClient, watch: PendingChange | None, answer: Response) -> None:
        """Remove the files that are without a record after a change that the app has answered.

        Where that fails, they are left for the next change, or for the garbage collection: the change has been made.
        """
        # An app that failed may have made the change nevertheless.
        if watch is None or not (200 <= answer.status_code < 300 or answer.status_code >= 500):
            return
        try:
            if watch.removal is None:
                self.reconcile(client, watch.segments)
            else:
                self._end_removal(client, watch, answer)
        except (OSError, AppFailed):
            log.exception("files without a record could not be removed")

    def _end_removal(self, client: AppClient, watch: PendingChange, answer: Response) -> None:
        gone = self._gone(watch, answer)
        self._files.remove_outdated(gone or [], None)
        # Others may have attached files meanwhile; and if the app does not say what it removed, we have a look.
        seen = [] if gone is None else watch.entries
        others = [entry for each in aliases(self._template, watch.segments) for entry in self._files.entries(each)]
        for path in {entry.path for entry in (*self._files.entries(watch.segments), *others) if entry not in seen}:
            self._settle_at(client, path)

    def _gone(self, watch: PendingChange, answer: Response) -> list[LedgerEntry] | None:
        """Return the entries whose records have gone for certain; None if the app does not say which."""
        if answer.status_code >= 500 or watch.removal is None or not watch.certain:
            return None
        if not watch.removal.each:
            return watch.entries
        removed = self._api.removed(answer)
        if removed is None:
            return None
        below = {(*watch.segments, each) for each in removed}
        return [entry for entry in watch.entries if entry.path[: len(watch.segments) + 1] in below]

    def reconcile(self, client: AppClient, segments: tuple[str, ...]) -> None:
        """Remove the files of the record at *segments* that it does not speak of any more, as far as can be told."""
        for each in (segments, *aliases(self._template, segments)):
            self._settle_at(client, each)

    def _settle_at(self, client: AppClient, segments: tuple[str, ...]) -> None:
        record = self._template.at(segments)
        if record is None:
            return
        entries = list(self._files.entries(segments))
        if not any(entry.linked for entry in entries):
            return
        answer = client.request("GET", record.path)
        if answer.status_code == 200:
            attachment = self._api.attachment(answer)
            self._files.remove_outdated(entries, attachment.get("location") if isinstance(attachment, dict) else None)
        elif answer.status_code in {404, 410}:
            self._files.remove_outdated(entries, None)

    def attachment_in(self, change: Change) -> Any:
        """Return what a change would make of the attribute; ABSENT if it does not speak of it.

        :raises RecordError: it is no change of a record that could be understood.
        """
        in_fields = self._reader.in_fields(change.fields)
        return self._reader.in_json(change.body) if in_fields is ABSENT else in_fields

    def _flushes(self, method: str, path: str) -> bool:
        return method == "POST" and bool(path) and path.rstrip("/") == self._api.flush_path
