"""Direct uploads into a shared directory: our own server takes the parts, so that clients need know no difference.

::

    <attempt>/
        part-1, …                a part that is whole
        part-1.<size>.<random>   one that is being received, locked meanwhile, with the size that was declared
        whole                    the file while it is being put together of several parts
        0                        the file
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from fileupload.errors import Incomplete, Superseded, TooLarge
from fileupload.formatting import format_size
from fileupload.pool.direct import DirectFile, Form, Part, PartWriter
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.descriptor_limits import admission, retried
from fileupload.status import RUNNING

if TYPE_CHECKING:
    from fileupload.pool.directory.pool import DirectoryPool

PART = "part-"
_WHOLE = "whole"
_FILE = "0"
_NAME = re.compile(PART + r"([1-9][0-9]{0,4})", re.ASCII)
_IN_FLIGHT = re.compile(PART + r"([1-9][0-9]{0,4})\.([0-9]{1,19})\.[0-9a-f]{16}", re.ASCII)
_CHUNK = 256 << 10  # bytes; stays in the processor's cache between reading, hashing and writing


class DirectoryDirect(DirectFile):
    """Parts that are files beside each other."""

    streams_through_server = True

    def __init__(self, pool: DirectoryPool, bucket_id: str, attempt: str) -> None:
        self._pool = pool
        self._id = bucket_id
        self._attempt = attempt

    def begin(self, *, form: bool) -> None:
        """Nothing needs to be prepared."""

    def part_url(self, number: int, size: int | None, expires: float) -> None:
        """Return None: our own server takes it."""

    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return None: our own server takes it."""
        return None

    def receive_part(self, number: int, size: int = 0, limit: int | None = None) -> PartWriter:
        """Create a file beside the parts that are whole, if all of them have room."""
        with ExitStack() as held:
            bucket = self._open_bucket(held)
            folder = self._open_folder(bucket, held)
            try:
                # Under the lock, of parts that come at the same time each sees those that were admitted before it.
                with self._pool.directories.lock_open_directory(bucket):
                    self._require_open(bucket)
                    with admission(folder):
                        self._admit(number, size, limit, folder)
                        writer = _FilePart(self, number, size, held, bucket, folder)
            except FileNotFoundError:
                raise Superseded from None
            writer.held = held.pop_all()
            return writer

    @staticmethod
    def _admit(number: int, size: int, limit: int | None, folder: int) -> None:
        """Supersede what is being received of the part *number*; only under the bucket's lock.

        :raises TooLarge: with this part, all parts would have more than *limit* bytes.
        """
        names = os.listdir(folder)
        others = 0
        for match in filter(None, map(_IN_FLIGHT.fullmatch, names)):
            if int(match[1]) == number:
                continue
            others += int(match[2]) if _is_being_received(match[0], folder) else 0
        if limit is not None:
            others += sum(part.size for part in _whole_parts(names, folder) if part.number != number)
            if others + size > limit:
                raise TooLarge(f"The parts that were sent would have more than {format_size(limit)} with this one.")
        # Not before it is admitted: a request that is refused takes nothing away.
        for name in names:
            if name.startswith(f"{PART}{number}."):
                _supersede(name, folder)

    def parts(self) -> Sequence[Part]:
        """Return what is in the folder."""
        with ExitStack() as held:
            try:
                folder = self._open_folder(self._open_bucket(held), held)
            except Superseded:
                return []
            names = os.listdir(folder)
            if _FILE in names:  # put together by somebody who did not come to say so
                return [_part_at(_FILE, 0, folder)]
            return sorted(_whole_parts(names, folder), key=lambda part: part.number)

    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Rename the only part, or copy all into one file."""
        digest = hashlib.sha256() if hashed else None
        with ExitStack() as held:
            bucket = self._open_bucket(held)
            folder = self._open_folder(bucket, held)
            try:
                self._make(parts, bucket, folder, digest.update if digest else None)
            except FileNotFoundError:
                raise Superseded from None
            self.remove_parts(folder)
        return digest.hexdigest() if digest else None

    def _make(self, parts: Sequence[Part], bucket: int, folder: int, see: Callable[[bytes], object] | None) -> None:
        made = _FILE in os.listdir(folder)
        if not made and len(parts) > 1:
            self._copy(parts, folder, see)
            return
        if not made:
            self._rename(parts[0], bucket, folder)
        if see:
            with fs.opened(fs.open_file(_FILE, folder)) as file:
                _read_all(file, see)

    def _rename(self, part: Part, bucket: int, folder: int) -> None:
        # Under the lock no part gets its name, so that it is this one.
        with self._pool.directories.lock_open_directory(bucket), _opened_part(part, folder):
            os.rename(f"{PART}{part.number}", _FILE, src_dir_fd=folder, dst_dir_fd=folder)

    def _copy(self, parts: Sequence[Part], folder: int, see: Callable[[bytes], object] | None) -> None:
        fs.remove(_WHOLE, folder)  # what a crash has left of it
        try:
            with fs.opened(fs.create_file(_WHOLE, folder)) as whole:
                self._fill(whole, parts, folder, see)
            os.rename(_WHOLE, _FILE, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            fs.remove(_WHOLE, folder)  # on a full disk, its room is what the next try needs
            raise

    def _fill(self, whole: int, parts: Sequence[Part], folder: int, see: Callable[[bytes], object] | None) -> None:
        def take(data: bytes) -> None:
            if see:
                see(data)
            fs.write_all(whole, data)

        for part in parts:
            with _opened_part(part, folder) as file:
                _read_all(file, take)
        if self._pool.durable:
            os.fsync(whole)

    def abandon(self) -> None:
        """Remove the parts and the file."""
        with ExitStack() as held, suppress(Superseded):
            folder = self._open_folder(self._open_bucket(held), held)
            self.remove_parts(folder)
            fs.remove(_FILE, folder)

    @staticmethod
    def measure(folder: int) -> tuple[int, float]:
        """Return the bytes that are stored of the file, and when the last of them came.

        Of a part that is being sent again, the larger of both files counts.
        """
        sizes: dict[str, int] = {}
        last = 0.0
        names = os.listdir(folder)
        for name in [_FILE] if _FILE in names else (name for name in names if name.startswith(PART)):
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                number = name.partition(".")[0]
                sizes[number] = max(sizes.get(number, 0), found.st_size)
                last = max(last, found.st_mtime)
        return sum(sizes.values()), last

    @staticmethod
    def remove_parts(folder: int) -> None:
        """Remove all parts from the folder of an attempt, whole or not."""
        for name in os.listdir(folder):
            if name.startswith(PART) or name == _WHOLE:
                fs.remove(name, folder)

    def publish(self, bucket: int, folder: int, temporary: str, name: str) -> None:
        """Give a part that is stored its *name*, unless the upload was finished meanwhile.

        :raises Superseded: it was, or is another's by now.
        """

        def rename() -> None:
            with self._pool.directories.lock_open_directory(bucket):
                self._require_open(bucket)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

        try:
            retried(rename)
        except FileNotFoundError:
            raise Superseded from None
        if self._pool.durable:
            os.fsync(folder)

    @property
    def durable(self) -> bool:
        """Whether parts are synced."""
        return self._pool.durable

    def _open_bucket(self, held: ExitStack) -> int:
        try:
            return held.enter_context(fs.opened(self._pool.directories.open(self._id)))
        except (FileNotFoundError, NotADirectoryError):
            raise Superseded from None

    def _open_folder(self, bucket: int, held: ExitStack) -> int:
        try:
            return held.enter_context(fs.opened(fs.open_directory(self._attempt, bucket)))
        except (FileNotFoundError, NotADirectoryError):
            raise Superseded from None

    def _require_open(self, bucket: int) -> None:
        status = self._pool.read_status(bucket)
        if status.attempt != self._attempt or status.state not in RUNNING:
            raise Superseded


class _FilePart(PartWriter):
    """A part that is being received, in a file of its own until it is whole."""

    held: ExitStack

    def __init__(
        self, direct: DirectoryDirect, number: int, size: int, held: ExitStack, bucket: int, folder: int
    ) -> None:
        self._direct = direct
        self._number = number
        self._bucket = bucket
        self._folder = folder
        self._written = 0
        self._name = f"{PART}{number}.{size}.{secrets.token_hex(8)}"
        self._fd = held.enter_context(fs.opened(fs.create_file(self._name, folder)))
        # The lock ends with the process: a file without it was left by a crash, and reserves nothing.
        fs.try_lock(self._fd)

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        :raises Superseded: the part is being received anew, or the upload was finished, cleared or begun anew.
        """
        # A superseded file was removed and truncated; written on, it would take room that no limit counts. On NFS
        # it keeps a hidden name as long as it is open, so that only its size tells.
        found = os.fstat(self._fd)
        if found.st_nlink == 0 or found.st_size < self._written:
            raise Superseded
        fs.write_all(self._fd, data)
        self._written += len(data)

    def close(self) -> None:
        """Sync it, and let it count."""
        try:
            if self._direct.durable:
                os.fsync(self._fd)
            self.part = Part(self._number, _etag(os.fstat(self._fd)), os.fstat(self._fd).st_size)
            self._direct.publish(self._bucket, self._folder, self._name, f"{PART}{self._number}")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Remove what does not count."""
        with self.held:
            if self._fd >= 0:
                fs.remove(self._name, self._folder)
                self._fd = -1


def _is_being_received(name: str, folder: int) -> bool:
    """Tell whether a process receives into the file *name*; one that a crash has left is removed."""
    try:
        with fs.opened(fs.open_for_locking(name, folder)) as file:
            if not fs.try_lock(file):
                return True
            fs.remove(name, folder)
    except FileNotFoundError:
        pass
    return False


def _supersede(name: str, folder: int) -> None:
    """Remove the file *name* of a part that is sent again, and free its bytes, though its writer holds it open."""
    with suppress(FileNotFoundError), fs.opened(fs.open_for_locking(name, folder)) as file:
        fs.remove(name, folder)
        os.ftruncate(file, 0)


def _whole_parts(names: Sequence[str], folder: int) -> Iterator[Part]:
    """Yield the parts that are whole, of the *names* in the folder of an attempt."""
    for match in filter(None, map(_NAME.fullmatch, names)):
        with suppress(FileNotFoundError):
            yield _part_at(match[0], int(match[1]), folder)


def _part_at(name: str, number: int, folder: int) -> Part:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return Part(number, _etag(found), found.st_size)


def _etag(found: os.stat_result) -> str:
    """Return a text that changes with the file; a part is never changed in its place."""
    identity = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'


@contextmanager
def _opened_part(part: Part, folder: int) -> Iterator[int]:
    """Open a part, if it is still the same.

    :raises Incomplete: it is not.
    """
    try:
        with fs.opened(fs.open_file(f"{PART}{part.number}", folder)) as file:
            if _etag(os.fstat(file)) != part.etag:
                raise FileNotFoundError(errno.ENOENT, "another part")
            yield file
    except FileNotFoundError:
        raise Incomplete("A part was sent again while the upload was being completed.") from None


def _read_all(file: int, take: Callable[[bytes], object]) -> None:
    while chunk := os.read(file, _CHUNK):
        take(chunk)
