"""The addresses of records: the template of the setting ``record_url``, and the addresses above and below records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fileupload.pool.index import MAX_SEGMENT_BYTES, Key
from fileupload.wsgi.paths import from_wsgi_path

KINTO_RECORD = "/v1/buckets/{bucket_id}/collections/{collection_id}/records/{id}"
ENDPOINT = "attachment"

_TEMPLATE = re.compile(r"(?:/(?:[^/{}?#\s]+|\{[a-z_][a-z0-9_]*\}))+", re.ASCII)
_RECORDS = "records"  # the first segment of the ledger's keys in the index


@dataclass(frozen=True)
class RecordAddress:
    """The address of a record below the mount.

    :ivar segments: the segments of its path, decoded.
    :ivar values: the values of the template's placeholders.
    """

    segments: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path, percent-encoded."""
        return path_of(self.segments)

    @property
    def groups(self) -> tuple[str, ...]:
        """The values of all placeholders but the last, which is the record's own id."""
        return tuple(self.values.values())[:-1]


@dataclass(frozen=True)
class Removal:
    """The resources that a DELETE at an address removes.

    :ivar segments: the segments of the address.
    :ivar each: whether it removes the resources one segment below (all of them, or those that a filter selects), and
        not the resource at the address itself.
    """

    segments: tuple[str, ...]
    each: bool


class RecordTemplate:
    """Matches addresses with a template such as ``/api/{collection}/{id}``.

    :ivar parts: the segments of the template; placeholders begin with a brace.
    :ivar names: the names of the placeholders.
    :ivar base: the segments before the first placeholder.
    :ivar root: :attr:`base` without its last segment; in Kinto, the version, such as ``v1``.
    """

    def __init__(self, template: str) -> None:
        """Parse *template*, whose last segment must be a placeholder.

        :raises ValueError: the template is not valid.
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
        """Return the record at the address with these segments, or None."""
        if len(segments) != len(self._parts) or not self._fits(segments):
            return None
        pairs = zip(self._parts, segments, strict=True)
        return RecordAddress(segments, {part[1:-1]: each for part, each in pairs if part.startswith("{")})

    def endpoint(self, path: str) -> RecordAddress | None:
        """Return the record whose attachment has the address *path*, or None."""
        head, _, last = path.rstrip("/").rpartition("/")
        return self.record(head) if last == ENDPOINT else None

    def holds_records(self, path: str) -> bool:
        """Return whether a POST to *path* creates records."""
        segments = _split(path)
        return segments is not None and self.holds_records_at(segments)

    def holds_records_at(self, segments: tuple[str, ...]) -> bool:
        """Return whether a POST to the address with these segments creates records."""
        return len(segments) == len(self._parts) - 1 and self._fits(segments)

    def removal(self, path: str) -> Removal | None:
        """Return the removal of records by a DELETE at *path*, or None if it removes none."""
        segments = _split(path)
        return None if segments is None else self.removal_at(segments)

    def removal_at(self, segments: tuple[str, ...]) -> Removal | None:
        """Return the removal of records by a DELETE at the address with these segments, or None if it removes none."""
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
    """Return the key of an address in the index; the keys of all addresses below it begin with it."""
    return (_RECORDS, *(_segment(segment) for segment in segments))


def _segment(segment: str) -> str:
    data = segment.encode("utf-8", "surrogatepass")
    return segment if len(data) <= MAX_SEGMENT_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()


def _split(path: str) -> tuple[str, ...] | None:
    """Return the segments of a path of the environ; None if it is not UTF-8, or has empty or dot segments."""
    if not path.startswith("/"):
        return None
    try:
        segments = tuple(from_wsgi_path(path).rstrip("/").split("/")[1:])
    except UnicodeError:
        return None
    return None if any(segment in {"", ".", ".."} for segment in segments) else segments
