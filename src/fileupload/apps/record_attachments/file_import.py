"""Import of files that kinto-attachment has stored: enters them into the ledger, under the records that refer to them.

Records and files stay as they are. Afterwards replacing, deleting, garbage collection and ``serve_files`` treat the
files like those of our own uploads. An import may be repeated, also after a crash: the bucket id of an imported file is
derived from its location, so a repetition writes the same entries.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fileupload.apps.record_attachments.form import FIELD
from fileupload.apps.record_attachments.ledger import RecordLedger
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import Storage, StoredFile
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate, path_of
from fileupload.errors import FileMissing
from fileupload.pool.index import MAX_SEGMENT_BYTES
from fileupload.wsgi.headers import clean_filename, media_type

GetPages = Callable[[str], Iterator[tuple[int, Any]]]

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK = 1 << 20  # bytes


class RecordsUnreadable(Exception):
    """The server does not list its records; the message is its answer, as part of a sentence."""


class ImportVerdict(StrEnum):
    """The result for the attribute of one record."""

    IMPORTED = "imported"  # entered into the ledger now
    KNOWN = "known"  # its file is in the ledger already
    MISSING = "missing"  # there is no file at its location
    DIFFERENT = "different"  # the file is not the one that the record describes
    SHARED = "shared"  # several records refer to the file, which would go with the first of them
    FOREIGN = "foreign"  # its location is not below base_url
    INVALID = "invalid"  # the attribute does not describe a file


@dataclass(frozen=True)
class ImportFinding:
    """The result for the attribute of one record.

    :ivar record: the path of the record.
    :ivar location: the location in the record.
    :ivar reason: the reason of the verdict, as part of a sentence.
    """

    verdict: ImportVerdict
    record: str
    location: str
    reason: str = ""


@dataclass(frozen=True)
class _Reference:
    """A record that refers to a file.

    :ivar location: the location as it is in the record.
    """

    record: RecordAddress
    attachment: dict[str, Any]
    location: str


class RecordImport:
    """The import of all files to which the records of a Kinto server refer."""

    def __init__(
        self,
        storage: Storage,
        settings: RecordSettings,
        get_pages: GetPages,
        *,
        base_urls: tuple[str, ...] = (),
        verify: bool = False,
        dry_run: bool = False,
    ) -> None:
        """Import into the ledger of *storage*.

        :param get_pages: sends GETs for a list; yields the status and the JSON body of each page, or raises OSError.
        :param base_urls: URL prefixes of locations, beside those of the settings and of the storage.
        :param verify: whether to compute the SHA-256 of each file; its size is always checked.
        :param dry_run: whether to change nothing.
        """
        self._storage = storage
        self._settings = settings
        self._ledger = RecordLedger(storage, settings)
        self._template = RecordTemplate(settings.record_url)
        self._get_pages = get_pages
        known = (*base_urls, settings.base_url, settings.extra_base_url, storage.address)
        self._base_urls = tuple(dict.fromkeys(filter(None, known)))
        self._verify = verify
        self._dry_run = dry_run

    def run(self) -> Iterator[ImportFinding]:
        """Yield the result for each record with an attachment. All records are read before the first change.

        :raises RecordsUnreadable: the server does not list them.
        :raises OSError: the server cannot be reached.
        """
        references: dict[str, list[_Reference]] = defaultdict(list)
        findings = []
        for record, attachment in self._attachments():
            location = attachment.get("location") if isinstance(attachment, dict) else None
            if not isinstance(location, str) or not isinstance(attachment, dict):
                findings.append(_finding(ImportVerdict.INVALID, record, "", "its attachment has no location"))
            elif (relative := self._relative(location)) is None:
                reason = "its location is not below base_url"
                findings.append(_finding(ImportVerdict.FOREIGN, record, location, reason))
            else:
                references[relative].append(_Reference(record, attachment, location))
        yield from findings
        for relative, found in references.items():
            yield from self._import(relative, found)

    def _attachments(self) -> Iterator[tuple[RecordAddress, Any]]:
        """Yield each record with the attribute, and its value, unless that is null."""
        for segments, body in self._resources((), self._template.parts):
            record = self._template.at(segments)
            if record is not None and body.get(FIELD) is not None:
                yield record, body[FIELD]

    def _resources(self, segments: tuple[str, ...], parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Yield address and body of the resources that the last of *parts* stands for, below the address *segments*."""
        if not parts[0].startswith("{"):
            yield from self._resources((*segments, parts[0]), parts[1:])
            return
        for body in self._listed(path_of(segments)):
            address = (*segments, str(body["id"]))
            if len(parts) == 1:
                yield address, body
            else:
                yield from self._resources(address, parts[1:])

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        for status, body in self._get_pages(path):
            listed = body.get("data") if isinstance(body, dict) else None
            if status != 200 or not isinstance(listed, list):
                raise RecordsUnreadable(f"the server answers {status} for the list {path}")
            yield from (each for each in listed if isinstance(each, dict) and "id" in each)

    def _relative(self, location: str) -> str | None:
        """Return *location* without its base URL; None if it is not below one, or not a plain path."""
        bases = [base for base in self._base_urls if location.startswith(base)]
        if not bases and self._base_urls and (":" in location or location.startswith("/")):
            return None
        relative = location.removeprefix(max(bases, key=len, default=""))
        segments = relative.split("/")
        # Names that begin with a dot are no names of files of records, and "..", "." and "" lead elsewhere.
        plain = all(each and not each.startswith(".") for each in segments) and relative.isprintable()
        short = all(len(each.encode("utf-8", "surrogatepass")) <= MAX_SEGMENT_BYTES for each in segments)
        return relative if plain and short and not set(relative) & set("\\?#:") else None

    def _import(self, location: str, references: list[_Reference]) -> Iterator[ImportFinding]:
        """Yield the results for the records that refer to one location."""
        registered = self._storage.find(location)
        owners = [each for each in references if registered and self._is_owner(each.record, registered)]
        for each in owners:
            yield _finding(ImportVerdict.KNOWN, each.record, each.location)
        others = [each for each in references if each not in owners]
        # With keep_old_files no change of the record that owns a file removes it, so others may refer to it as well.
        may_share = all(self._settings.of(each.record.groups).keep_old_files for each in owners or references[:1])
        free = registered is None or (registered.bucket_id == _bucket_id(location) and not owners)
        if free and (len(references) == 1 or may_share):
            found = self._adopt(location, others.pop(0))
            yield found
        elif owners and may_share:
            found = _finding(ImportVerdict.KNOWN, owners[0].record, location)
        else:
            reason = (
                f"{len(references)} records refer to this file" if len(references) > 1 else "another record owns it"
            )
            found = _finding(ImportVerdict.SHARED, references[0].record, location, f"{reason}, without keep_old_files")
        verdict = ImportVerdict.KNOWN if found.verdict is ImportVerdict.IMPORTED else found.verdict
        for each in others:
            yield _finding(verdict, each.record, each.location, found.reason)

    def _is_owner(self, record: RecordAddress, file: StoredFile) -> bool:
        entry = self._ledger.entry(record, file.bucket_id)
        return entry is not None and entry.location == file.location and entry.linked

    def _adopt(self, location: str, reference: _Reference) -> ImportFinding:
        """Check the file at a location, and enter it into the ledger."""
        record = reference.record
        size = self._storage.size_of(location)
        if size is None:
            return _finding(ImportVerdict.MISSING, record, reference.location, "there is no such file")
        if size != reference.attachment.get("size"):
            reason = f"the file has {size} bytes, not those of the record"
            return _finding(ImportVerdict.DIFFERENT, record, reference.location, reason)
        file = _described(location, reference.attachment, size)
        if self._verify or not file.hash:
            try:
                computed = self._hash_of(file)
            except FileMissing:
                return _finding(ImportVerdict.MISSING, record, reference.location, "there is no such file")
            if file.hash and computed != file.hash:
                reason = "the SHA-256 of the file is not that of the record"
                return _finding(ImportVerdict.DIFFERENT, record, reference.location, reason)
            file = replace(file, hash=computed)
        if not self._dry_run:
            self._ledger.adopt(record, file)
        return _finding(ImportVerdict.IMPORTED, record, reference.location)

    def _hash_of(self, file: StoredFile) -> str:
        digest = hashlib.sha256()
        with closing(self._storage.open(file)) as opened:
            while data := opened.read(_CHUNK):
                digest.update(data)
        return digest.hexdigest()


def _described(location: str, attachment: dict[str, Any], size: int) -> StoredFile:
    """Return the file that the attribute describes. A user may have written it, so each value is checked."""
    given = str(attachment.get("hash"))
    filename = clean_filename(str(attachment.get("filename") or location))
    return StoredFile(
        location=location,
        bucket_id=_bucket_id(location),
        filename=filename,
        mimetype=media_type(str(attachment.get("mimetype") or ""), filename),
        size=size,
        hash=given if _HASH.fullmatch(given) else "",
    )


def _bucket_id(location: str) -> str:
    """Return the bucket id of an imported file. There is no such bucket: its bytes were never in the pool."""
    return hashlib.sha256(f"imported {location}".encode()).hexdigest()[:32]


def _finding(verdict: ImportVerdict, record: RecordAddress, location: str, reason: str = "") -> ImportFinding:
    return ImportFinding(verdict, record.path, location, reason)
