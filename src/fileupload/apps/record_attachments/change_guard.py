"""The guard of changes to records: checks them before the app makes them, and removes orphaned files after them."""

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

    :ivar path: the path below the mount, as in the environ.
    :ivar body: its JSON value, or None.
    :ivar fields: the fields of its query, and of a form in its body.
    :ivar certain: whether the app certainly treats it as a request of this method.
    """

    method: str
    path: str
    body: Any = None
    fields: tuple[FormField, ...] = ()
    certain: bool = True


@dataclass
class PendingChange:
    """A change that the app is making.

    :ivar segments: the address that it concerns.
    :ivar removal: what it removes, if it is a DELETE or a flush.
    :ivar entries: the entries at that address before the removal.
    :ivar certain: as in :class:`Change`.
    """

    segments: tuple[str, ...]
    removal: Removal | None = None
    entries: list[LedgerEntry] = field(default_factory=list)
    certain: bool = True


class ChangeGuard:
    """Guards the attribute ``attachment`` and the files of records against changes by other requests.

    For each request, call :meth:`check` and :meth:`begin`, let the app answer, then call :meth:`end`.
    """

    def __init__(self, template: RecordTemplate, api: ApiAdapter, ledger: RecordLedger) -> None:
        self._template = template
        self._api = api
        self._ledger = ledger
        self._reader = AttributeReader(api.envelope)

    @staticmethod
    def concerns(method: str, kind: AddressKind) -> bool:
        """Return whether a request with this method, at an address of this kind, may change records."""
        if method == "DELETE":
            return kind in {AddressKind.RECORD, AddressKind.RECORDS, AddressKind.ABOVE}
        if kind is AddressKind.FLUSH:
            return method == "POST"
        # Apps may accept POST and methods of their own to update a record, or PUT to replace a whole list.
        return method not in _SAFE_METHODS and kind in {AddressKind.RECORD, AddressKind.RECORDS}

    def check(self, client: AppClient, change: Change) -> str:
        """Refuse a change that sets the attribute to another value: only an upload may do that.

        :return: the entity tag of the record (RFC 9110, 8.8.3), if the request repeats the current value of the
            attribute: it must be sent on with ``If-Match``. Empty if it does not contain the attribute, or if the app
            gives no strong entity tag.
        :raises AttachmentFixed: the value is another one.
        """
        value = ABSENT if change.method == "DELETE" else self.attachment_in(change)
        if value is ABSENT:
            return ""
        if value is CHANGED:
            raise AttachmentFixed
        record = self._template.record(change.path)
        answer = None if record is None else client.request("GET", record.path)
        known = answer is not None and answer.status_code == 200
        current = self._api.attachment(answer) if known and answer is not None else None
        # A client that reads a record, changes another attribute and writes the record back repeats the current value.
        if not is_same_json(value, current):
            raise AttachmentFixed
        tag = answer.headers.get("ETag", "") if current is not None and answer is not None else ""
        return "" if tag.startswith("W/") else tag

    def begin(self, client: AppClient, change: Change) -> PendingChange | None:
        """Return the state before a change, or None if the change cannot orphan a file."""
        if self._flushes(change.method, change.path):
            removal: Removal | None = Removal(self._template.base, each=False)
        else:
            removal = self._template.removal(change.path) if change.method == "DELETE" else None
        record = None if removal else self._template.record(change.path)
        if removal is None and record is None:
            return None
        segments = self._api.canonical(client, removal.segments if removal else record.segments if record else ())
        entries = list(self._ledger.entries(segments)) if removal else []
        return PendingChange(segments, removal, entries, change.certain)

    def end(self, client: AppClient, pending: PendingChange | None, answer: Response) -> None:
        """Remove the files that a change has orphaned, after the app has answered it.

        The change is made, so a failure here does not fail the request: the next change or the garbage collection
        removes the files.
        """
        # An app that answers with 500 may have made the change nevertheless.
        if pending is None or not (200 <= answer.status_code < 300 or answer.status_code >= 500):
            return
        try:
            if pending.removal is None:
                self.reconcile(client, pending.segments)
            else:
                self._end_removal(client, pending, answer)
        except (OSError, AppFailed):
            log.exception("orphaned files could not be removed")

    def _end_removal(self, client: AppClient, pending: PendingChange, answer: Response) -> None:
        gone = self._gone(pending, answer)
        self._ledger.remove_outdated(gone or [], None)
        # Read the records of all other entries: concurrent requests may have attached files during the removal, and an
        # app may not say which records it has removed.
        seen = [] if gone is None else pending.entries
        others = [entry for each in aliases(self._template, pending.segments) for entry in self._ledger.entries(each)]
        for path in {entry.path for entry in (*self._ledger.entries(pending.segments), *others) if entry not in seen}:
            self._reconcile_at(client, path)

    def _gone(self, pending: PendingChange, answer: Response) -> list[LedgerEntry] | None:
        """Return the entries whose records are certainly removed; None if the app does not say which."""
        if answer.status_code >= 500 or pending.removal is None or not pending.certain:
            return None
        if not pending.removal.each:
            return pending.entries
        removed = self._api.removed(answer)
        if removed is None:
            return None
        below = {(*pending.segments, each) for each in removed}
        return [entry for entry in pending.entries if entry.path[: len(pending.segments) + 1] in below]

    def reconcile(self, client: AppClient, segments: tuple[str, ...]) -> None:
        """Read the record at *segments*, and remove its files to which it does not refer any more."""
        for each in (segments, *aliases(self._template, segments)):
            self._reconcile_at(client, each)

    def _reconcile_at(self, client: AppClient, segments: tuple[str, ...]) -> None:
        record = self._template.at(segments)
        if record is None:
            return
        entries = list(self._ledger.entries(segments))  # before the record; see RecordLedger.remove_outdated
        if not any(entry.linked for entry in entries):
            return
        answer = client.request("GET", record.path)
        if answer.status_code == 200:
            attachment = self._api.attachment(answer)
            self._ledger.remove_outdated(entries, attachment.get("location") if isinstance(attachment, dict) else None)
        elif answer.status_code in {404, 410}:
            self._ledger.remove_outdated(entries, None)

    def attachment_in(self, change: Change) -> Any:
        """Return the value to which a change sets the attribute; ABSENT if it does not set it.

        :raises RecordError: the change is not valid.
        """
        in_fields = self._reader.in_fields(change.fields)
        return self._reader.in_json(change.body) if in_fields is ABSENT else in_fields

    def _flushes(self, method: str, path: str) -> bool:
        return method == "POST" and bool(path) and path.rstrip("/") == self._api.flush_path
