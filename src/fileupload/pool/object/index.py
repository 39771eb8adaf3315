"""The index of an object pool: an object for each text, whose key is made of the text's key and name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from fileupload.pool.index import Index, Key
from fileupload.pool.key_encoding import decode_segment, encode_segment
from fileupload.pool.object.store import ObjectStore

_NAME = "="  # begins the last segment of a key


class ObjectIndex(Index):
    """Stores texts in objects. Listing the names under a key is one request."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        """Use the keys below *prefix*, which ends with a slash."""
        self._store = store
        self._prefix = prefix

    def put(self, key: Key, name: str, text: str = "", *, new: bool = False) -> bool:
        """Store *text*."""
        return self._store.put(self._key(key, name), text.encode("utf-8", "surrogatepass"), new=new)

    def get(self, key: Key, name: str) -> str | None:
        """Return a text, or None."""
        try:
            return self._store.get(self._key(key, name)).decode("utf-8", "surrogatepass")
        except FileNotFoundError:
            return None

    def names(self, key: Key) -> list[str]:
        """Return the names directly under *key*, sorted."""
        prefix = self._prefix_of(key) + _NAME
        names = []
        for each in self._store.list(prefix):
            with suppress(ValueError):
                names.append(decode_segment(each.key.removeprefix(prefix)))
        return sorted(names)

    def keys(self, prefix: Key) -> Iterator[Key]:
        """Yield every key that begins with *prefix*, itself included, and holds at least one text."""
        base = self._prefix_of(prefix)
        found: set[Key] = set()
        for each in self._store.list(base):
            *segments, name = each.key.removeprefix(base).split("/")
            with suppress(ValueError):
                key = (*prefix, *(decode_segment(segment) for segment in segments))
                if name.startswith(_NAME) and key not in found:
                    found.add(key)
                    yield key

    def remove(self, key: Key, name: str) -> bool:
        """Remove a text; False if there was none."""
        object_key = self._key(key, name)
        exists = any(each.key == object_key for each in self._store.list(object_key))
        self._store.delete([object_key])
        return exists

    def _prefix_of(self, key: Key) -> str:
        return self._prefix + "".join(encode_segment(segment) + "/" for segment in key)

    def _key(self, key: Key, name: str) -> str:
        return self._prefix_of(key) + _NAME + encode_segment(name)
