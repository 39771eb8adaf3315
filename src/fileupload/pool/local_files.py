"""Local files and directories: writes a file that gets its name when it is complete, and sets exact modes.

Some file systems, above all shares and those of memory cards, keep no modes or cannot sync directories; both is done
without there.

Also the umask of the process, which decides whether the mode of a new file has to be set explicitly.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import BinaryIO

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Errors of an operation that the file system does not have.
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_umask_clears_owner_bits = False


def note_umask() -> None:
    """Read the umask of the process, which decides whether modes are set explicitly; called at the start.

    Setting each mode in any case would cost a tenth more system calls for each small upload.
    """
    global _umask_clears_owner_bits
    _umask_clears_owner_bits = bool(_read_umask() & 0o700)


def _read_umask() -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):  # not Linux; POSIX has no call that only reads the umask
        umask = os.umask(0o077)
        os.umask(umask)
        return umask


def must_set_modes() -> bool:
    """Return whether the umask clears bits of the owner, so that the mode of each new file is set explicitly."""
    return _umask_clears_owner_bits


def with_mode(fd: int) -> int:
    """Set the mode of the file *fd*, which may just have been created, if the umask makes that necessary."""
    if _umask_clears_owner_bits:
        set_mode(fd, 0o600)
    return fd


def set_mode(file: int | str, mode: int, parent: int | None = None) -> None:
    """Set the mode of *file*, a descriptor, a path or a name in *parent*, unless the file system keeps no modes.

    :raises OSError: the mode cannot be set for another reason.
    """
    try:
        os.chmod(file, mode, dir_fd=parent)
    except OSError as error:
        # EPERM: FAT has one mode for all files, and refuses others.
        if error.errno not in UNSUPPORTED | {errno.EPERM}:
            raise


def make_directories(path: str, mode: int, *, parents: int | None = None) -> None:
    """Create the directory *path* and its missing parents, with exactly that *mode*, whatever the umask.

    Existing directories keep their mode.

    :param parents: mode of the parents, from which the umask clears its bits; None: exactly *mode* too.
    """
    missing = []
    above = os.path.realpath(path)
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    for name in reversed(missing):
        exact = parents is None or name == missing[0]
        try:
            os.mkdir(name, mode if exact or parents is None else parents)
        except FileExistsError:
            if not os.path.isdir(name):
                raise
            continue  # another process has created it meanwhile
        if exact or _umask_clears_owner_bits:
            set_mode(name, mode)


def write_complete_file(source: BinaryIO, path: str, *, durable: bool) -> None:
    """Copy all of *source* to the file *path*, which gets its name when it is complete."""
    directory, base = os.path.split(os.path.abspath(path))
    partial = os.path.join(directory, f".{base[:100]}.{os.urandom(8).hex()}.part")
    target = with_mode(os.open(partial, _CREATE, 0o600))
    try:
        with open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.rename(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    if durable:
        sync_directory(directory)


def sync_directory(path: str) -> None:
    """Make the names in the directory *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_names(fd)
    finally:
        os.close(fd)


def sync_names(directory: int) -> None:
    """Make the names in the directory with that descriptor durable, if the file system can sync directories."""
    try_sync(directory)


def try_sync(fd: int) -> bool:
    """Sync a file or a directory; return False if the file system cannot."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def free_space(path: str | int) -> int | None:
    """Return the bytes that an unprivileged process may still write to the file system of *path*.

    :return: None if the file system does not tell: some have no statistics, or only zeros.
    """
    try:
        numbers = os.statvfs(path)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
    return numbers.f_bavail * numbers.f_frsize if numbers.f_blocks else None
