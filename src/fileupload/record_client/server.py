"""GET requests for records and lists of records, over HTTP, with the standard library only."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlsplit

from fileupload.errors import SettingError
from fileupload.wsgi.json_body import parse_json_or_none

_TIMEOUT = 60  # seconds that may pass without a byte of an answer


def authorization(credentials: str) -> str:
    """Return the value of the header Authorization (RFC 9110, 11.6.2) for *credentials*.

    >>> authorization("me:secret")
    'Basic bWU6c2VjcmV0'

    :param credentials: ``user:password``, or a scheme and a token such as ``Bearer abc``.
    :raises SettingError: they are neither.
    """
    text = credentials.strip()
    scheme, space, token = text.partition(" ")
    if text.isprintable() and space and scheme.isalnum() and token.isascii():
        return f"{scheme} {token.strip()}"
    if text.isprintable() and ":" in text:
        return "Basic " + base64.b64encode(text.encode()).decode()
    raise SettingError("the credentials must be user:password, or a scheme and a token such as 'Bearer abc'")


class RecordServer:
    """A server of records, accessed with the credentials of a user who may read them."""

    def __init__(self, url: str, credentials: str = "") -> None:
        """Access the server; nothing is sent yet.

        :param url: the URL below which the addresses of records are.
        :param credentials: as for :func:`authorization`; empty for none.
        :raises SettingError: the credentials cannot be parsed.
        """
        self._parts = urlsplit(url)
        self._prefix = quote(self._parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._headers = {"Accept": "application/json", "User-Agent": "fileupload"}
        if credentials:
            self._headers["Authorization"] = authorization(credentials)

    def get_json(self, path: str) -> tuple[int, Any]:
        """Send GET *path*; return the status of the answer, and its JSON body, or None if it is not JSON.

        Redirects are not followed, since the credentials must not be sent to another server.

        :param path: percent-encoded.
        :raises OSError: the server does not answer.
        """
        status, body, _ = self._get(self._prefix + path)
        return status, body

    def get_pages(self, path: str) -> Iterator[tuple[int, Any]]:
        """Yield status and JSON body of each page of the list at *path*, as Kinto's header Next-Page links them.

        :param path: percent-encoded.
        :raises OSError: the server does not answer.
        """
        target, seen = self._prefix + path, set[str]()
        while target and target not in seen:
            seen.add(target)
            status, body, following = self._get(target)
            yield status, body
            # Only path and query are used: the server may know itself by another host than this client does.
            parts = urlsplit(following)
            target = f"{parts.path}?{parts.query}" if following else ""
            if target and not target.startswith(self._prefix):
                target = self._prefix + target

    def _get(self, target: str) -> tuple[int, Any, str]:
        """Return the status of the answer, its JSON body, and the header Next-Page."""
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        with closing(kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT)) as connection:
            try:
                connection.request("GET", target, headers=self._headers)
                response = connection.getresponse()
                return response.status, parse_json_or_none(response.read()), response.getheader("Next-Page", "")
            except http.client.HTTPException as error:
                raise OSError(f"the answer is not valid HTTP ({type(error).__name__})") from None
