"""The URLs of an application and of a request, as the client sees them (PEP 3333, "URL Reconstruction")."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from fileupload.errors import MalformedRequest
from fileupload.settings import DEFAULT_PORTS, Settings
from fileupload.wsgi.paths import quote_wsgi_path
from fileupload.wsgi.proxy import HOST, PATH_SAFE, public_address


def application_url(environ: WSGIEnvironment, settings: Settings) -> str:
    """Return the URL at which the application is mounted, without a slash at its end.

    :raises MalformedRequest: the Host header cannot be part of a URL (RFC 9112, 3.2).
    """
    address = public_address(environ, settings)
    if HOST.fullmatch(address.host) is None:
        raise MalformedRequest("The header Host must be the name of a host, with or without a port.")
    host = address.host.removesuffix(f":{DEFAULT_PORTS.get(address.scheme, '')}")
    return f"{address.scheme}://{host}{address.mount}"


def path_url(environ: WSGIEnvironment, settings: Settings) -> str:
    """Return the URL of the request, without its query.

    :raises MalformedRequest: the Host header cannot be part of a URL.
    """
    return application_url(environ, settings) + quote_wsgi_path(environ.get("PATH_INFO", ""), PATH_SAFE)


def relative_root(environ: WSGIEnvironment) -> str:
    """Return the root of the application, with a slash at its end, relative to the URL of the request.

    Below any prefix that a proxy removes, this is right without knowing the prefix.
    """
    below = environ.get("PATH_INFO", "").count("/")
    if below == 0:  # the URL ends with the last segment of SCRIPT_NAME
        last = environ.get("SCRIPT_NAME", "").rpartition("/")[2]
        return f"./{quote_wsgi_path(last, PATH_SAFE)}/"
    return "../" * (below - 1) or "./"
