"""Answers that are files: whole or in ranges, conditional, and never taken for something else than they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.settings import Settings
from fileupload.wsgi.conditional_requests import answer_conditions
from fileupload.wsgi.responses import with_no_store_headers
from fileupload.wsgi.watchdog import Wait, watch_of

_BLOCK = 256 << 10


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """What the client is told of a file.

    :ivar etag: changes with the bytes.
    :ivar inline: whether a browser may show it in the place of saving it; only for types that run nothing.
    """

    name: str
    content_type: str
    size: int
    etag: str
    inline: bool = False


def file_response(
    environ: WSGIEnvironment, file: ServedFile, open_file: Callable[[], BinaryIO], settings: Settings
) -> Response:
    """Answer with *file*, whole or in the ranges that the client asks for (RFC 9110, 13 and 14).

    :param open_file: opens its bytes; called once, and they are closed with the answer.
    :param settings: tell how slowly the client may take them.
    :raises FileMissing: *open_file* did.
    """
    response = Response(
        app_iter=_FileBytes(open_file(), 0, file.size, _Sending(environ, settings)),
        content_length=file.size,
        conditional_response=True,
        accept_ranges="bytes",
        etag=file.etag,
    )
    with_no_store_headers(response).headers["Content-Type"] = file.content_type
    # Whatever the client called it, the browser is to keep it, not to run it.
    response.headers["Content-Disposition"] = content_disposition(file.name, inline=file.inline)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer_conditions(environ, response)


def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return a Content-Disposition (RFC 6266) that names *filename*, in ASCII and as it is."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename) or "file"
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename or 'file', safe='')}"


class _Sending:
    """Watches how long the server takes to send each piece of an answer, which is as long as the client likes."""

    def __init__(self, environ: WSGIEnvironment, settings: Settings) -> None:
        self._watch = watch_of(environ)
        self._settings = settings
        self._wait = Wait(sending=True, rate=settings.min_rate, grace=settings.min_rate_grace)

    def start(self, size: int) -> None:
        settings = self._settings
        seconds = max(settings.min_rate_grace, size / settings.min_rate) if settings.min_rate else math.inf
        self._wait.begin(size=size, seconds=seconds, idle=settings.idle_timeout or math.inf)
        if self._watch is not None:
            self._watch.start(self._wait)

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.stop(self._wait)


class _FileBytes:
    """The bytes of a file from *start* to *stop*; the server closes it with the answer, however much it sent."""

    def __init__(self, file: BinaryIO, start: int, stop: int, sending: _Sending) -> None:
        self._file = file
        self._start = start
        self._stop = stop
        self._sending = sending

    def app_iter_range(self, start: int, stop: int) -> _FileBytes:
        return _FileBytes(self._file, start, stop, self._sending)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self._stop - self._start
        while data := self._file.read(min(left, _BLOCK)):
            left -= len(data)
            self._sending.start(len(data))
            try:
                yield data
            finally:
                self._sending.stop()

    def close(self) -> None:
        self._sending.stop()
        self._file.close()
