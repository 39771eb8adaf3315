"""Any text as a name that file systems and object stores keep as it is."""

from __future__ import annotations

import base64
import re

from fileupload.pool.index import MAX_SEGMENT_BYTES

_ENCODED = "~"
# What stands as it is: nothing that a file system might take for something else, or for the same.
_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9_.-]{0,139}", re.ASCII)


def encode_segment(word: str) -> str:
    """Return *word* as a name that any file system keeps as it is.

    :raises ValueError: it is empty, or longer than :data:`MAX_SEGMENT_BYTES` bytes.
    """
    data = word.encode("utf-8", "surrogatepass")
    if not 1 <= len(data) <= MAX_SEGMENT_BYTES:
        raise ValueError(f"a text of 1 to {MAX_SEGMENT_BYTES} bytes")
    if _PLAIN.fullmatch(word):
        return word
    return _ENCODED + base64.b32hexencode(data).decode().rstrip("=").lower()


def decode_segment(name: str) -> str:
    """Return the word that :func:`encode_segment` made *name* of.

    :raises ValueError: it made no such name.
    """
    if not name.startswith(_ENCODED):
        return name
    text = name[1:].upper()
    return base64.b32hexdecode(text + "=" * (-len(text) % 8)).decode("utf-8", "surrogatepass")
