"""Responses with files: whole or a byte range, conditional, and with headers that keep a browser from running them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.settings import Settings
from fileupload.wsgi.conditional_requests import answer_conditions
from fileupload.wsgi.headers import content_disposition
from fileupload.wsgi.responses import with_no_store_headers
from fileupload.wsgi.watchdog import Wait, watch_of

_BLOCK = 256 << 10


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """The headers of a file that is served.

    :ivar size: in bytes.
    :ivar etag: a strong entity tag, without quotes; it changes with the content.
    :ivar inline: whether a browser may display the file instead of saving it; only for types that run no scripts.
    """

    name: str
    content_type: str
    size: int
    etag: str
    inline: bool = False


def file_response(
    environ: WSGIEnvironment, file: ServedFile, open_file: Callable[[], BinaryIO], settings: Settings
) -> Response:
    """Return *file*, or the byte range that the client requests (RFC 9110, 13 and 14).

    :param open_file: opens the file; it is called once, and the file is closed with the answer.
    :param settings: the limits for a slow client: ``min_rate``, ``min_rate_grace`` and ``idle_timeout``.
    :raises FileMissing: *open_file* raised it.
    """
    response = Response(
        app_iter=_FileBytes(open_file(), 0, file.size, _SendWatch(environ, settings)),
        content_length=file.size,
        conditional_response=True,
        accept_ranges="bytes",
        etag=file.etag,
    )
    with_no_store_headers(response).headers["Content-Type"] = file.content_type
    # The declared type is the client's: a browser must save the file, or show it in a sandbox, never run its scripts.
    response.headers["Content-Disposition"] = content_disposition(file.name, inline=file.inline)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer_conditions(environ, response)


class _SendWatch:
    """Limits the time in which a client receives each block of an answer."""

    def __init__(self, environ: WSGIEnvironment, settings: Settings) -> None:
        self._watch = watch_of(environ)
        self._settings = settings
        self._wait = Wait(sending=True, rate=settings.min_rate, grace=settings.min_rate_grace)

    def start(self, size: int) -> None:
        settings = self._settings
        seconds = max(settings.min_rate_grace, size / settings.min_rate) if settings.min_rate else math.inf
        self._wait.begin(
            size=size, seconds=seconds, idle=math.inf if settings.idle_timeout is None else settings.idle_timeout
        )
        if self._watch is not None:
            self._watch.start(self._wait)

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.stop(self._wait)


class _FileBytes:
    """The bytes of a file from *start* to *stop*, in blocks.

    A server calls ``close()`` even if it did not send all of them, for example because the client has disconnected.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int, watch: _SendWatch) -> None:
        self._file = file
        self._start = start
        self._stop = stop
        self._watch = watch

    def app_iter_range(self, start: int, stop: int) -> _FileBytes:
        """Return the bytes of a range; WebOb calls this method for a partial response."""
        return _FileBytes(self._file, start, stop, self._watch)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = self._stop - self._start
        while data := self._file.read(min(left, _BLOCK)):
            left -= len(data)
            self._watch.start(len(data))
            try:
                yield data  # the server resumes the generator when it has sent the block
            finally:
                self._watch.stop()

    def close(self) -> None:
        self._watch.stop()
        self._file.close()
