"""Requests of other sites: refused where they would change something, unless their origin is trusted."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from webob import Response

from fileupload.errors import OriginNotAllowed
from fileupload.wsgi.responses import preflight

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_same_origin(environ: dict[str, Any], trusted: tuple[str, ...]) -> None:
    """Refuse a request that the page of another site has made, as browsers tell of it.

    Other clients tell nothing, and have no cookie of somebody else.

    :raises OriginNotAllowed: it is one, and not of a *trusted* origin.
    """
    origin = environ.get("HTTP_ORIGIN", "")
    site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if environ["REQUEST_METHOD"] in _SAFE or origin in trusted:
        return
    if site not in {"same-origin", "none"} or (origin and not _is_of_host(origin, _host(environ))):
        raise OriginNotAllowed("Attachments can only be changed by pages of this site; the setting is trusted_origins.")


def cors_headers(environ: dict[str, Any], trusted: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the headers that let a page of a *trusted* origin read the answer, and send the cookie."""
    if not trusted:
        return []
    headers = [("Vary", "Origin")]
    if (origin := environ.get("HTTP_ORIGIN", "")) in trusted:
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Allow-Credentials", "true"))
        headers.append(("Access-Control-Expose-Headers", "Content-Disposition, Content-Length, ETag"))
    return headers


def is_preflight(environ: dict[str, Any]) -> bool:
    """Tell whether a browser asks what a page of another origin may send (Fetch standard, CORS preflight)."""
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ


def answer_preflight(environ: dict[str, Any], trusted: tuple[str, ...]) -> Response:
    """Answer that question.

    :raises OriginNotAllowed: the page is not of a *trusted* origin.
    """
    if environ.get("HTTP_ORIGIN", "") not in trusted:
        raise OriginNotAllowed("Attachments can only be changed by pages of this site; the setting is trusted_origins.")
    return preflight()


def _host(environ: dict[str, Any]) -> str:
    name: str = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return name


def _is_of_host(origin: str, host: str) -> bool:
    """Tell whether *origin* is at *host*; whether by http or https, a proxy may hide."""
    try:
        page, server = urlsplit(origin), urlsplit("//" + host)
        scheme_port = _DEFAULT_PORTS.get(page.scheme)
        plain = f"{page.scheme}://{page.netloc}" == origin.lower() and "@" not in page.netloc
        return plain and scheme_port is not None and _place(page, {scheme_port}) == _place(server, {80, 443})
    except ValueError:
        return False


def _place(parts: SplitResult, default_ports: set[int]) -> tuple[str | None, int | None]:
    return parts.hostname, None if parts.port in default_ports else parts.port
