"""Changes of records on their way to the app: what they may not do, and which files they leave without a record."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from typing import Any

from webob import Response

from fileupload.attachments.record_apis import RecordApi
from fileupload.attachments.record_errors import AttachmentFixed, RecordError
from fileupload.attachments.record_files import Entry, RecordFiles
from fileupload.attachments.record_form import FIELD
from fileupload.attachments.record_urls import RecordTemplate, Removal
from fileupload.attachments.subrequests import AppClient, AppFailed

log = logging.getLogger("fileupload")

ABSENT = object()
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"']*)""", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A request that may change records.

    :ivar path: below the mount, as WSGI gives it.
    :ivar body: what it says, decoded from JSON; None if nothing that could be decoded.
    :ivar certain: whether the app will take it for a request of this method.
    """

    method: str
    path: str
    body: Any = None
    certain: bool = True


@dataclass
class Watch:
    """What was there before a change: the entries that it may concern, and where they are."""

    segments: tuple[str, ...]
    removal: Removal | None = None
    entries: list[Entry] = field(default_factory=list)
    certain: bool = True


class RecordChanges:
    """Looks at changes before and after the app has made them."""

    def __init__(self, template: RecordTemplate, api: RecordApi, files: RecordFiles) -> None:
        self._template = template
        self._api = api
        self._files = files

    def concerns(self, method: str, path: str) -> bool:
        """Tell whether a request with this method and path may change records."""
        if method == "DELETE":
            return self._template.removal(path) is not None
        if method == "POST":
            return self._template.holds_records(path) or self._flushes(method, path)
        return method in {"PUT", "PATCH"} and self._template.record(path) is not None

    def check(self, client: AppClient, change: Change) -> str:
        """Refuse a change of the attribute that a POST of a file alone may set.

        :return: the entity tag of the record (RFC 9110, 8.8.3) for which the change is none; empty if it never is, or
            if the app gives none.
        :raises AttachmentFixed: it is one.
        """
        wanted = self.attachment_in(change)
        if wanted is ABSENT:
            return ""
        record = self._template.record(change.path)
        answer = None if record is None else client.ask("GET", record.path)
        known = answer is not None and answer.status_code == 200
        current = self._api.attachment(answer) if known and answer is not None else None
        # Who reads a record, changes something else and writes it back, changes nothing here.
        if wanted != current:
            raise AttachmentFixed
        tag = answer.headers.get("ETag", "") if current is not None and answer is not None else ""
        return "" if tag.startswith("W/") else tag

    def begin(self, client: AppClient, change: Change) -> Watch | None:
        """Return what is there before a change, or None if it can leave no file behind."""
        if self._flushes(change.method, change.path):
            removal: Removal | None = Removal(self._template.base, each=False)
        else:
            removal = self._template.removal(change.path) if change.method == "DELETE" else None
        record = None if removal else self._template.record(change.path)
        if removal is None and record is None:
            return None
        segments = self._api.canonical(client, removal.segments if removal else record.segments if record else ())
        return Watch(segments, removal, list(self._files.entries(segments)) if removal else [], change.certain)

    def end(self, client: AppClient, watch: Watch | None, answer: Response) -> None:
        """Remove the files that are without a record after a change that the app has answered.

        Where that fails, they are left for the next change, or for the garbage collection: the change has been made.
        """
        # An app that failed may have made the change nevertheless.
        if watch is None or not (200 <= answer.status_code < 300 or answer.status_code >= 500):
            return
        try:
            if watch.removal is None:
                self.settle(client, watch.segments)
            else:
                self._end_removal(client, watch, answer)
        except (OSError, AppFailed):
            log.exception("files without a record could not be removed")

    def _end_removal(self, client: AppClient, watch: Watch, answer: Response) -> None:
        gone = self._gone(watch, answer)
        self._files.remove_outdated(gone or [], None)
        # Others may have attached files meanwhile; and if the app does not say what it removed, we have a look.
        seen = [] if gone is None else watch.entries
        for path in {entry.path for entry in self._files.entries(watch.segments) if entry not in seen}:
            self.settle(client, path)

    def _gone(self, watch: Watch, answer: Response) -> list[Entry] | None:
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

    def settle(self, client: AppClient, segments: tuple[str, ...]) -> None:
        """Remove the files of the record at *segments* that it does not speak of any more, as far as can be told."""
        record = self._template.at(segments)
        if record is None:
            return
        entries = list(self._files.entries(segments))
        if not any(entry.linked for entry in entries):
            return
        answer = client.ask("GET", record.path)
        if answer.status_code == 200:
            attachment = self._api.attachment(answer)
            self._files.remove_outdated(entries, attachment.get("location") if isinstance(attachment, dict) else None)
        elif answer.status_code in {404, 410}:
            self._files.remove_outdated(entries, None)

    def attachment_in(self, change: Change) -> Any:
        """Return what a change would make of the attribute; ABSENT if it does not speak of it."""
        if isinstance(change.body, list):
            return _patched_attachment(change.body)
        attributes = self._api.attributes(change.body)
        return attributes.get(FIELD, ABSENT) if isinstance(attributes, dict) else ABSENT

    def _flushes(self, method: str, path: str) -> bool:
        return method == "POST" and bool(path) and path.rstrip("/") == self._api.flush_path


def _patched_attachment(operations: list[Any]) -> Any:
    """Return what a JSON Patch (RFC 6902) would make of the attribute, or something that it cannot be."""
    for operation in operations:
        if not isinstance(operation, dict) or operation.get("op") == "test":
            continue
        pointers = (operation.get("path"), operation.get("from") if operation.get("op") == "move" else None)
        for pointer in filter(lambda each: isinstance(each, str), pointers):
            words = str(pointer).strip("/").split("/")
            # The attribute itself, something in it, or the whole of what it is in.
            if words[:1] == [FIELD] or words[:2] == ["data", FIELD] or words in (["data"], [""]):
                return operation
    return ABSENT


def decode(body: bytes, content_type: str) -> Any:
    """Return what *body* says as JSON, or None if it says nothing or is something else.

    :raises RecordError: it is JSON that we cannot read: whatever the app makes of it must not get past us.
    """
    kind, _, parameters = content_type.lower().partition(";")
    if (charset := _CHARSET.search(parameters)) and charset[1] not in {"utf-8", "utf8", "us-ascii", "ascii"}:
        raise RecordError(f"JSON is sent as UTF-8 (RFC 8259, 8.1), not as {charset[1]}", location="body")
    try:
        return json.loads(body.decode("utf-8")) if body else None
    except (ValueError, RecursionError) as error:
        if not kind.strip() or kind.strip().endswith("json") or isinstance(error, RecursionError):
            raise RecordError(f"Invalid JSON: {error}", location="body") from None
        return None
