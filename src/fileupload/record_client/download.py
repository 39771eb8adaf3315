"""Downloads the files of a collection into a folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import stat
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from fileupload.record_client.collection import Collection
from fileupload.record_client.progress_bar import ProgressBar
from fileupload.record_client.transfers import (
    BLOCK,
    Outcome,
    TransferFailed,
    TransferResult,
    hash_of,
    original_of,
    reason_of,
)
from fileupload.wsgi.headers import clean_filename

_MAX_LENGTH = 200  # bytes of a name; file systems take 255, and something may come behind it


@dataclass(frozen=True)
class _Facts:
    """What a record says of the bytes of a file; no size where it does not tell one."""

    hash: str
    size: int | None


@dataclass(frozen=True)
class _Job:
    """A file that is to be there.

    :ivar stored: of the file as the server has it.
    :ivar original: of the file before it was compressed, or None if it was not.
    """

    name: str
    record_id: str
    location: str
    stored: _Facts
    original: _Facts | None

    @property
    def final(self) -> _Facts:
        return self.original or self.stored


def download_files(collection: Collection, folder: str, bar: ProgressBar) -> list[Outcome]:
    """Bring the files of all records into *folder*, which is made if it is not there.

    Files that are there already are not fetched; others of the same name are replaced once the new one is whole.

    :raises TransferFailed: the records cannot be read.
    :raises OSError: the folder cannot be made.
    """
    records = [record for record in collection.records() if record.get("attachment") is not None]
    os.makedirs(folder, exist_ok=True)
    plan = [_skip_current(job, folder) for job in _plan(records)]
    bar.expect(sum(job.stored.size or 0 for job in plan if isinstance(job, _Job)))
    return [_fetch(collection, job, folder, bar) if isinstance(job, _Job) else job for job in plan]


def _plan(records: Iterable[dict[str, Any]]) -> Iterator[_Job | Outcome]:
    """Yield a job for each record, no two of them with one name, and the same names each time."""
    taken: set[str] = set()
    for record in records:
        attachment, original = record["attachment"], original_of(record)
        try:
            location = attachment["location"]
            if not isinstance(location, str):
                raise TypeError
            stored, before = _facts_of(attachment), _facts_of(original) if original else None
            name = _free_name(safe_name(str((original or attachment)["filename"])), taken)
        except (KeyError, TypeError):
            yield Outcome(record["id"], TransferResult.FAILED, "its record does not tell its name, location and hash")
            continue
        yield _Job(name, record["id"], location, stored, before)


def _facts_of(source: Any) -> _Facts:
    """Return what *source* says.

    :raises KeyError, TypeError: it does not say it.
    """
    size = source.get("size") if isinstance(source, dict) else None
    if not isinstance(source["hash"], str):
        raise TypeError
    return _Facts(source["hash"].lower(), size if isinstance(size, int) and size >= 0 else None)


def safe_name(name: str) -> str:
    """Return *name* as that of a file in a folder: never a path, never hidden, never too long."""
    plain = clean_filename(unicodedata.normalize("NFC", name)).strip(" .")
    stem, extension = os.path.splitext(plain)
    extension = _cut(extension, 20)
    return _cut(stem, _MAX_LENGTH - len(extension.encode())) + extension or "file"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _free_name(name: str, taken: set[str]) -> str:
    """Return *name*, with a number if another file has it, and take it."""
    stem, extension = os.path.splitext(name)
    count = 0
    # Some file systems take names that differ in case for the same.
    while name.casefold() in taken:
        count += 1
        name = f"{stem}-{count}{extension}"
    taken.add(name.casefold())
    return name


def _skip_current(job: _Job | Outcome, folder: str) -> _Job | Outcome:
    if isinstance(job, _Job) and _is_current(os.path.join(folder, job.name), job.final):
        return Outcome(job.name, TransferResult.CURRENT, data={"record": job.record_id})
    return job


def _is_current(path: str, facts: _Facts) -> bool:
    """Tell whether a file with that hash is at *path*; never waits for a pipe."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or facts.size not in {None, status.st_size}:
            return False
        with open(path, "rb") as file:
            return hash_of(file) == facts.hash
    except OSError:
        return False


def _fetch(collection: Collection, job: _Job, folder: str, bar: ProgressBar) -> Outcome:
    path = os.path.join(folder, job.name)
    try:
        if job.original is not None and job.original.size is None:
            # A few hundred KB of gzip may hold as many hundred MB; without a size nothing says where to stop.
            raise TransferFailed("its record does not tell its size before it was compressed")
        with _temporary(folder) as (temporary, file):
            with collection.open(job.location) as blocks:
                _store(blocks, file, job.stored, bar)
            if job.original is None:
                file.close()
                os.replace(temporary, path)
            else:
                _decompress(file, job.original, folder, path)
    except (OSError, TransferFailed) as error:
        return Outcome(job.name, TransferResult.FAILED, reason_of(error), {"record": job.record_id})
    return Outcome(job.name, TransferResult.DOWNLOADED, data={"record": job.record_id})


def _decompress(packed: BinaryIO, facts: _Facts, folder: str, path: str) -> None:
    packed.seek(0)
    with _temporary(folder) as (temporary, file):
        with gzip.open(packed) as reader:
            try:
                _store(_blocks_of(reader, facts), file, facts)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise TransferFailed("it cannot be decompressed") from None
        file.close()
        os.replace(temporary, path)


def _blocks_of(reader: gzip.GzipFile, facts: _Facts) -> Iterator[bytes]:
    """Yield what *reader* decompresses, and at most one byte more than the record tells."""
    assert facts.size is not None
    left = facts.size + 1
    while block := reader.read(min(left, BLOCK)):
        left -= len(block)
        yield block


def _store(blocks: Iterable[bytes], file: BinaryIO, facts: _Facts, bar: ProgressBar | None = None) -> None:
    """Write *blocks* to *file*.

    :raises TransferFailed: they are not those that the record speaks of.
    """
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        size += len(block)
        if facts.size is not None and size > facts.size:
            raise TransferFailed("there is more of it than its record tells")
        digest.update(block)
        file.write(block)
        if bar is not None:
            bar.advance(len(block))
    if digest.hexdigest() != facts.hash:
        raise TransferFailed("its hash is not that of its record")


@contextmanager
def _temporary(folder: str) -> Iterator[tuple[str, BinaryIO]]:
    """Give the path of a new file in *folder*, and the file; who has not moved it away by the end has it removed."""
    path = os.path.join(folder, f".{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # The mode that other new files of this person have.
    with closing(open(os.open(path, flags, 0o666), "w+b")) as file:
        try:
            yield path, file
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
