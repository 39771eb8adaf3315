"""Protection against cross-site request forgery (CSRF): refuses unsafe requests that a page of another site sends."""

from __future__ import annotations

from urllib.parse import urlsplit
from wsgiref.types import WSGIEnvironment

from fileupload.errors import OriginNotAllowed
from fileupload.settings import DEFAULT_PORTS, Settings
from fileupload.wsgi.proxy import PublicAddress, public_address

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# The values of Sec-Fetch-Site for this site's own pages, and for requests that the user began (Fetch Metadata).
_OWN_SITE = frozenset({"same-origin", "none"})


def check_same_origin(
    environ: WSGIEnvironment,
    settings: Settings,
    trusted: tuple[str, ...],
    refusal: str,
    *,
    safe_methods: frozenset[str] = SAFE_METHODS,
) -> None:
    """Refuse an unsafe request from a page of another site, by its Sec-Fetch-Site or Origin header.

    Only browsers send these headers. A request without them is accepted: other clients cannot be made to send a user's
    cookie. No script can set Sec-Fetch-Site, and the browser knows more than Origin tells: of a page that hides its
    address (``Referrer-Policy: no-referrer``), Origin is ``null``. So Origin counts only without Sec-Fetch-Site, which
    old browsers do not send, and no browser sends to a site without TLS.

    :param settings: the public address of this site, and its proxies.
    :param trusted: the other origins whose pages may send unsafe requests.
    :param refusal: the sentence of the error.
    :param safe_methods: the methods that need no check, since they change nothing (RFC 9110, 9.2.1).
    :raises OriginNotAllowed: the origin is neither this site's nor trusted.
    """
    origin = environ.get("HTTP_ORIGIN", "")
    if environ["REQUEST_METHOD"] in safe_methods or origin in trusted:
        return
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        same = site in _OWN_SITE
    else:
        same = not origin or _is_of_site(origin, public_address(environ, settings))
    if not same:
        raise OriginNotAllowed(refusal)


def _is_of_site(origin: str, site: PublicAddress) -> bool:
    """Return whether *origin* has the scheme, host and port of *site*.

    A site that seems to have no TLS may have the scheme https all the same: a proxy that says nothing may end TLS.
    """
    try:
        page, server = urlsplit(origin), urlsplit("//" + site.host)
        scheme_port = DEFAULT_PORTS.get(page.scheme)
        if scheme_port is None or "@" in page.netloc or f"{page.scheme}://{page.netloc}" != origin.lower():
            return False
        if site.scheme == "https" and page.scheme != "https":  # a page that an attacker in the network can change
            return False
        ports = {80, 443} if site.scheme == "http" else {443}
        page_port = None if page.port == scheme_port else page.port
        server_port = None if server.port in ports else server.port
        return (page.hostname, page_port) == (server.hostname, server_port)
    except ValueError:
        return False
