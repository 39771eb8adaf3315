"""Asks a server for its records, over HTTP, with the standard library alone."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlsplit

from fileupload.errors import SettingError

_TIMEOUT = 60  # seconds for which an answer may be silent


def authorization(credentials: str) -> str:
    """Return the value of the header Authorization (RFC 9110, 11.6.2) for *credentials*.

    :param credentials: ``user:password``, or the value itself, such as ``Bearer token``.
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
    """The server of records, asked by someone who may read them."""

    def __init__(self, url: str, credentials: str = "") -> None:
        """Ask at *url*, below which are the addresses of records.

        :raises SettingError: the credentials cannot be read.
        """
        self._parts = urlsplit(url)
        self._prefix = quote(self._parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._headers = {"Accept": "application/json", "User-Agent": "fileupload"}
        if credentials:
            self._headers["Authorization"] = authorization(credentials)

    def get_json(self, path: str) -> tuple[int, Any]:
        """Return the status of the answer to GET *path*, and its body from JSON; None if that is none.

        Redirections are answers like others: credentials are for this server alone.

        :param path: percent-encoded.
        :raises OSError: there is no answer.
        """
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        with closing(kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT)) as connection:
            try:
                return _get(connection, self._prefix + path, self._headers)
            except http.client.HTTPException as error:
                raise OSError(f"what came is no answer of HTTP ({type(error).__name__})") from None


def _get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    connection.request("GET", path, headers=dict(headers))
    response = connection.getresponse()
    try:
        return response.status, json.loads(response.read())
    except (ValueError, RecursionError):
        return response.status, None
