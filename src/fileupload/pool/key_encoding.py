"""Encodes any text as a name that file systems and object stores keep unchanged."""

from __future__ import annotations

import base64
import re

from fileupload.pool.index import MAX_SEGMENT_BYTES

_ENCODED = "~"
# Texts that need no encoding: lower case only, because some file systems ignore case, and without a dot at the start
# or at the end, which SMB and FAT remove.
_PLAIN = re.compile(r"[a-z0-9_-](?:[a-z0-9_.-]{0,138}[a-z0-9_-])?", re.ASCII)


def encode_segment(segment: str) -> str:
    """Return *segment* as a name that any file system keeps unchanged.

    >>> encode_segment("letter.pdf"), encode_segment("../x")
    ('letter.pdf', '~5oni8uo')

    :raises ValueError: it is empty, or longer than :data:`MAX_SEGMENT_BYTES` bytes.
    """
    data = segment.encode("utf-8", "surrogatepass")
    if not 1 <= len(data) <= MAX_SEGMENT_BYTES:
        raise ValueError(f"a text of 1 to {MAX_SEGMENT_BYTES} bytes")
    if _PLAIN.fullmatch(segment):
        return segment
    return _ENCODED + base64.b32hexencode(data).decode().rstrip("=").lower()


def decode_segment(name: str) -> str:
    """Return the text that :func:`encode_segment` has encoded as *name*.

    :raises ValueError: *name* is not such a name.
    """
    if not name.startswith(_ENCODED):
        return name
    text = name[1:].upper()
    return base64.b32hexdecode(text + "=" * (-len(text) % 8)).decode("utf-8", "surrogatepass")
