"""File operations of the directory pool, each safe by itself.

Every file is opened relative to a descriptor of its directory and never through a symbolic link, so that a link planted
in the pool leads nowhere. Every file is created for the owner only: directories with mode 0700, files with 0600. A
umask can only clear bits of these; if it clears bits of the owner, each mode is set explicitly afterwards.

flock belongs to the open file, not to the process: a child process that is forked while a lock is held inherits it, and
would keep it after the parent has closed its descriptor, or has died. So descriptors of lock files are closed in each
child, and a lock is released before its descriptor is closed: some forks call no handlers of Python, such as those of a
C library. Descriptors of lock files must be opened with :func:`open_for_locking` or :func:`create_locked_file`, and
closed with :func:`close` or :func:`opened`.

The descriptor of a file that an upload writes is closed in each child too, or the blocks of a removed upload would not
be free before the child ends. It is opened with :func:`create_file` or :func:`open_to_append`.
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

from fileupload.errors import lacks_descriptors
from fileupload.pool import fork_safety
from fileupload.pool.local_files import (
    UNSUPPORTED,
    make_directories,
    must_set_modes,
    set_mode,
    sync_directory,
    with_mode,
    write_complete_file,
)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

# Errors of opening a symbolic link with O_NOFOLLOW (ELOOP on Linux, EMLINK on FreeBSD) and of opening a socket (ENXIO).
_NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EMLINK}  # errors of link without support for hard links
_NAMES_LOCK = ".names.lock"
_SYMLINK_ERRNOS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO})


class _OwnDescriptors:
    """Descriptors that a child process must not keep: those of lock files, and of files that this process writes."""

    def __init__(self) -> None:
        self._locks: set[int] = set()
        self._files: set[int] = set()
        self._gate = fork_safety.ForkGate()
        fork_safety.register(self)

    def open(self, name: str, flags: int, mode: int, parent: int, *, lock: bool) -> int:
        """Return a new descriptor of the file *name* in *parent*.

        :param lock: whether the file is a lock file, or is locked while it is written.
        """
        with self._gate:
            fd = os.open(name, flags, mode, dir_fd=parent)
            (self._locks if lock else self._files).add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close *fd*, which may be one of these or any other."""
        # Forgotten first: once it is closed, another thread may get the same number for another file.
        if fd in self._locks:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            self._locks.discard(fd)
        self._files.discard(fd)
        os.close(fd)

    def reset_after_fork(self) -> None:
        """Close those that a child has inherited: locks and files are its parent's."""
        inherited = self._locks | self._files
        self._locks, self._files = set(), set()
        if not inherited:
            return
        try:
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no descriptor is left
            for fd in inherited:
                os.close(fd)
            return
        for fd in inherited:
            # Not just closed: the child has copies of its parent's objects, which may use the number again, and would
            # then close another file, or write into it.
            os.dup2(null, fd, inheritable=False)
        os.close(null)


_own = _OwnDescriptors()


