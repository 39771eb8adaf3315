"""The index of a directory pool: a directory for each segment of a key, a file for each text.

::

    <directory>/.index/+sessions/+4711/+letter/=first        the text "first" under ("sessions", "4711", "letter")

The sign before a name distinguishes directories from files. A process that removes the last entry of a directory
removes the directory too. A process that was about to create a file there gets ENOENT, creates the directory again and
retries.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from fileupload.pool.directory import filesystem as fs
from fileupload.pool.index import Index, Key
from fileupload.pool.key_encoding import decode_segment, encode_segment
from fileupload.pool.local_files import sync_names

_DIRECTORY, _FILE = "+", "="


class DirectoryIndex(Index):
    """Stores texts in files, each of which gets its name when it is complete."""

    def __init__(self, directory: str, *, durable: bool) -> None:
        """Use ``.index`` in the pool's *directory*; it is created with the first text."""
        self._directory = directory
        self._durable = durable

    def put(self, key: Key, name: str, text: str = "", *, new: bool = False) -> bool:
        """Store *text* in a file of its own."""
        file = _FILE + encode_segment(name)
        temporary = f".{os.urandom(8).hex()}"
        while True:
            with fs.opened(self._open(key, create=True)) as directory:
                try:
                    # An empty file is complete when it is created, so it needs no temporary name.
                    if not text and self._create_file(file, directory):
                        return True
                    return self._store(directory, file, temporary, text, new=new)
                except OSError as error:
                    # Another process has removed the empty directory meanwhile; ESTALE on a network file system.
                    if error.errno not in {errno.ENOENT, errno.ESTALE}:
                        raise

    def _create_file(self, file: str, directory: int) -> bool:
        try:
            with fs.opened(fs.create_file(file, directory)) as fd:
                if self._durable:
                    os.fsync(fd)
        except FileExistsError:
            return False
        if self._durable:
            sync_names(directory)
        return True

    def _store(self, directory: int, file: str, temporary: str, text: str, *, new: bool) -> bool:
        with fs.opened(fs.create_file(temporary, directory)) as fd:
            try:
                fs.write_all(fd, text.encode("utf-8", "surrogatepass"))
                if self._durable:
                    os.fsync(fd)
                if new:
                    fs.give_new_name(temporary, file, directory, self._directory)
                else:
                    os.rename(temporary, file, src_dir_fd=directory, dst_dir_fd=directory)
            except FileExistsError:
                return False
            finally:
                fs.remove(temporary, directory)
        if self._durable:
            sync_names(directory)
        return True

    def get(self, key: Key, name: str) -> str | None:
        """Return a text, or None."""
        try:
            with fs.opened(self._open(key)) as directory:
                return fs.read_file(_FILE + encode_segment(name), directory).decode("utf-8", "surrogatepass")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, key: Key) -> list[str]:
        """Return the names directly under *key*, sorted."""
        try:
            with fs.opened(self._open(key)) as directory:
                entries = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(_segments(entries, _FILE))

    def keys(self, prefix: Key) -> Iterator[Key]:
        """Yield every key that begins with *prefix*, itself included, and holds at least one text."""
        try:
            with fs.opened(self._open(prefix)) as directory:
                entries = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        if any(entry.startswith(_FILE) for entry in entries):
            yield prefix
        for segment in sorted(_segments(entries, _DIRECTORY)):
            yield from self.keys((*prefix, segment))

    def remove(self, key: Key, name: str) -> bool:
        """Remove a text; False if there was none."""
        try:
            with fs.opened(self._open(key)) as directory:
                removed = fs.remove(_FILE + encode_segment(name), directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if removed:
            self._remove_empty(key)
        return removed

    def _remove_empty(self, key: Key) -> None:
        """Remove the directory of *key* and its parents, as long as they are empty."""
        for length in range(len(key), 0, -1):
            try:
                with fs.opened(self._open(key[: length - 1])) as parent:
                    os.rmdir(_DIRECTORY + encode_segment(key[length - 1]), dir_fd=parent)
            except OSError:  # not empty, or already removed
                return

    def _open(self, key: Key, *, create: bool = False) -> int:
        """Return a descriptor of the directory of *key*.

        :raises OSError: it does not exist, or a symbolic link is in its place.
        """
        names = [".index", *(_DIRECTORY + encode_segment(segment) for segment in key)]
        while True:
            with fs.opened(fs.open_root(self._directory, create=create)) as root:
                try:
                    return self._descend(root, names, create=create)
                except FileNotFoundError:  # with create: another process has just removed an empty directory
                    if not create:
                        raise

    def _descend(self, root: int, names: list[str], *, create: bool) -> int:
        fd = os.dup(root)
        for name in names:
            with fs.opened(fd) as parent:
                created = create and fs.ensure_directory(name, parent)
                fd = fs.open_directory(name, parent)
                if created and self._durable:
                    sync_names(parent)
        return fd


def _segments(entries: list[str], sign: str) -> Iterator[str]:
    for entry in entries:
        if entry.startswith(sign):
            with suppress(ValueError):
                yield decode_segment(entry[1:])
