"""Checks at the start whether the file system of a pool has what the pool needs.

Shares (SMB, NFS), folders of virtual machines (vboxsf, 9p) and file systems of memory cards (FAT, exFAT) lack abilities
of local disks. Dispensable are hard links, modes, the syncing of directories, allocation in advance and statistics (see
``filesystem`` and ``local_files``). Indispensable are locks, stable inode numbers, the replacement of open files, and
the syncing of files with ``durable``: without them each upload would fail, or be unsafe.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from contextlib import suppress

from fileupload.errors import SettingError
from fileupload.pool.directory import filesystem as fs
from fileupload.pool.local_files import try_sync

log = logging.getLogger("fileupload")

_NAME = ".check-"
_checked: set[tuple[int, bool]] = set()  # file systems, and whether syncing was checked, of this process


def require_abilities(directory: str, *, durable: bool) -> None:
    """Check the file system of *directory*, once in a process, with files in a temporary directory there.

    :param durable: whether uploads are synced.
    :raises SettingError: something indispensable is missing; the message says what to do.
    """
    try:
        with fs.opened(fs.open_root(directory, create=True)) as root:
            device = os.fstat(root).st_dev, durable
            if device in _checked:
                return
            _check_in(root, durable=durable)
            _checked.add(device)
    except _Missing as error:
        raise SettingError(f"setting 'directory' cannot be {directory!r}: {error}") from None
    except OSError as error:
        raise SettingError(f"setting 'directory' cannot be {directory!r}: {error.strerror}") from None


class _Missing(Exception):
    """The file system lacks an indispensable ability."""


def _check_in(root: int, *, durable: bool) -> None:
    name = _NAME + secrets.token_hex(8)
    fs.make_directory(name, root)
    try:
        with fs.opened(fs.open_directory(name, root)) as directory:
            _check_locks(directory)
            _check_files(directory, durable=durable)
            if stat.S_IMODE(os.fstat(directory).st_mode) & 0o077:
                log.warning(
                    "the file system of setting 'directory' does not keep modes: other users may read the uploads, "
                    "unless it is mounted for this user only (such as with umask=077)"
                )
            if durable and not try_sync(directory):
                log.warning(
                    "the file system of setting 'directory' cannot sync directories: after a power failure, uploads "
                    "that were just reported as done may be missing"
                )
    finally:
        with suppress(OSError):
            fs.remove_tree(name, root)


def _check_locks(directory: int) -> None:
    with fs.opened(fs.open_for_locking("lock", directory, create=True)) as first:
        try:
            fs.lock(first)
        except OSError as error:
            raise _Missing(
                f"its file system has no locks ({error.strerror}); use a local disk, or mount the share with locks "
                "(NFS: with lockd, not 'nolock'; SMB: without 'nobrl')"
            ) from None
        with fs.opened(fs.open_for_locking("lock", directory)) as second:
            if fs.try_lock(second):
                raise _Missing(
                    "locks have no effect on its file system; use a local disk, or mount the share with locks"
                )
        if not os.path.samestat(os.fstat(first), os.stat("lock", dir_fd=directory, follow_symlinks=False)):
            raise _Missing(
                "its file system changes the inode numbers of files; use a local disk, or mount the share with stable "
                "ones (SMB: 'serverino')"
            )


def _check_files(directory: int, *, durable: bool) -> None:
    with fs.opened(fs.create_file("file", directory)) as file:
        fs.write_all(file, b"content")
        try:
            if durable:
                os.fsync(file)
        except OSError as error:
            raise _Missing(
                f"its file system cannot sync files ({error.strerror}); use a local disk, or set 'durable' to false, "
                "with which a power failure may destroy uploads that were reported as done"
            ) from None
        try:
            fs.replace_file("file", b"other content", directory, durable=False)
            fs.remove("file", directory)
        except OSError as error:
            raise _Missing(
                f"its file system cannot replace or remove a file that is open ({error.strerror}); use a local disk"
            ) from None
