"""Download of the files of a collection into a folder."""

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

_MAX_LENGTH = 200  # bytes of a name; file systems allow 255, and a number may be added to the name


@dataclass(frozen=True)
class _Content:
    """The content of a file as its record describes it: its SHA-256, and its size in bytes if it is known."""

    hash: str
    size: int | None


@dataclass(frozen=True)
class _Job:
    """A file to download.

    :ivar stored: the content on the server.
    :ivar original: the content before the file was compressed, or None if it was not.
    """

    name: str
    record_id: str
    location: str
    stored: _Content
    original: _Content | None

    @property
    def final(self) -> _Content:
        return self.original or self.stored


def download_files(collection: Collection, folder: str, bar: ProgressBar) -> list[Outcome]:
    """Download the files of all records into *folder*, which is created if needed; return an outcome for each.

    A file that is there already, with the same hash, is skipped. Another file of the same name is replaced atomically,
    when the new one is complete.

    :raises TransferFailed: the records cannot be read.
    :raises OSError: the folder cannot be created.
    """
    records = [record for record in collection.records() if record.get("attachment") is not None]
    os.makedirs(folder, exist_ok=True)
    plan = [_skip_current(job, folder) for job in _plan(records)]
    bar.expect(sum(job.stored.size or 0 for job in plan if isinstance(job, _Job)))
    return [_fetch(collection, job, folder, bar) if isinstance(job, _Job) else job for job in plan]


def _plan(records: Iterable[dict[str, Any]]) -> Iterator[_Job | Outcome]:
    """Yield a job for each record, with unique names, which are the same in each run."""
    taken: set[str] = set()
    for record in records:
        attachment, original = record["attachment"], original_of(record)
        try:
            location = attachment["location"]
            if not isinstance(location, str):
                raise TypeError
            stored, before = _content_of(attachment), _content_of(original) if original else None
            name = _unique_name(safe_name(str((original or attachment)["filename"])), taken)
        except (KeyError, TypeError):
            yield Outcome(record["id"], TransferResult.FAILED, "its record lacks its name, location or hash")
            continue
        yield _Job(name, record["id"], location, stored, before)


def _content_of(source: Any) -> _Content:
    """Return the content that *source*, an attachment or its original, describes.

    :raises KeyError, TypeError: it has no hash.
    """
    size = source.get("size") if isinstance(source, dict) else None
    if not isinstance(source["hash"], str):
        raise TypeError
    return _Content(source["hash"].lower(), size if isinstance(size, int) and size >= 0 else None)


def safe_name(name: str) -> str:
    """Return *name* as the name of a file: without folders, not hidden, at most 200 bytes.

    >>> safe_name("../.bashrc")
    'bashrc'
    """
    plain = clean_filename(unicodedata.normalize("NFC", name)).strip(" .")
    stem, extension = os.path.splitext(plain)
    extension = _cut(extension, 20)
    return _cut(stem, _MAX_LENGTH - len(extension.encode())) + extension or "file"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _unique_name(name: str, taken: set[str]) -> str:
    """Return *name*, with a number if another file has it, and add it to *taken*."""
    stem, extension = os.path.splitext(name)
    count = 0
    # Some file systems are not case-sensitive.
    while name.casefold() in taken:
        count += 1
        name = f"{stem}-{count}{extension}"
    taken.add(name.casefold())
    return name


def _skip_current(job: _Job | Outcome, folder: str) -> _Job | Outcome:
    if isinstance(job, _Job) and _is_current(os.path.join(folder, job.name), job.final):
        return Outcome(job.name, TransferResult.CURRENT, data={"record": job.record_id})
    return job


def _is_current(path: str, content: _Content) -> bool:
    """Return whether a regular file with this content is at *path*."""
    try:
        status = os.lstat(path)  # opening a named pipe would block
        if not stat.S_ISREG(status.st_mode) or content.size not in {None, status.st_size}:
            return False
        with open(path, "rb") as file:
            return hash_of(file) == content.hash
    except OSError:
        return False


def _fetch(collection: Collection, job: _Job, folder: str, bar: ProgressBar) -> Outcome:
    path = os.path.join(folder, job.name)
    try:
        if job.original is not None and job.original.size is None:
            # A decompression bomb: gzip may expand a thousandfold, and without a size there is no limit.
            raise TransferFailed("its record lacks its size before it was compressed")
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


def _decompress(packed: BinaryIO, content: _Content, folder: str, path: str) -> None:
    packed.seek(0)
    with _temporary(folder) as (temporary, file):
        with gzip.open(packed) as reader:
            try:
                _store(_blocks_of(reader, content), file, content)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise TransferFailed("it cannot be decompressed") from None
        file.close()
        os.replace(temporary, path)


def _blocks_of(reader: gzip.GzipFile, content: _Content) -> Iterator[bytes]:
    """Yield the decompressed bytes, at most one more than the record's size: enough to detect that there are more."""
    assert content.size is not None
    left = content.size + 1
    while block := reader.read(min(left, BLOCK)):
        left -= len(block)
        yield block


def _store(blocks: Iterable[bytes], file: BinaryIO, content: _Content, bar: ProgressBar | None = None) -> None:
    """Write *blocks* to *file*, and compare them with the *content* in the record.

    :raises TransferFailed: they differ.
    """
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        size += len(block)
        if content.size is not None and size > content.size:
            raise TransferFailed("it is larger than its record says")
        digest.update(block)
        file.write(block)
        if bar is not None:
            bar.advance(len(block))
    if digest.hexdigest() != content.hash:
        raise TransferFailed("its hash is not that of its record")


@contextmanager
def _temporary(folder: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the path of a new, temporary file in *folder*, and the open file; remove it unless it was renamed."""
    path = os.path.join(folder, f".{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # The mode of other new files: the umask applies.
    with closing(open(os.open(path, flags, 0o666), "w+b")) as file:
        try:
            yield path, file
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