def close(fd: int) -> None:
    """Close *fd*; if it is that of a lock file, release the lock first."""
    _own.close(fd)


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close *fd* at the end of the ``with`` block."""
    try:
        yield fd
    finally:
        close(fd)


def open_directory(name: str, parent: int | None = None) -> int:
    """Return a descriptor of the directory *name* in *parent*.

    :raises FileNotFoundError: it does not exist.
    :raises NotADirectoryError: it is something else, or a symbolic link.
    :raises OSError: it exists, and cannot be opened now.
    """
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", name) from None
        raise


def open_root(path: str, *, create: bool) -> int:
    """Return a descriptor of the directory *path*.

    :param create: create it, for the owner only, if it does not exist.
    :raises OSError: it does not exist, or cannot be opened.
    """
    while True:
        try:
            return open_directory(path)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileNotFoundError):  # another process has just removed a parent
            make_directories(path, 0o700, parents=0o755)


def ensure_directory(name: str, parent: int) -> bool:
    """Create the directory *name* in *parent*; False if it exists."""
    try:
        make_directory(name, parent)
    except FileExistsError:
        return False
    return True


def make_directory(name: str, parent: int) -> None:
    """Create the directory *name* in *parent*.

    :raises FileExistsError: it exists.
    """
    os.mkdir(name, 0o700, dir_fd=parent)
    if must_set_modes():
        set_mode(name, 0o700, parent)


def open_file(name: str, parent: int) -> int:
    """Return a descriptor of the regular file *name* in *parent*, for reading.

    :raises FileNotFoundError: it does not exist, is a symbolic link, or is not a regular file.
    :raises OSError: it exists, and cannot be opened now.
    """
    try:
        # Without O_NONBLOCK, opening a planted named pipe would block for ever.
        fd = os.open(name, _READ | os.O_NONBLOCK, dir_fd=parent)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS:
            raise FileNotFoundError(errno.ENOENT, "not a regular file", name) from None
        raise
    return _require_regular(fd, name)


def _require_regular(fd: int, name: str) -> int:
    """Return *fd* if it is that of a regular file; otherwise close it.

    :raises FileNotFoundError: it is not.
    """
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        os.close(fd)
        raise
    if not regular:
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
    return fd


def create_file(name: str, parent: int) -> int:
    """Return a descriptor of a new file *name* in *parent*, for writing."""
    return with_mode(_own.open(name, _WRITE | os.O_EXCL, 0o600, parent, lock=False))


def create_locked_file(name: str, parent: int) -> int:
    """Return a descriptor of a new, empty file *name* in *parent*, for writing, and lock it."""
    fd = with_mode(_own.open(name, _WRITE | os.O_EXCL, 0o600, parent, lock=True))
    try_lock(fd)  # no other process knows the file yet
    return fd


def open_to_append(name: str, parent: int) -> int:
    """Return a descriptor of the file *name* in *parent*, for appending to it."""
    return _own.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0, parent, lock=False)


def open_to_update(path: str) -> int:
    """Return a descriptor of the regular file at *path*, for reading and for overwriting parts of it.

    :raises FileNotFoundError: it does not exist, is a symbolic link, or is not a regular file.
    """
    try:
        return _require_regular(os.open(path, _LOCK | os.O_NONBLOCK), path)
    except OSError as error:
        if error.errno in _SYMLINK_ERRNOS or error.errno == errno.EISDIR:
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path) from None
        raise


def open_for_locking(name: str, parent: int, *, create: bool = False) -> int:
    """Return a descriptor of the file *name* in *parent*, opened for writing, which locks on NFS require.

    A process that may only read the file gets a descriptor for reading, with which it can lock elsewhere.

    :param create: create it if it does not exist.
    :raises OSError: it does not exist, or a symbolic link is in its place.
    """
    try:
        fd = _own.open(name, _LOCK | os.O_CREAT if create else _LOCK, 0o600, parent, lock=True)
    except OSError as error:
        if create or error.errno not in {errno.EACCES, errno.EROFS}:
            raise
        fd = _own.open(name, _READ, 0, parent, lock=True)
    return with_mode(fd) if create else fd


def lock(fd: int) -> None:
    """Wait for the lock of the file *fd*, and hold it until the descriptor is closed or the process ends."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def try_lock(fd: int) -> bool:
    """Lock the file *fd*; False if another descriptor holds the lock now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EACCES on some network file systems
        return False
    return True


def read_file(name: str, parent: int) -> bytes:
    """Return the content of the file *name* in *parent*."""
    # open() would cost four more system calls.
    with opened(open_file(name, parent)) as fd:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data*; os.write may write less than it was given."""
    written = os.write(fd, data)
    while written < len(data):
        data = data[written:]
        written = os.write(fd, data)


def temporary_name(name: str) -> str:
    """Return the name under which the new content of the file *name* is written before it is renamed."""
    return name + ".new"


def replace_file(name: str, data: bytes, parent: int, *, durable: bool) -> None:
    """Replace the content of the file *name* in *parent* by *data*, atomically, also if the process crashes.

    Only one caller at a time may do so for the same name. The directory itself is not synced.

    :param durable: sync the file before it gets its name.
    """
    temporary = temporary_name(name)
    try:
        with opened(with_mode(os.open(temporary, _WRITE | os.O_TRUNC, 0o600, dir_fd=parent))) as fd:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        with suppress(OSError):  # on a full disk, the temporary file would keep its blocks and inode
            remove(temporary, parent)
        raise


def give_new_name(temporary: str, name: str, parent: int, directory: str) -> None:
    """Give the complete file *temporary* in *parent* the name *name*, in one step, if the name is free.

    The file may keep its temporary name, which the caller removes.

    :param directory: path of the pool, which has the lock that replaces hard links where there are none.
    :raises FileExistsError: the name is taken.
    """
    try:
        os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_exclusively(temporary, name, parent, directory)


def _rename_exclusively(temporary: str, name: str, parent: int, directory: str) -> None:
    # rename replaces the target, so all processes that give names in this pool do it one after the other.
    with (
        opened(open_root(directory, create=True)) as root,
        opened(open_for_locking(_NAMES_LOCK, root, create=True)) as names,
    ):
        lock(names)
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            return
        raise FileExistsError(errno.EEXIST, "the name is taken", name)


def remove(name: str, parent: int) -> bool:
    """Remove the file *name* from *parent*; False if it does not exist."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def remove_tree(name: str, parent: int) -> None:
    """Remove *name* from *parent*, a file or a directory with its content; symbolic links are not followed.

    :raises OSError: it was not removed completely because no descriptors are left. Other errors are ignored.
    """
    try:
        remove(name, parent)
    except (IsADirectoryError, PermissionError):  # unlink of a directory: EISDIR on Linux, EPERM elsewhere
        _remove_directory(name, parent)


def _remove_directory(name: str, parent: int) -> None:
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
    """Move the file *name* out of *parent* to *path*, replacing an existing file.

    The file is renamed if that is possible. Otherwise it is copied under another name beside *path*, then renamed.
    """
    try:
        os.rename(name, path, src_dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(open_file(name, parent), "rb") as source:
            write_complete_file(source, path, durable=durable)
        remove(name, parent)
    if durable:
        sync_directory(os.path.dirname(os.path.abspath(path)))
