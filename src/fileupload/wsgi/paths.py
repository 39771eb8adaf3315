"""The decoding and encoding of paths and other strings of the environ (PEP 3333, "Unicode Issues").

WSGI gives bytes as strings in which each character stands for one byte (Latin-1). Paths are percent-decoded.
"""

from __future__ import annotations

from urllib.parse import quote


def from_wsgi_path(path: str, errors: str = "strict") -> str:
    """Return a string of the environ as text: the UTF-8 text of its bytes.

    >>> from_wsgi_path("/Ã¤")
    '/ä'

    :param errors: the handling of other bytes, as in :meth:`bytes.decode`.
    :raises UnicodeError: with ``strict``, the bytes are not UTF-8.
    """
    return path.encode("latin-1", errors).decode("utf-8", errors)


def to_wsgi_path(text: str) -> str:
    """Return *text* as WSGI gives it in the environ."""
    return text.encode("utf-8").decode("latin-1")


def quote_wsgi_path(path: str, safe: str = "/") -> str:
    """Return the bytes of a path of the environ, percent-encoded; they need not be UTF-8.

    :param safe: ASCII characters that are not encoded, as in :func:`urllib.parse.quote`.
    """
    return quote(path.encode("latin-1"), safe=safe)
