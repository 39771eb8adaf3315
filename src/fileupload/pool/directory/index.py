"""The index of a directory pool: a folder for each word of a key, a file for each text.

::

    <directory>/.index/+sessions/+4711/+letter/=first        the text "first" under ("sessions", "4711", "letter")

The sign before a name keeps folders from files. A folder is removed with the last of what it held, by whoever sees it
empty; who is about to write into it makes it again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from fileupload.pool.directory import filesystem as fs
from fileupload.pool.index import Index, Key
from fileupload.pool.key_encoding import decode_segment, encode_segment

_FOLDER, _FILE = "+", "="


class DirectoryIndex(Index):
    """Texts in files. Each appears under its name when it is whole."""

    def __init__(self, directory: str, *, durable: bool) -> None:
        """Keep the index in the pool's *directory*; nothing is made before the first text."""
        self._directory = directory
        self._durable = durable

    def put(self, key: Key, name: str, text: str = "", *, new: bool = False) -> bool:
        """Store *text* in a file of its own, and give it its name."""
        file = _FILE + encode_segment(name)
        temporary = f".{os.urandom(8).hex()}"
        while True:
            with fs.opened(self._open(key, create=True)) as folder:
                try:
                    # An empty file is whole as it is made; nothing is left of it by a crash.
                    if not text and self._make_file(file, folder):
                        return True
                    return self._store(folder, file, temporary, text, new=new)
                except OSError as error:
                    # The folder was empty, and so removed, before our file was in it; ESTALE on a network file system.
                    if error.errno not in {errno.ENOENT, errno.ESTALE}:
                        raise

    def _make_file(self, file: str, folder: int) -> bool:
        try:
            with fs.opened(fs.create_file(file, folder)) as fd:
                if self._durable:
                    os.fsync(fd)
        except FileExistsError:
            return False
        if self._durable:
            os.fsync(folder)
        return True

    def _store(self, folder: int, file: str, temporary: str, text: str, *, new: bool) -> bool:
        with fs.opened(fs.create_file(temporary, folder)) as fd:
            try:
                fs.write_all(fd, text.encode("utf-8", "surrogatepass"))
                if self._durable:
                    os.fsync(fd)
                if new:
                    os.link(temporary, file, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                else:
                    os.rename(temporary, file, src_dir_fd=folder, dst_dir_fd=folder)
            except FileExistsError:
                return False
            finally:
                fs.remove(temporary, folder)
        if self._durable:
            os.fsync(folder)
        return True

    def get(self, key: Key, name: str) -> str | None:
        """Return a text, or None."""
        try:
            with fs.opened(self._open(key)) as folder:
                return fs.read_file(_FILE + encode_segment(name), folder).decode("utf-8", "surrogatepass")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, key: Key) -> list[str]:
        """Return the names directly under *key*, in the order of their characters."""
        try:
            with fs.opened(self._open(key)) as folder:
                entries = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(_words(entries, _FILE))

    def keys(self, prefix: Key) -> Iterator[Key]:
        """Yield every key that begins with *prefix*, itself included, and holds something."""
        try:
            with fs.opened(self._open(prefix)) as folder:
                entries = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        if any(entry.startswith(_FILE) for entry in entries):
            yield prefix
        for word in sorted(_words(entries, _FOLDER)):
            yield from self.keys((*prefix, word))

    def remove(self, key: Key, name: str) -> bool:
        """Remove a text; False if there was none."""
        try:
            with fs.opened(self._open(key)) as folder:
                removed = fs.remove(_FILE + encode_segment(name), folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if removed:
            self._remove_empty(key)
        return removed

    def _remove_empty(self, key: Key) -> None:
        """Remove the folder of *key*, and those above it, as far as they are empty."""
        for length in range(len(key), 0, -1):
            try:
                with fs.opened(self._open(key[: length - 1])) as parent:
                    os.rmdir(_FOLDER + encode_segment(key[length - 1]), dir_fd=parent)
            except OSError:  # not empty, or gone
                return

    def _open(self, key: Key, *, create: bool = False) -> int:
        """Return a descriptor of the folder of *key*.

        :raises OSError: it is not there, or a link stands in its place.
        """
        names = [".index", *(_FOLDER + encode_segment(word) for word in key)]
        while True:
            with fs.opened(fs.open_root(self._directory, create=create)) as root:
                try:
                    return self._descend(root, names, create=create)
                except FileNotFoundError:  # removed as empty on the way
                    if not create:
                        raise

    def _descend(self, root: int, names: list[str], *, create: bool) -> int:
        fd = os.dup(root)
        for name in names:
            with fs.opened(fd) as parent:
                made = create and fs.ensure_directory(name, parent)
                fd = fs.open_directory(name, parent)
                if made and self._durable:
                    os.fsync(parent)
        return fd


def _words(entries: list[str], sign: str) -> Iterator[str]:
    for entry in entries:
        if entry.startswith(sign):
            with suppress(ValueError):
                yield decode_segment(entry[1:])
