"""The few file operations of the directory pool, each safe by itself.

Everything is opened relative to a descriptor of its folder and never through a symbolic link, so that links
planted in the pool lead nowhere. Everything is created for the owner alone: folders with mode 0700, files with 0600. A
umask can only take bits away from these; where it takes those of the owner, each mode is set once more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from fileupload.errors import lacks_descriptors

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

# What opening says of a symbolic link (two words for one thing) and of a socket.
_SYMLINK_ERRNOS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


_umask_takes_owner_bits = False


def note_umask() -> None:
    """Look whether the umask of the process takes away what the owner needs; for the start of a process.

    To set all modes in any case would cost a tenth more system calls for each small upload.
    """
    global _umask_takes_owner_bits
    _umask_takes_owner_bits = bool(_read_umask() & 0o700)


def _read_umask() -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):  # no Linux; POSIX lets it only be read by being set
        umask = os.umask(0o077)
        os.umask(umask)
        return umask


def _with_mode(fd: int) -> int:
    """Return *fd*, of a file that may just have been created, with the mode of files set."""
    if _umask_takes_owner_bits:
        os.fchmod(fd, 0o600)
    return fd


def make_directories(path: str, mode: int, *, parents: int | None = None) -> None:
    """Make the folder *path* and those above it that are missing, with just that *mode*, whatever the umask.

    What is there keeps its mode.

    :param parents: the mode of those above, of which the umask takes its bits; None: just *mode* too.
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
            continue  # another process has made it meanwhile
        if exact or _umask_takes_owner_bits:
            os.chmod(name, mode)


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close *fd* on leaving."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_directory(name: str, parent: int | None = None) -> int:
    """Return a descriptor of the folder *name* in *parent*.

    :raises FileNotFoundError: it is not there.
    :raises NotADirectoryError: it is something else, or a symbolic link.
    :raises OSError: it is there, and cannot be opened now.
    """
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS:
            raise NotADirectoryError(errno.ENOTDIR, "no folder", name) from None
        raise


def open_root(path: str, *, create: bool) -> int:
    """Return a descriptor of the folder *path*.

    :param create: make it, for the owner alone, if it is not there.
    :raises OSError: it is not there, or cannot be opened.
    """
    while True:
        try:
            return open_directory(path)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileNotFoundError):  # removed again on the way
            make_directories(path, 0o700, parents=0o755)


def ensure_directory(name: str, parent: int) -> bool:
    """Make the folder *name* in *parent*; False if it was there."""
    try:
        make_directory(name, parent)
    except FileExistsError:
        return False
    return True


def make_directory(name: str, parent: int) -> None:
    """Make the folder *name* in *parent*.

    :raises FileExistsError: it is there.
    """
    os.mkdir(name, 0o700, dir_fd=parent)
    if _umask_takes_owner_bits:
        os.chmod(name, 0o700, dir_fd=parent)


