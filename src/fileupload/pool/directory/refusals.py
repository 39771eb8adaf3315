"""The register of refusals in a directory pool: one file of a fixed size, created once.

A slot is written with one ``pwrite``, without a lock and without fsync. A crash, or two processes that write one slot
at the same time, can leave a torn record. Its checksum then does not match, and it reads as no refusal.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fileupload.pool.base import Condition
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.local_files import UNSUPPORTED, free_space
from fileupload.pool.refusal_record import SLOT_SIZE, decode_refusal, encode_refusal, slot_of
from fileupload.status import UploadStatus

REFUSALS = ".refusals"
SLOTS = 4096


class DirectoryRefusals:
    """Stores refusals in ``<directory>/.refusals``."""

    def __init__(self, directory: str, *, reserve: int) -> None:
        """Use a file in the pool's *directory*, which is created with the first refusal.

        :param reserve: bytes that must stay free, or the file is not created.
        """
        self._directory = directory
        self._reserve = reserve

    def write(self, bucket_id: str, status: UploadStatus) -> None:
        """Store the refusal *status*; nothing is stored where the file cannot be created or written."""
        data = encode_refusal(bucket_id, status)
        with suppress(OSError), fs.opened(self._open_or_create()) as fd:
            os.pwrite(fd, data, self._offset(bucket_id))

    def read(self, bucket_id: str) -> UploadStatus | None:
        """Return the refusal of a bucket, or None."""
        try:
            with (
                fs.opened(fs.open_directory(self._directory)) as root,
                fs.opened(fs.open_file(REFUSALS, root)) as fd,
            ):
                return decode_refusal(os.pread(fd, SLOT_SIZE, self._offset(bucket_id)), bucket_id)
        except FileNotFoundError:
            return None

    def remove(self, bucket_id: str, condition: Condition) -> bool:
        """Remove the refusal of a bucket; False if there is none, or *condition* does not hold of it."""
        try:
            with fs.opened(self._open()) as fd:
                offset = self._offset(bucket_id)
                status = decode_refusal(os.pread(fd, SLOT_SIZE, offset), bucket_id)
                if status is None or not condition(status):
                    return False
                os.pwrite(fd, bytes(SLOT_SIZE), offset)
                return True
        except FileNotFoundError:
            return False

    @staticmethod
    def _offset(bucket_id: str) -> int:
        return slot_of(bucket_id, SLOTS) * SLOT_SIZE

    def _open_or_create(self) -> int:
        """Return a descriptor of the file, which is created if there is enough space and the name is free.

        :raises OSError: there is no such file.
        """
        try:
            return self._open()
        except FileNotFoundError:
            if os.path.lexists(os.path.join(self._directory, REFUSALS)) or not self._has_space():
                raise
        self._create()
        return self._open()

    def _open(self) -> int:
        """Return a descriptor of the file.

        :raises FileNotFoundError: it does not exist, or something else, such as a symbolic link, is in its place.
        """
        return fs.open_to_update(os.path.join(self._directory, REFUSALS))

    def _has_space(self) -> bool:
        space = free_space(self._directory)
        return space is None or space - SLOTS * SLOT_SIZE >= self._reserve

    def _create(self) -> None:
        """Create the file with all its blocks allocated, so that a refusal on a full disk needs no new block.

        It gets its name when it is complete. Of several processes that create it at once, one gives it the name.

        :raises OSError: it cannot be created, or something else has its name.
        """
        temporary = f"{REFUSALS}.{os.urandom(8).hex()}"
        with fs.opened(fs.open_directory(self._directory)) as root:
            try:
                with fs.opened(fs.create_file(temporary, root)) as fd:
                    self._allocate(fd)
                with suppress(FileExistsError):
                    fs.give_new_name(temporary, REFUSALS, root, self._directory)
            finally:
                fs.remove(temporary, root)

    @staticmethod
    def _allocate(fd: int) -> None:
        try:
            os.posix_fallocate(fd, 0, SLOTS * SLOT_SIZE)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            fs.write_all(fd, bytes(SLOTS * SLOT_SIZE))
