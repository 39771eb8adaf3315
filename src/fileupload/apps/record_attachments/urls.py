"""Where records live: the one template of their addresses, and what an address means beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fileupload.pool.index import MAX_SEGMENT_BYTES, Key

KINTO_RECORD = "/v1/buckets/{bucket_id}/collections/{collection_id}/records/{id}"
ENDPOINT = "attachment"

_TEMPLATE = re.compile(r"(?:/(?:[^/{}?#\s]+|\{[a-z_][a-z0-9_]*\}))+", re.ASCII)
_RECORDS = "records"  # the word under which the index knows of them


@dataclass(frozen=True)
class RecordAddress:
    """The address of a record within the mount.

    :ivar segments: those of its path, decoded.
    :ivar values: what stands at the placeholders of the template.
    """

    segments: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path as it is sent, percent-encoded."""
        return path_of(self.segments)

    @property
    def groups(self) -> tuple[str, ...]:
        """The values that the record shares with others: all but its own."""
        return tuple(self.values.values())[:-1]


@dataclass(frozen=True)
class Removal:
    """What a DELETE at an address removes.

    :ivar segments: of the address.
    :ivar each: whether it removes what stands one segment below (all of it, or what a filter chooses), and not the
        thing at the address itself.
    """

    segments: tuple[str, ...]
    each: bool


class RecordTemplate:
    """Reads addresses by a template such as ``/api/{collection}/{id}``.

    :ivar parts: the segments of the template; those of placeholders begin with a brace.
    :ivar names: of its placeholders.
    :ivar root: the segments above what the first placeholder is one of.
    :ivar base: those above the first placeholder.
    """

    def __init__(self, template: str) -> None:
        """Take *template*, whose last segment is a placeholder.

        :raises ValueError: it is no such template.
        """
        parts = template.split("/")[1:]
        if _TEMPLATE.fullmatch(template) is None or not parts[-1].startswith("{") or len(set(parts)) != len(parts):
            raise ValueError(f"a path such as {KINTO_RECORD}, that ends with the placeholder of a record")
        self.template = template
        self._parts = parts
        self.parts = tuple(parts)
        self.names = tuple(part[1:-1] for part in parts if part.startswith("{"))
        self.base = tuple(parts[: next(n for n, part in enumerate(parts) if part.startswith("{"))])
        self.root = self.base[:-1]

    def record(self, path: str) -> RecordAddress | None:
        """Return the record at *path*, or None."""
        segments = _split(path)
        return None if segments is None else self.at(segments)

    def at(self, segments: tuple[str, ...]) -> RecordAddress | None:
        """Return the record whose address has these segments, or None."""
        if len(segments) != len(self._parts) or not self._fits(segments):
            return None
        pairs = zip(self._parts, segments, strict=True)
        return RecordAddress(segments, {part[1:-1]: each for part, each in pairs if part.startswith("{")})

    def endpoint(self, path: str) -> RecordAddress | None:
        """Return the record whose attachment's address *path* is, or None."""
        head, _, last = path.rstrip("/").rpartition("/")
        return self.record(head) if last == ENDPOINT else None

    def holds_records(self, path: str) -> bool:
        """Tell whether records are made by POST to *path*."""
        segments = _split(path)
        return segments is not None and self.holds_records_at(segments)

    def holds_records_at(self, segments: tuple[str, ...]) -> bool:
        """Tell whether records are made by POST to the address with these segments."""
        return len(segments) == len(self._parts) - 1 and self._fits(segments)

    def removal(self, path: str) -> Removal | None:
        """Return what a DELETE at *path* takes away with it of the records, or None for nothing."""
        segments = _split(path)
        return None if segments is None else self.removal_at(segments)

    def removal_at(self, segments: tuple[str, ...]) -> Removal | None:
        """Return what a DELETE at the address with these segments removes of the records, or None for nothing."""
        if not len(self.root) < len(segments) <= len(self._parts) or not self._fits(segments):
            return None
        below = self._parts[len(segments) :]
        return Removal(segments, each=bool(below) and below[0].startswith("{"))

    def at_root(self, name: str) -> str:
        """Return the path of *name* beside the records, such as ``/v1/batch``."""
        return "/" + "/".join((*self.root, name)) if name else "/" + "/".join(self.root)

    def _fits(self, segments: tuple[str, ...]) -> bool:
        return all(part.startswith("{") or part == each for part, each in zip(self._parts, segments, strict=False))


def path_of(segments: tuple[str, ...]) -> str:
    """Return the percent-encoded path of *segments*."""
    return "".join("/" + quote(segment, safe="!$&'()*+,;=:@~") for segment in segments)


def index_key(segments: tuple[str, ...]) -> Key:
    """Return the key under which the index knows of what is at an address, and of all that is below it."""
    return (_RECORDS, *(_segment(segment) for segment in segments))


def _segment(segment: str) -> str:
    data = segment.encode("utf-8", "surrogatepass")
    return segment if len(data) <= MAX_SEGMENT_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()


def _split(path: str) -> tuple[str, ...] | None:
    """Return the segments of *path*, which WSGI has decoded from percent-encoding into Latin-1 (PEP 3333)."""
    if not path.startswith("/"):
        return None
    try:
        segments = tuple(path.encode("latin-1").decode("utf-8").rstrip("/").split("/")[1:])
    except UnicodeError:
        return None
    return None if any(segment in {"", ".", ".."} for segment in segments) else segments
