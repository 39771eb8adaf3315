"""The address of a request as its client sees it, and the address of the client, also behind proxies.

A proxy that ends TLS, listens on another port, or removes a prefix of the path reports the original values in
``X-Forwarded-For``, ``-Proto``, ``-Host``, ``-Port`` and ``-Prefix``, or in ``Forwarded`` (RFC 7239). Any client can
send these headers too. So they are believed only from the addresses in the setting ``trusted_proxies``, and read from
the right, where the nearest proxy writes: the first address that is no trusted proxy is the client, and all that stands
to the left of it is the client's own text.

The setting ``public_url`` replaces what the headers say of the scheme, the host, the port and the prefix.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from fileupload.settings import UNIX_SOCKET, Settings
from fileupload.wsgi.paths import quote_wsgi_path

LOOPBACK = ("127.0.0.0/8", "::1/128")

_DEFAULT_KEY = "fileupload.trusted_proxies"  # in the environ: the proxies that the server trusts by default
PATH_SAFE = "/~!$&'()*+,;=:@"
_MAX_HEADER = 8192  # characters that are read of a header, from the right
_MAX_PROXIES = 32

HOST = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-fv:.]{2,64}\])(?::[0-9]{0,5})?",  # RFC 3986, 3.2.2
    re.ASCII,
)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+)+", re.ASCII)
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::[A-Za-z0-9._-]+)?", re.ASCII)  # RFC 7239, 6
_PAIR = r"""[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+|"(?:[^"\\]|\\.)*")"""
# The last element of a Forwarded header. Proxies append theirs, so nothing to the left of it can change its meaning,
# such as a quote that a client has opened. Some proxies write an IPv6 address without the quotes that it needs.
_LAST_ELEMENT = re.compile(rf"(?:^|,)[ \t]*({_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*)(?:[ \t]*;)?[ \t]*$", re.ASCII)
_PAIRS = re.compile(_PAIR, re.ASCII)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True)
class PublicAddress:
    """The address of an application as the client of a request sees it.

    :ivar scheme: ``http`` or ``https``.
    :ivar host: the host, with its port if that is known. Without proxies, it is the client's text, and may be no host.
    :ivar mount: the path of the application, percent-encoded, without a slash at its end; empty at the root.
    """

    scheme: str
    host: str
    mount: str


def public_address(environ: WSGIEnvironment, settings: Settings) -> PublicAddress:
    """Return the address of the application that *environ* is for."""
    script_name = quote_wsgi_path(environ.get("SCRIPT_NAME", ""), PATH_SAFE)
    if settings.public_url:
        site = urlsplit(settings.public_url)
        return PublicAddress(scheme=site.scheme, host=site.netloc, mount=_mount(site.path, script_name))
    told = _Forwarded.of(environ, settings)
    host = told.host or environ.get("HTTP_HOST") or _server_name(environ)
    if told.port and not re.search(r":[0-9]*$", host.rpartition("]")[2]):
        host += f":{told.port}"
    scheme = told.scheme or environ["wsgi.url_scheme"]
    return PublicAddress(scheme=scheme, host=host, mount=_mount(told.prefix, script_name))


def client_address(environ: WSGIEnvironment, settings: Settings) -> str:
    """Return the IP address of the client; empty if it is not known, as on a Unix socket."""
    return _Forwarded.of(environ, settings).client


def trusting_by_default(app: WSGIApplication, proxies: Sequence[str]) -> WSGIApplication:
    """Return *app* with *proxies* as its trusted proxies, unless its settings name others."""
    trusted = tuple(proxies)

    def trusting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[_DEFAULT_KEY] = trusted
        return app(environ, start_response)

    return trusting


