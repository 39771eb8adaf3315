"""Pages that begin a session: HTML that a browser shows, and that no shared cache may store."""

from __future__ import annotations

import re
from wsgiref.types import WSGIEnvironment

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_LIFETIME = re.compile(r"(?:max-age|s-maxage)=\"?0*[1-9]", re.ASCII)


def is_page_request(environ: WSGIEnvironment) -> bool:
    """Return whether a browser requests a page, to show it in a window or a frame (Fetch Metadata).

    A POST is none: if it comes from another site, the browser does not send the visitor's cookie (SameSite=Lax), and a
    new one would replace it.
    """
    if environ.get("REQUEST_METHOD") != "GET":
        return False
    mode = environ.get("HTTP_SEC_FETCH_MODE")
    return mode == "navigate" if mode else "text/html" in environ.get("HTTP_ACCEPT", "")


def is_private_page(status: str, headers: list[tuple[str, str]]) -> bool:
    """Return whether an answer is a page that no shared cache may store, or none will (RFC 9111, 3).

    A stored answer would give its cookie, and with it the session, to all visitors. An answer without Cache-Control and
    Expires is private with :func:`with_private`.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    if not status.startswith("200") or found.get("content-type", "").partition(";")[0].strip().lower() not in _HTML:
        return False
    control = found.get("cache-control", "").lower()
    directives = {each.partition("=")[0].strip() for each in control.split(",")}
    if directives & {"private", "no-store"}:
        return True
    return "public" not in directives and _LIFETIME.search(control) is None and "expires" not in found


def with_private(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return *headers* with ``Cache-Control: private``, if they have no Cache-Control."""
    known = any(name.lower() == "cache-control" for name, _ in headers)
    return headers if known else [*headers, ("Cache-Control", "private")]
