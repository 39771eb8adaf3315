"""HTTP requests with an exact target and method, which other clients would normalize."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE


@dataclass(frozen=True)
class Answer:
    """The status of an answer and its body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


def send_raw(url: str, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send a request to the server at *url*, with the target unchanged and only the length added as a header."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.putrequest(method, "/", skip_host="Host" in headers, skip_accept_encoding=True)
        buffer = connection._buffer  # type: ignore[attr-defined]
        buffer[0] = f"{method} {target} HTTP/1.1".encode("latin-1")
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method not in {"GET", "DELETE"}:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()