@dataclass(frozen=True, kw_only=True)
class _Forwarded:
    """Values that trusted proxies report of a request; empty for those that they do not report.

    :ivar client: the address of the client: without trusted proxies, that of the connection.
    """

    client: str
    scheme: str = ""
    host: str = ""
    port: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, environ: WSGIEnvironment, settings: Settings) -> _Forwarded:
        trusted = settings.trusted_proxies
        proxies = _Proxies.of(environ.get(_DEFAULT_KEY, ()) if trusted is None else trusted)
        peer = _peer(environ)
        if not proxies.trust(peer):
            return cls(client=_text(peer))
        names = ("FOR", "PROTO", "HOST", "PORT", "PREFIX")
        lists = {name: _values(environ, f"HTTP_X_FORWARDED_{name}") for name in names}
        if any(environ.get(f"HTTP_X_FORWARDED_{name}") for name in names if name != "PREFIX"):
            addresses = [_parse_address(text) for text in lists["FOR"]]
            client, count = proxies.client_of(peer, addresses)
            values = {name: _reported(lists[name], count) for name in names}
        else:  # a proxy that sets one kind of headers passes the other on as the client has sent it
            elements = _elements(environ)
            addresses = [_parse_address(element.get("for", "")) for element in elements]
            client, count = proxies.client_of(peer, addresses)
            of_proxies = elements[:count]  # the one of the proxy that is next to the client counts
            values = {
                "PROTO": next((each["proto"] for each in reversed(of_proxies) if "proto" in each), ""),
                "HOST": next((each["host"] for each in reversed(of_proxies) if "host" in each), ""),
                "PREFIX": _reported(lists["PREFIX"], count),
            }
        return cls(
            client=_text(client),
            scheme=_checked(values["PROTO"].lower(), re.compile("https?")),
            host=_checked(values["HOST"], HOST),
            port=_checked(values.get("PORT", ""), _PORT),
            prefix=_checked(values["PREFIX"].rstrip("/"), _PREFIX),
        )


class _Proxies:
    """The proxies in the setting ``trusted_proxies``."""

    def __init__(self, trusted: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in trusted if text != UNIX_SOCKET]
        self._unix = UNIX_SOCKET in trusted

    @staticmethod
    @lru_cache(maxsize=16)
    def of(trusted: tuple[str, ...]) -> _Proxies:
        return _Proxies(trusted)

    def trust(self, address: _Address | str) -> bool:
        """Return whether the headers of a request from *address* are believed."""
        if isinstance(address, str):
            return self._unix and address == UNIX_SOCKET
        return any(address in network for network in self._networks)

    def client_of(self, peer: _Address | str, addresses: Sequence[_Address | None]) -> tuple[_Address | str, int]:
        """Return the address of the client, and the number of proxies between it and this server.

        :param peer: the address of the connection: a trusted proxy.
        :param addresses: the clients of the proxies, the nearest proxy first; None for what is no address.
        """
        client, count = peer, 0
        for address in addresses:
            if not self.trust(client):
                break
            count += 1
            if address is None:
                break
            client = address
        return client, max(1, count)


def _peer(environ: WSGIEnvironment) -> _Address | str:
    """Return the address of the connection; ``unix`` for a Unix socket, and an empty text if it cannot be read."""
    text = str(environ.get("REMOTE_ADDR") or "")
    if not text or text.startswith("unix:"):
        return UNIX_SOCKET
    return _parse_address(text) or ""


def _parse_address(text: str) -> _Address | None:
    """Return the IP address in *text*, which may have a port; None if it is none (RFC 7239, 6)."""
    try:
        address: _Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        match = _WITH_PORT.fullmatch(text)
        try:
            address = ipaddress.ip_address((match[1] or match[2] or "").partition("%")[0] if match else "")
        except ValueError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _text(address: _Address | str) -> str:
    return "" if isinstance(address, str) else str(address)


def _values(environ: WSGIEnvironment, name: str) -> list[str]:
    """Return the values in a header, from the right."""
    text = str(environ.get(name, ""))[-_MAX_HEADER:]
    return [each.strip() for each in reversed(text.split(","))] if text.strip() else []


def _reported(values: Sequence[str], count: int) -> str:
    """Return the value that the outermost of *count* proxies has reported; each adds one on the right, or replaces."""
    return values[min(count, len(values)) - 1] if values else ""


def _elements(environ: WSGIEnvironment) -> list[dict[str, str]]:
    """Return the elements of the header Forwarded, from the right, up to one that cannot be read."""
    text = str(environ.get("HTTP_FORWARDED", ""))[-_MAX_HEADER:]
    found: list[dict[str, str]] = []
    while len(found) < _MAX_PROXIES and (match := _LAST_ELEMENT.search(text)):
        pairs = [pair.split("=", 1) for pair in _PAIRS.findall(match[1])]
        found.append({name.lower(): _unquoted(value) for name, value in pairs})
        text = text[: match.start()]
    return found


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _checked(text: str, form: re.Pattern[Any]) -> str:
    """Return *text*, or an empty text if it has not this *form*."""
    return text if form.fullmatch(text) else ""


def _mount(prefix: str, script_name: str) -> str:
    """Return the path of the application below *prefix*, which the proxy may have removed from the path or not."""
    has_prefix = script_name == prefix or script_name.startswith(prefix + "/")
    return script_name if has_prefix else prefix + script_name


def _server_name(environ: WSGIEnvironment) -> str:
    name = environ["SERVER_NAME"]
    return f"[{name}]:{environ['SERVER_PORT']}" if ":" in name else f"{name}:{environ['SERVER_PORT']}"
