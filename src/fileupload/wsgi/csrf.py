"""Cross-site request forgery: requests of other sites' pages are refused where they would change something."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit
from wsgiref.types import WSGIEnvironment

from fileupload.errors import OriginNotAllowed

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_same_origin(
    environ: WSGIEnvironment, trusted: tuple[str, ...], refusal: str, *, safe_methods: frozenset[str] = SAFE_METHODS
) -> None:
    """Refuse a request that a page of another site has made, as browsers tell by Origin and Sec-Fetch-Site.

    Clients that are no browsers send neither header, and hold no cookie of another user.

    :param trusted: the other origins whose pages may send it.
    :param refusal: the sentence for the others.
    :param safe_methods: those that change nothing here (RFC 9110, 9.2.1).
    :raises OriginNotAllowed: the page's origin is not trusted.
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
