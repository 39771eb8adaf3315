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
_MAX_PART_LENGTH = 100  # characters of a folder, of a client's filename or of a record id
_MAX_NAME_LENGTH = 130  # characters of a name; MAX_SEGMENT_BYTES is the limit, and a counter may follow
_MIN_RECORD_ID = 16  # characters


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
    count = 0
    while True:
        # A pattern without {filename} holds no random name, so its names are counted as well.
        name = f"{uuid.uuid4()}{extension.lower()}" if rules.randomize else plain_name(stem + extension, "file")
        yield folder + _by_pattern(rules.filename_pattern, values, name, count)
        if not (rules.randomize and "{filename}" in rules.filename_pattern):
            count += 1


def _by_pattern(pattern: str, values: Mapping[str, str], filename: str, count: int) -> str:
    # In the form of kinto-attachment's names, so that old and new files sort together.
    parts = {"filename": filename, "datetime": datetime.now(UTC).strftime("%Y%m%d%H%M%S")}
    record_id = plain_name(list(values.values())[-1], "")
    # The record id is shortened first: the filename may be random, and must then stay whole.
    room = _MAX_NAME_LENGTH - len(pattern.format(**parts, rid=""))
    name = pattern.format(**parts, rid=record_id[: max(room, _MIN_RECORD_ID)])
    extension = os.path.splitext(filename)[1]
    if not name.endswith(extension):
        name += extension
    stem, extension = os.path.splitext(plain_name(name, "file", _MAX_NAME_LENGTH))
    return f"{stem}-{count}{extension}" if count else stem + extension


def plain_name(text: str, otherwise: str, max_length: int = _MAX_PART_LENGTH) -> str:
    """Return *text* reduced to letters, digits, ``_``, ``.`` and ``-`` in ASCII; *otherwise* if none are left.

    >>> plain_name("Übersicht 1.pdf", "file")
    'Ubersicht_1.pdf'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = _OTHER.sub("_", plain).strip("._")
    stem, extension = os.path.splitext(plain)
    extension = extension[:20]
    return (stem[: max_length - len(extension)] + extension).rstrip(".") or otherwise
