"""Protection against cross-site request forgery (CSRF): refuses unsafe requests that a page of another site sends."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit
from wsgiref.types import WSGIEnvironment

from fileupload.errors import OriginNotAllowed

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_same_origin(
    environ: WSGIEnvironment, trusted: tuple[str, ...], refusal: str, *, safe_methods: frozenset[str] = SAFE_METHODS
) -> None:
    """Refuse an unsafe request from a page of another site, by its Origin and Sec-Fetch-Site headers.

    Only browsers send these headers. A request without them is accepted: other clients cannot be made to send a user's
    cookie.

    :param trusted: the other origins whose pages may send unsafe requests.
    :param refusal: the sentence of the error.
    :param safe_methods: the methods that need no check, since they change nothing (RFC 9110, 9.2.1).
    :raises OriginNotAllowed: the origin is neither this site's nor trusted.
    """
    origin = environ.get("HTTP_ORIGIN", "")
    site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if environ["REQUEST_METHOD"] in safe_methods or origin in trusted:
        return
    if site not in {"same-origin", "none"} or (origin and not _is_of_host(origin, _host(environ))):
        raise OriginNotAllowed(refusal)


def _host(environ: WSGIEnvironment) -> str:
    name: str = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return name


def _is_of_host(origin: str, host: str) -> bool:
    """Return whether *origin* has the host and port of *host*; http or https, since a proxy may terminate TLS."""
    try:
        page, server = urlsplit(origin), urlsplit("//" + host)
        scheme_port = _DEFAULT_PORTS.get(page.scheme)
        plain = f"{page.scheme}://{page.netloc}" == origin.lower() and "@" not in page.netloc
        return plain and scheme_port is not None and _authority(page, {scheme_port}) == _authority(server, {80, 443})
    except ValueError:
        return False


def _authority(parts: SplitResult, default_ports: set[int]) -> tuple[str | None, int | None]:
    """Return the host and the port of a URL; None for a default port."""
    return parts.hostname, None if parts.port in default_ports else parts.port
