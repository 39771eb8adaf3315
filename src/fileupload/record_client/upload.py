"""Upload of many files to a collection, with a record for each."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from fileupload.record_client.collection import Collection
from fileupload.record_client.progress_bar import ProgressBar
from fileupload.record_client.transfers import (
    BLOCK,
    FormBody,
    Outcome,
    TransferFailed,
    TransferResult,
    hash_of,
    open_regular,
    original_of,
    printable,
    reason_of,
)
from fileupload.wsgi.media_types import DEFAULT_TYPE

_GZIP = "application/x-gzip"


@dataclass(frozen=True)
class _Job:
    """A file to upload.

    :ivar record: the existing record, or the id of a new one as ``{"id": …}``.
    """

    path: str
    name: str
    size: int
    record: dict[str, Any]


def upload_files(
    collection: Collection, paths: Sequence[str], bar: ProgressBar, *, compress: bool = False, force: bool = False
) -> list[Outcome]:
    """Upload the files at *paths*; return an outcome for each.

    A file replaces the attachment of the record that has a file of the same name. For a new name, a record is created,
    whose id is derived from the name.

    :param compress: send the files compressed, with the description of the original file in the key ``original``.
    :param force: send also files that are on the server already, with the same hash.
    :raises TransferFailed: no file can be sent.
    """
    counts = Counter(map(os.path.basename, paths))
    if duplicates := [name for name, count in counts.items() if count > 1]:
        raise TransferFailed(f"several files have the name {printable(duplicates[0])!r}, and so the same record")
    collection.require_attachments()
    collection.create()
    existing = {name: record for record in reversed(collection.records()) if (name := _name_in(record))}
    plan = [_plan(path, existing, force=force) for path in paths]
    bar.expect(sum(job.size for job in plan if isinstance(job, _Job)))
    return [_send(collection, job, bar, compress=compress) if isinstance(job, _Job) else job for job in plan]


def record_id_of(name: str) -> str:
    """Return the id of the record for a new file with this *name*: a UUID that depends on the name only."""
    digest = hashlib.md5(name.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return str(uuid.UUID(digest.hexdigest()))


def _name_in(record: dict[str, Any]) -> str | None:
    """Return the name of a record's file before it was compressed, or None if the record has no file."""
    source = original_of(record) or record.get("attachment")
    name = source.get("filename") if isinstance(source, dict) and record.get("attachment") else None
    return name if isinstance(name, str) else None


def _plan(path: str, existing: dict[str, dict[str, Any]], *, force: bool) -> _Job | Outcome:
    name = os.path.basename(path)
    record = existing.get(name, {"id": record_id_of(name)})
    known = (original_of(record) or record.get("attachment") or {}).get("hash")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if known and not force and hash_of(file) == known:
                return Outcome(name, TransferResult.CURRENT, data={"record": record["id"]})
    except (OSError, TransferFailed) as error:
        return Outcome(name or path, TransferResult.FAILED, reason_of(error))
    return _Job(path, name, size, record)


def _send(collection: Collection, job: _Job, bar: ProgressBar, *, compress: bool) -> Outcome:
    try:
        with open_regular(job.path) as file:
            send = _send_compressed if compress else _send_plain
            attachment = send(collection, job, file, bar)
    except (OSError, TransferFailed) as error:
        return Outcome(job.name, TransferResult.FAILED, reason_of(error))
    data = {"record": job.record["id"], "attachment": attachment}
    return Outcome(job.name, TransferResult.UPLOADED, str(attachment.get("location", "")), data)


def _send_plain(collection: Collection, job: _Job, file: BinaryIO, bar: ProgressBar) -> dict[str, Any]:
    # The key "original" describes the old, compressed file; the new file is not compressed.
    data = {"original": None} if job.record.get("original") else None
    form = FormBody(file, job.size, filename=job.name, mimetype=_mimetype_of(job.name), data=data, advance=bar.advance)
    return _deliver(collection, job, form)


def _send_compressed(collection: Collection, job: _Job, file: BinaryIO, bar: ProgressBar) -> dict[str, Any]:
    with tempfile.TemporaryFile() as packed:
        original, size = _compress(file, packed)
        bar.expect(size - job.size)
        data = {"original": {"filename": job.name, "mimetype": _mimetype_of(job.name), **original}}
        form = FormBody(packed, size, filename=f"{job.name}.gz", mimetype=_GZIP, data=data, advance=bar.advance)
        return _deliver(collection, job, form)


def _compress(file: BinaryIO, packed: BinaryIO) -> tuple[dict[str, Any], int]:
    """Compress *file* into *packed*; return the hash and the size of *file*, and the size of *packed*."""
    digest, size = hashlib.sha256(), 0
    # Without name and time in the gzip header, the same content always compresses to the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as writer:
        while data := file.read(BLOCK):
            digest.update(data)
            size += len(data)
            writer.write(data)
    packed_size = packed.tell()
    packed.seek(0)
    return {"hash": digest.hexdigest(), "size": size}, packed_size


def _deliver(collection: Collection, job: _Job, form: FormBody) -> dict[str, Any]:
    attachment = collection.attach(job.record["id"], form)
    if attachment.get("hash") != form.digest.hexdigest():
        raise TransferFailed("the server has stored other bytes than were sent: the hashes differ")
    return attachment


def _mimetype_of(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    return _GZIP if encoding == "gzip" else DEFAULT_TYPE if encoding else kind or DEFAULT_TYPE
