"""Direct uploads into a directory pool: our own server receives the parts, so clients need not know the difference.

::

    <attempt>/
        part-1, …                a complete part
        part-1.<size>.<random>   a part that a request is sending, locked meanwhile, with its declared size (0: unknown)
        whole                    the file while it is assembled from several parts
        0                        the assembled file

A part gets its name by a rename under the bucket's lock, after a check that the upload is still open; so nothing
changes any more once the upload is finished or begun again. Two requests that send the same part write different files,
so their bytes never mix. A single part becomes the file by a rename; several are copied into ``whole``, which is then
renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from fileupload.errors import Incomplete, Superseded, TooLarge
from fileupload.formatting import format_size
from fileupload.pool.direct import DirectFile
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.directory.bucket_store import ASSEMBLING, FILE, PART, DirectoryBucketStore, remove_parts
from fileupload.pool.directory.descriptor_limits import admission, retried
from fileupload.pool.local_files import sync_names
from fileupload.pool.parts import Form, Part, PartWriter
from fileupload.status import RUNNING

_COMPLETE = re.compile(PART + r"([1-9][0-9]{0,4})", re.ASCII)
_IN_FLIGHT = re.compile(PART + r"([1-9][0-9]{0,4})\.([0-9]{1,19})\.[0-9a-f]{16}", re.ASCII)
_CHUNK = 256 << 10  # bytes; fits into the processor's cache while it is read, hashed and written


class DirectoryDirect(DirectFile):
    """A direct upload whose parts are files in the attempt's directory."""

    streams_through_server = True

    def __init__(self, bucket: DirectoryBucketStore, attempt: str) -> None:
        self.upload_id = attempt
        self._bucket = bucket
        self._attempt = attempt

    def begin(self, *, form: bool) -> None:
        """Do nothing: the attempt's directory is all that parts need."""

    def part_url(self, number: int, size: int | None, expires: float) -> None:
        """Return None: our own server receives the part."""

    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return None: our own server receives the form."""
        return None

    def receive_part(self, number: int, size: int | None = None, limit: int | None = None) -> PartWriter:
        """Create the file of a part, if all parts together stay within *limit*."""
        with ExitStack() as held:
            bucket_fd = self._open_bucket(held)
            attempt_fd = self._open_attempt(bucket_fd, held)
            try:
                # Under the lock, each of several simultaneous requests counts the parts admitted before it.
                with self._bucket.lock_open_directory(bucket_fd):
                    self._require_open(bucket_fd)
                    with admission(attempt_fd):
                        self._admit(number, size or 0, limit, attempt_fd)
                        writer = _FilePart(self, number, size or 0, held, bucket_fd, attempt_fd)
            except FileNotFoundError:
                raise Superseded from None
            writer.held = held.pop_all()
            return writer

    @staticmethod
    def _admit(number: int, size: int, limit: int | None, attempt_fd: int) -> None:
        """Supersede older requests for the part *number*. The caller holds the bucket's lock.

        :raises TooLarge: all parts, with this one of *size* bytes, would have more than *limit* bytes.
        """
        names = os.listdir(attempt_fd)
        others = 0
        for match in filter(None, map(_IN_FLIGHT.fullmatch, names)):
            if int(match[1]) == number:
                continue
            others += int(match[2]) if _is_being_received(match[0], attempt_fd) else 0
        if limit is not None:
            others += sum(part.size for part in _complete_parts(names, attempt_fd) if part.number != number)
            if others + size > limit:
                raise TooLarge(f"With this part, the parts would have more than {format_size(limit)} together.")
        # Only after the part is admitted: a refused request must not end another one.
        for name in names:
            if name.startswith(f"{PART}{number}."):
                _supersede(name, attempt_fd)

    def parts(self) -> Sequence[Part]:
        """Return the parts in the attempt's directory."""
        with ExitStack() as held:
            try:
                attempt_fd = self._open_attempt(self._open_bucket(held), held)
            except Superseded:
                return []
            names = os.listdir(attempt_fd)
            if FILE in names:  # a process has assembled the file, and crashed before it finished the upload
                return [_part_at(FILE, 0, attempt_fd)]
            return sorted(_complete_parts(names, attempt_fd), key=lambda part: part.number)

    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Rename the only part, or copy all parts into one file."""
        digest = hashlib.sha256() if hashed else None
        with ExitStack() as held:
            bucket_fd = self._open_bucket(held)
            attempt_fd = self._open_attempt(bucket_fd, held)
            try:
                self._assemble(parts, bucket_fd, attempt_fd, digest.update if digest else None)
            except FileNotFoundError:
                raise Superseded from None
            remove_parts(attempt_fd)
        return digest.hexdigest() if digest else None

    def _assemble(
        self, parts: Sequence[Part], bucket_fd: int, attempt_fd: int, update: Callable[[bytes], object] | None
    ) -> None:
        assembled = FILE in os.listdir(attempt_fd)
        if not assembled and len(parts) > 1:
            self._copy(parts, attempt_fd, update)
            return
        if not assembled:
            self._rename(parts[0], bucket_fd, attempt_fd)
        if update:
            with fs.opened(fs.open_file(FILE, attempt_fd)) as file:
                _read_all(file, update)

    def _rename(self, part: Part, bucket_fd: int, attempt_fd: int) -> None:
        # The lock keeps other requests from replacing the part between the check of its ETag and the rename.
        with self._bucket.lock_open_directory(bucket_fd), _opened_part(part, attempt_fd):
            os.rename(f"{PART}{part.number}", FILE, src_dir_fd=attempt_fd, dst_dir_fd=attempt_fd)

    def _copy(self, parts: Sequence[Part], attempt_fd: int, update: Callable[[bytes], object] | None) -> None:
        fs.remove(ASSEMBLING, attempt_fd)  # left by a crash
        try:
            with fs.opened(fs.create_file(ASSEMBLING, attempt_fd)) as file:
                self._fill(file, parts, attempt_fd, update)
            os.rename(ASSEMBLING, FILE, src_dir_fd=attempt_fd, dst_dir_fd=attempt_fd)
        except BaseException:
            fs.remove(ASSEMBLING, attempt_fd)  # on a full disk, the next attempt needs its space
            raise

    def _fill(
        self, target: int, parts: Sequence[Part], attempt_fd: int, update: Callable[[bytes], object] | None
    ) -> None:
        def take(data: bytes) -> None:
            if update:
                update(data)
            fs.write_all(target, data)

        for part in parts:
            with _opened_part(part, attempt_fd) as file:
                _read_all(file, take)
        if self._bucket.durable:
            os.fsync(target)

    def abandon(self) -> None:
        """Remove the parts and the file."""
        with ExitStack() as held, suppress(Superseded):
            attempt_fd = self._open_attempt(self._open_bucket(held), held)
            remove_parts(attempt_fd)
            fs.remove(FILE, attempt_fd)

    def publish(self, bucket_fd: int, attempt_fd: int, temporary: str, name: str) -> None:
        """Rename the complete part *temporary* to *name*, unless the upload was finished meanwhile.

        :raises Superseded: it was finished, cleared or begun again.
        """

        def rename() -> None:
            with self._bucket.lock_open_directory(bucket_fd):
                self._require_open(bucket_fd)
                os.rename(temporary, name, src_dir_fd=attempt_fd, dst_dir_fd=attempt_fd)

        try:
            retried(rename)
        except FileNotFoundError:
            raise Superseded from None
        if self._bucket.durable:
            sync_names(attempt_fd)

    @property
    def durable(self) -> bool:
        """Return whether the pool syncs parts."""
        return self._bucket.durable

    def _open_bucket(self, held: ExitStack) -> int:
        try:
            return held.enter_context(fs.opened(self._bucket.open()))
        except (FileNotFoundError, NotADirectoryError):
            raise Superseded from None

    def _open_attempt(self, bucket_fd: int, held: ExitStack) -> int:
        try:
            return held.enter_context(fs.opened(fs.open_directory(self._attempt, bucket_fd)))
        except (FileNotFoundError, NotADirectoryError):
            raise Superseded from None

    def _require_open(self, bucket_fd: int) -> None:
        status = self._bucket.read_status(bucket_fd)
        if status.attempt != self._attempt or status.state not in RUNNING:
            raise Superseded


class _FilePart(PartWriter):
    """Writes a part to a file of its own, which is renamed when it is complete."""

    held: ExitStack

    def __init__(
        self, direct: DirectoryDirect, number: int, size: int, held: ExitStack, bucket_fd: int, attempt_fd: int
    ) -> None:
        self._direct = direct
        self._number = number
        self._bucket_fd = bucket_fd
        self._attempt_fd = attempt_fd
        self._written = 0
        self._name = f"{PART}{number}.{size}.{secrets.token_hex(8)}"
        # The lock ends with the process: a file that is not locked was left by a crash, and reserves no space.
        self._fd = held.enter_context(fs.opened(fs.create_locked_file(self._name, attempt_fd)))
        self._counts_links = os.fstat(self._fd).st_nlink > 0  # some file systems report no links

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        :raises Superseded: another request sends this part now, or the upload was finished, cleared or begun again.
        """
        # A superseded file was removed and truncated; bytes written to it now would escape every limit. On NFS a
        # removed file that is open keeps a hidden name, and only its size shows that it was truncated.
        found = os.fstat(self._fd)
        if (self._counts_links and found.st_nlink == 0) or found.st_size < self._written:
            raise Superseded
        fs.write_all(self._fd, data)
        self._written += len(data)

    def close(self) -> None:
        """Sync the part and rename it, which makes it count."""
        try:
            if self._direct.durable:
                os.fsync(self._fd)
            self.part = Part(self._number, _etag(os.fstat(self._fd)), os.fstat(self._fd).st_size)
            self._direct.publish(self._bucket_fd, self._attempt_fd, self._name, f"{PART}{self._number}")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Remove the file, unless it was renamed."""
        with self.held:
            if self._fd >= 0:
                fs.remove(self._name, self._attempt_fd)
                self._fd = -1


def _is_being_received(name: str, attempt_fd: int) -> bool:
    """Return whether a process writes the file *name* of a part; a file left by a crash is removed."""
    try:
        with fs.opened(fs.open_for_locking(name, attempt_fd)) as file:
            if not fs.try_lock(file):
                return True
            fs.remove(name, attempt_fd)
    except FileNotFoundError:
        pass
    return False


def _supersede(name: str, attempt_fd: int) -> None:
    """Remove the file *name* of a part that is sent again, and free its blocks, although its writer has it open."""
    with suppress(FileNotFoundError), fs.opened(fs.open_for_locking(name, attempt_fd)) as file:
        fs.remove(name, attempt_fd)
        os.ftruncate(file, 0)


def _complete_parts(names: Sequence[str], attempt_fd: int) -> Iterator[Part]:
    """Yield the complete parts among the *names* in an attempt's directory."""
    for match in filter(None, map(_COMPLETE.fullmatch, names)):
        with suppress(FileNotFoundError):
            yield _part_at(match[0], int(match[1]), attempt_fd)


def _part_at(name: str, number: int, attempt_fd: int) -> Part:
    found = os.stat(name, dir_fd=attempt_fd, follow_symlinks=False)
    return Part(number, _etag(found), found.st_size)


def _etag(found: os.stat_result) -> str:
    """Return an ETag. Inode and time suffice, because a part is never changed in place."""
    identity = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'


@contextmanager
def _opened_part(part: Part, attempt_fd: int) -> Iterator[int]:
    """Open a part for reading; gives a descriptor.

    :raises Incomplete: it was replaced or removed since it was listed.
    """
    try:
        with fs.opened(fs.open_file(f"{PART}{part.number}", attempt_fd)) as file:
            if _etag(os.fstat(file)) != part.etag:
                raise FileNotFoundError(errno.ENOENT, "the part was replaced")
            yield file
    except FileNotFoundError:
        raise Incomplete("A part was sent again while the upload was being completed.") from None


def _read_all(file: int, take: Callable[[bytes], object]) -> None:
    while chunk := os.read(file, _CHUNK):
        take(chunk)
