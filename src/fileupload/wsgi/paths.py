"""Paths as WSGI gives them: percent-decoded bytes, read as if they were Latin-1 (PEP 3333, "Unicode Issues")."""

from __future__ import annotations


def from_wsgi_path(path: str) -> str:
    """Return a path of the environ as text.

    :raises UnicodeError: it is not UTF-8.
    """
    return path.encode("latin-1").decode("utf-8")


def to_wsgi_path(text: str) -> str:
    """Return *text* as a path of the environ."""
    return text.encode("utf-8").decode("latin-1")
