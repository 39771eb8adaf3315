"""The URL by which a client has reached an application, from the environ (PEP 3333, "URL Reconstruction")."""

from __future__ import annotations

import re
from wsgiref.types import WSGIEnvironment

from fileupload.errors import MalformedRequest
from fileupload.wsgi.paths import quote_wsgi_path

_HOST = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-fv:.]{2,64}\])(?::[0-9]{0,5})?",  # RFC 3986, 3.2.2
    re.ASCII,
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PATH_SAFE = "/~!$&'()*+,;=:@"


def application_url(environ: WSGIEnvironment) -> str:
    """Return the URL at which the application is mounted, without a slash at its end.

    :raises MalformedRequest: the Host header cannot be part of a URL (RFC 9112, 3.2).
    """
    scheme = environ["wsgi.url_scheme"]
    host = environ.get("HTTP_HOST") or _server_name(environ)
    if _HOST.fullmatch(host) is None:
        raise MalformedRequest("The header Host must be the name of a host, with or without a port.")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}{_quoted(environ.get('SCRIPT_NAME', ''))}"


def path_url(environ: WSGIEnvironment) -> str:
    """Return the URL of the request, without its query.

    :raises MalformedRequest: the Host header cannot be part of a URL.
    """
    return application_url(environ) + _quoted(environ.get("PATH_INFO", ""))


def _server_name(environ: WSGIEnvironment) -> str:
    name = environ["SERVER_NAME"]
    return f"[{name}]:{environ['SERVER_PORT']}" if ":" in name else f"{name}:{environ['SERVER_PORT']}"


def _quoted(path: str) -> str:
    return quote_wsgi_path(path, _PATH_SAFE)
