"""Local files and directories: writes a file that gets its name when it is complete, and sets exact modes.

Also the umask of the process, which decides whether the mode of a new file has to be set explicitly.
"""

from __future__ import annotations

import os
import shutil
from typing import BinaryIO

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

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
        os.fchmod(fd, 0o600)
    return fd


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
            os.chmod(name, mode)


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
        os.fsync(fd)
    finally:
        os.close(fd)
