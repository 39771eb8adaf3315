"""The locations of the files of records: relative paths of plain ASCII characters, derived from the client's names."""

from __future__ import annotations

import os
import re
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from fileupload.apps.record_attachments.settings import RecordSettings

_OTHER = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)
_MAX_LENGTH = 100  # characters of a name or of a folder


def locations(rules: RecordSettings, values: Mapping[str, str], filename: str) -> Iterator[str]:
    """Yield locations for a file, in the order of preference; the caller uses the first that is free.

    :param values: the values of the placeholders in the record's address.
    """
    folder = "/".join(plain_name(part.format_map(values), "_") for part in rules.folder.split("/")) + "/"
    folder = "" if folder == "_/" else folder
    # Stem and extension are reduced separately: a stem in another script may become empty, and the extension must not
    # take its place.
    stem, extension = os.path.splitext(filename)
    stem, word = plain_name(stem, "file"), plain_name(extension, "")[:20]
    extension = f".{word}" if word else ""
    if rules.randomize:
        while True:
            yield f"{folder}{uuid.uuid4()}{extension.lower()}"
    name = _by_pattern(rules.filename_pattern, values, stem, extension)
    yield folder + name
    stem, extension = os.path.splitext(name)
    count = 0
    while True:
        count += 1
        yield f"{folder}{stem}-{count}{extension}"


def _by_pattern(pattern: str, values: Mapping[str, str], stem: str, extension: str) -> str:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = pattern.format(filename=stem + extension, datetime=moment, rid=list(values.values())[-1])
    if not name.endswith(extension):
        name += extension
    return plain_name(name, "file")


def plain_name(text: str, otherwise: str) -> str:
    """Return *text* reduced to letters, digits, ``_``, ``.`` and ``-`` in ASCII; *otherwise* if none are left.

    >>> plain_name("Übersicht 1.pdf", "file")
    'Ubersicht_1.pdf'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = _OTHER.sub("_", plain).strip("._")
    stem, extension = os.path.splitext(plain)
    extension = extension[:20]
    return (stem[: _MAX_LENGTH - len(extension)] + extension).rstrip(".") or otherwise
