"""Classification of paths, in every way in which a server or an app may interpret them.

The check of a change is useless if the app interprets the path differently. WSGI servers and frameworks differ:
Werkzeug and waitress merge slashes, Bottle drops bytes that are not UTF-8, Flask decodes them as U+FFFD, Django as
``%FF``, Pyramid's routes match before a final newline. This module does not imitate one of them. If any interpretation
of a path is the address of a record, the path must be in its plain form, or the request is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote
from uuid import UUID

from fileupload.apps.record_attachments.errors import AmbiguousRequest
from fileupload.apps.record_attachments.urls import ENDPOINT, RecordTemplate
from fileupload.wsgi.paths import from_wsgi_path

_SPECIAL = re.compile(r"[%;?#]")  # characters that an id may contain, and that have a meaning in a URL
_PARAMETERS = re.compile(r";[^/]*")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_SLASHES = re.compile(r"/+")


class AddressKind(Enum):
    """The kinds of addresses at which a request may concern attachments."""

    RECORD = auto()
    RECORDS = auto()  # a list of records
    ABOVE = auto()  # a resource whose removal removes records
    ENDPOINT = auto()  # the attachment of a record
    BATCH = auto()
    FLUSH = auto()


@dataclass(frozen=True)
class GuardedAddress:
    """The address of a request that may concern attachments.

    :ivar path: the path below the mount, as in the environ, without a trailing slash.
    """

    kind: AddressKind
    path: str


class GuardedAddresses:
    """Classifies the paths of requests."""

    def __init__(self, template: RecordTemplate, batch_path: str = "", flush_path: str = "") -> None:
        self._template = template
        self._fixed = {batch_path: AddressKind.BATCH, flush_path: AddressKind.FLUSH}
        self._fixed.pop("", None)

    def find(self, path: str) -> GuardedAddress | None:
        """Return the address at *path*, or None if no interpretation of it concerns records.

        :raises AmbiguousRequest: the interpretations differ, and one of them concerns records.
        """
        text = _plain(path)
        kind = None if text is None else self._kind(_segments(text))
        if kind is None or _SPECIAL.search(path):
            # A path that is not plain is refused even if all interpretations have the same kind: they may be two
            # different records.
            for reading in _readings({text} if text is not None else _decodings(path)):
                read = self._kind(_segments(reading), ignore_case=True)
                if read is not None and (text is None or read is not kind):
                    raise AmbiguousRequest(
                        "The path of this request is ambiguous. Send it in its plain form: UTF-8, percent-encoded once,"
                        " without empty segments, dot segments, control characters, or spaces at the end of a segment."
                    )
        return None if kind is None else GuardedAddress(kind, path.rstrip("/"))

    def _kind(self, segments: tuple[str, ...], *, ignore_case: bool = False) -> AddressKind | None:
        if "" in segments or not segments:
            return None
        if ignore_case:
            segments = self._with_case_of_template(segments)
        template = self._template
        if template.at(segments) is not None:
            return AddressKind.RECORD
        if template.holds_records_at(segments):
            return AddressKind.RECORDS
        if segments[-1] == ENDPOINT and template.at(segments[:-1]) is not None:
            return AddressKind.ENDPOINT
        if template.removal_at(segments) is not None:
            return AddressKind.ABOVE
        path = "/" + "/".join(segments)
        same = (kind for each, kind in self._fixed.items() if ignore_case and each.casefold() == path.casefold())
        return self._fixed.get(path) or next(same, None)

    def _with_case_of_template(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        parts = (*self._template.parts, ENDPOINT)
        same = [n for n, segment in enumerate(segments[: len(parts)]) if segment.casefold() == parts[n].casefold()]
        return tuple(parts[n] if n in same else segment for n, segment in enumerate(segments))


def aliases(template: RecordTemplate, segments: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return the other addresses that an app may treat as equal to *segments*.

    An id may contain any character, so ``one;x``, ``01`` and ``one.json`` are not refused. But an app may treat them as
    ``one``, ``1`` and ``one``: a removal there then orphans a file at the other address.
    """
    found = {segments}
    if any(_SPECIAL.search(segment) for segment in segments):
        readings = map(_segments, _readings({"/" + "/".join(segments)}))
        found |= {each for each in readings if "" not in each and len(each) == len(segments)}
    if template.at(segments) is not None:
        found |= {(*each[:-1], name) for each in tuple(found) for name in _equal_ids(each[-1])}
    return {each for each in found if template.removal_at(each) is not None} - {segments}


def _equal_ids(name: str) -> Iterator[str]:
    """Yield the ids that converters of numbers, UUIDs and cases, and format suffixes, treat as equal to *name*."""
    stem, dot, _ = name.rpartition(".")
    for each in {name, stem} if dot and stem else {name}:
        yield each
        yield each.lower()
        with suppress(ValueError):
            yield str(int(each[:100]))
        with suppress(ValueError):
            yield str(UUID(each[:100]))


def _plain(path: str) -> str | None:
    """Return the text of a path of the environ if it is in its plain form, else None."""
    try:
        text = from_wsgi_path(path)
    except UnicodeError:
        return None
    if not text.startswith("/") or "\\" in text:
        return None
    segments = text.removesuffix("/").split("/")[1:]  # one trailing slash is allowed
    plain = all(each and each not in {".", ".."} and each == _cleaned(each) for each in segments)
    return text if plain else None


def _decodings(path: str) -> set[str]:
    """Return the texts that frameworks decode from a path of the environ, which may not be UTF-8."""
    data = path.encode("latin-1", "replace")
    return {data.decode("utf-8", "replace"), data.decode("utf-8", "ignore")}


def _readings(texts: set[str]) -> set[str]:
    """Return *texts* after each combination of the normalisation steps of servers and apps."""
    found = set(texts)
    for step in _STEPS:
        found |= {step(text) for text in found}
    return found


def _segments(text: str) -> tuple[str, ...]:
    return tuple(text.removeprefix("/").removesuffix("/").split("/"))


def _cleaned(segment: str) -> str:
    return "".join(each for each in segment if unicodedata.category(each) not in {"Cc", "Cs"}).strip()


def _clean_segments(text: str) -> str:
    return "/".join(map(_cleaned, text.split("/")))


def _resolve_dots(text: str) -> str:
    """Return *text* with its dot segments resolved (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


_STEPS: tuple[Callable[[str], str], ...] = (
    unquote,  # some proxies and apps decode a second and a third time
    unquote,
    lambda text: _QUERY.sub("", text),
    lambda text: text.replace("\\", "/"),
    _clean_segments,
    lambda text: _PARAMETERS.sub("", text),
    _resolve_dots,
    lambda text: _SLASHES.sub("/", "/" + text),
)
