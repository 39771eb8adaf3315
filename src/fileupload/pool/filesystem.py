"""The few file operations of the directory pool, each safe by itself.

Everything is opened relative to a descriptor of its folder and never through a symbolic link, so that links
planted in the pool lead nowhere. Everything is created for the owner alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

# What opening says of a symbolic link (two words for one thing) and of a socket.
_PLANTED = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


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
        if error.errno in _PLANTED:
            raise NotADirectoryError(errno.ENOTDIR, "no folder", name) from None
        raise


def ensure_directory(name: str, parent: int) -> bool:
    """Make the folder *name* in *parent*; False if it was there."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def open_file(name: str, parent: int) -> int:
    """Return a descriptor of the regular file *name* in *parent*, for reading.

    :raises FileNotFoundError: it is not there, is a symbolic link, or is no regular file.
    :raises OSError: it is there, and cannot be opened now.
    """
    try:
        # Without O_NONBLOCK a planted named pipe would stop us here for ever.
        fd = os.open(name, _READ | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        if error.errno in _PLANTED:
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
    return os.open(name, _WRITE | os.O_EXCL, 0o600, dir_fd=parent)


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
        if error.errno in _PLANTED or error.errno == errno.EISDIR:
            raise FileNotFoundError(errno.ENOENT, "no regular file", path) from None
        raise


def open_for_locking(name: str, parent: int, *, create: bool = False) -> int:
    """Return a descriptor of the file *name* in *parent*, as locks on a network file system ask for: for writing.

    :raises OSError: it is not there, or a link is.
    """
    return os.open(name, _LOCK | os.O_CREAT if create else _LOCK, 0o600, dir_fd=parent)


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


def replace_file(name: str, data: bytes, parent: int, *, durable: bool) -> None:
    """Give the file *name* in *parent* the content *data*, whole or not at all, after a crash too.

    Only one caller at a time may do so for the same name. The folder itself is not synced.
    """
    temporary = name + ".new"
    try:
        with opened(os.open(temporary, _WRITE | os.O_TRUNC, 0o600, dir_fd=parent)) as fd:
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
    """Remove *name* from *parent*, a file or a folder with all it holds; links are not followed."""
    try:
        remove(name, parent)
    except (IsADirectoryError, PermissionError):  # unlink of a folder: EISDIR on Linux, EPERM elsewhere
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


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
    target = os.open(partial, _WRITE | os.O_EXCL, 0o600)
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