def open_file(name: str, parent: int) -> int:
    """Return a descriptor of the regular file *name* in *parent*, for reading.

    :raises FileNotFoundError: it is not there, is a symbolic link, or is no regular file.
    :raises OSError: it is there, and cannot be opened now.
    """
    try:
        # Without O_NONBLOCK a planted named pipe would stop us here for ever.
        fd = os.open(name, _READ | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS:
            raise FileNotFoundError(errno.ENOENT, "no regular file", name) from None
        raise
    return _require_regular(fd, name)


def _require_regular(fd: int, name: str) -> int:
    """Return *fd* if it is a regular file's; else close it.

    :raises FileNotFoundError: it is something else's.
    """
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        os.close(fd)
        raise
    if not regular:
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no regular file", name)
    return fd


def create_file(name: str, parent: int) -> int:
    """Return a descriptor of a new file *name* in *parent*, for writing."""
    return _with_mode(os.open(name, _WRITE | os.O_EXCL, 0o600, dir_fd=parent))


def open_to_append(name: str, parent: int) -> int:
    """Return a descriptor of the file *name* in *parent*, for writing behind what is there."""
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def open_to_update(path: str) -> int:
    """Return a descriptor of the regular file at *path*, for reading and for writing in its place.

    :raises FileNotFoundError: it is not there, is a symbolic link, or is no regular file.
    """
    try:
        return _require_regular(os.open(path, _LOCK | os.O_NONBLOCK), path)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS or error.errno == errno.EISDIR:
            raise FileNotFoundError(errno.ENOENT, "no regular file", path) from None
        raise


def open_for_locking(name: str, parent: int, *, create: bool = False) -> int:
    """Return a descriptor of the file *name* in *parent*, as locks on a network file system ask for: for writing.

    :raises OSError: it is not there, or a link is.
    """
    fd = os.open(name, _LOCK | os.O_CREAT if create else _LOCK, 0o600, dir_fd=parent)
    return _with_mode(fd) if create else fd


def lock(fd: int) -> None:
    """Lock the file of *fd*, once nobody else holds it; the lock ends with the descriptor, and with the process."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def try_lock(fd: int) -> bool:
    """Lock the file of *fd* if nobody else holds it now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_file(name: str, parent: int) -> bytes:
    """Return what the file *name* in *parent* holds."""
    # A Python file would ask the system four more questions.
    with opened(open_file(name, parent)) as fd:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*; one write may store less than it was given."""
    written = os.write(fd, data)
    while written < len(data):
        data = data[written:]
        written = os.write(fd, data)


def temporary_name(name: str) -> str:
    """Return the name that the new content of the file *name* has until it is whole."""
    return name + ".new"


def replace_file(name: str, data: bytes, parent: int, *, durable: bool) -> None:
    """Give the file *name* in *parent* the content *data*, whole or not at all, after a crash too.

    Only one caller at a time may do so for the same name. The folder itself is not synced.
    """
    temporary = temporary_name(name)
    try:
        with opened(_with_mode(os.open(temporary, _WRITE | os.O_TRUNC, 0o600, dir_fd=parent))) as fd:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        with suppress(OSError):  # on a full disk, what was begun would keep its inode
            remove(temporary, parent)
        raise


def remove(name: str, parent: int) -> bool:
    """Remove the file *name* from *parent*; False if it was not there."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def remove_tree(name: str, parent: int) -> None:
    """Remove *name* from *parent*, a file or a folder with all it holds; links are not followed.

    :raises OSError: no descriptors are left, and so some of it is; any other trouble is passed over.
    """
    try:
        remove(name, parent)
    except (IsADirectoryError, PermissionError):  # unlink of a folder: EISDIR on Linux, EPERM elsewhere
        _remove_folder(name, parent)


def _remove_folder(name: str, parent: int) -> None:
    shortage: list[OSError] = []

    def note(error: BaseException) -> None:
        if isinstance(error, OSError) and lacks_descriptors(error):
            shortage.append(error)

    if sys.version_info >= (3, 12):
        shutil.rmtree(name, onexc=lambda _, path, error: note(error), dir_fd=parent)
    else:
        shutil.rmtree(name, onerror=lambda _, path, error: note(error[1]), dir_fd=parent)
    if shortage:
        raise shortage[0]


def move_file(name: str, parent: int, path: str, *, durable: bool) -> None:
    """Move the file *name* out of *parent* to *path*, replacing what is there.

    Renamed where that is possible; else copied under another name beside *path*, then renamed.
    """
    try:
        os.rename(name, path, src_dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(open_file(name, parent), "rb") as source:
            write_whole(source, path, durable=durable)
        remove(name, parent)
    if durable:
        sync_directory(os.path.dirname(os.path.abspath(path)))


def write_whole(source: BinaryIO, path: str, *, durable: bool) -> None:
    """Give the file *path* all that *source* has to give, and its name when it is whole."""
    folder, base = os.path.split(os.path.abspath(path))
    partial = os.path.join(folder, f".{base[:100]}.{os.urandom(8).hex()}.part")
    target = _with_mode(os.open(partial, _WRITE | os.O_EXCL, 0o600))
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
        sync_directory(folder)


def sync_directory(path: str, parent: int | None = None) -> None:
    """Make the names in the folder *path* durable."""
    with opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)) as fd:
        os.fsync(fd)
