"""The log of uploads: one line for the end of each upload, and for each refused request, whatever the way in.

The pipeline opens a :class:`RequestLog` for a request. The code that handles the request notes in it what it learns of
the upload, by the functions here; the pipeline writes the line once the outcome of the request is known. The log of the
current request is a context variable, since an upload may end far below the handler.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from wsgiref.types import WSGIEnvironment

from fileupload.errors import Superseded, UploadError
from fileupload.events import log_event
from fileupload.settings import Settings
from fileupload.status import UploadStatus, seconds_of
from fileupload.wsgi.proxy import client_address
from fileupload.wsgi.request_body import BodyReader


class RequestLog:
    """The facts about one request that its log line tells.

    :ivar protocol: the way in: ``form``, ``put`` or ``direct``; empty for requests that are no upload.
    :ivar bucket_id: the bucket of the upload, if its identifier was verified.
    :ivar body: the reader of the body, for the bytes received.
    :ivar begun: whether an attempt has begun, so that an error is the failure of an upload and not a refusal.
    :ivar finished: the uploads that this request has finished: protocol, bucket and status.
    """

    def __init__(self, environ: WSGIEnvironment, settings: Settings) -> None:
        self.protocol = ""
        self.bucket_id = ""
        self.body: BodyReader | None = None
        self.begun = False
        self.finished: list[tuple[str, str, UploadStatus]] = []
        self._environ = environ
        self._settings = settings
        self._started = time.monotonic()
        self._written = False

    @property
    def _client(self) -> str:
        """The address of the client, computed only for a line: most requests write none."""
        return client_address(self._environ, self._settings)

    def write_end(self) -> None:
        """Write a line for each upload that the request has finished, unless :meth:`write_error` was called."""
        if not self._written:
            for protocol, bucket_id, status in self.finished:
                _write_done(protocol, bucket_id, status, self._client)

    def write_error(self, error: UploadError, method: str, address: str) -> None:
        """Write the line of a request, or an upload, that has ended with *error*.

        :param address: the name of the application and of the resource; it contains no text from the client.
        """
        if self._written:
            return
        self._written = True
        outcome = "superseded" if isinstance(error, Superseded) else "failed" if self.begun else "refused"
        size = self.body.received if self.body is not None and self.begun else None
        seconds = time.monotonic() - self._started if self.begun else None
        log_event(
            logging.WARNING if error.status >= 500 else logging.INFO,
            f"{' '.join(filter(None, (method, address)))} {outcome}: {error.code}",
            {
                "bucket": self.bucket_id,
                **_measured(size, seconds),
                "client": self._client,
                "protocol": self.protocol,
            },
            outcome=outcome,
            code=error.code,
            status=error.status,
            method=method,
            address=address,
        )


_current: ContextVar[RequestLog | None] = ContextVar("fileupload.request_log", default=None)


@contextmanager
def request_log(environ: WSGIEnvironment, settings: Settings) -> Iterator[RequestLog]:
    """Open the log of a request, which is the current one in the ``with`` block."""
    opened = RequestLog(environ, settings)
    token = _current.set(opened)
    try:
        yield opened
    finally:
        _current.reset(token)


def note_upload(protocol: str = "", *, bucket_id: str = "", body: BodyReader | None = None) -> None:
    """Note what is known of the upload in the current request; an empty value changes nothing."""
    if (current := _current.get()) is not None:
        current.protocol = protocol or current.protocol
        current.bucket_id = bucket_id or current.bucket_id
        current.body = body or current.body


def note_begun() -> None:
    """Note that an attempt has begun in the current request."""
    if (current := _current.get()) is not None:
        current.begun = True


def note_finished(protocol: str, bucket_id: str, status: UploadStatus) -> None:
    """Note that an upload is done. Outside of a request, as in a background thread, its line is written at once."""
    if (current := _current.get()) is None:
        _write_done(protocol, bucket_id, status, "")
    else:
        current.finished.append((protocol, bucket_id, status))


def note_withdrawn(error: UploadError, method: str, address: str) -> None:
    """Write the line of an upload that was received, but that the application has not accepted, for *error*."""
    if (current := _current.get()) is not None:
        current.write_error(error, method, address)


def _write_done(protocol: str, bucket_id: str, status: UploadStatus, client: str) -> None:
    size = sum(file.size for file in status.files)
    seconds = seconds_of(status.finished) - seconds_of(status.started) if status.finished and status.started else None
    log_event(
        logging.INFO,
        "upload done",
        {
            "bucket": bucket_id,
            "files": len(status.files),
            **_measured(size, seconds),
            "client": client,
            "protocol": protocol,
        },
        outcome="done",
    )


def _measured(size: int | None, seconds: float | None) -> dict[str, object]:
    """Return the fields of size in bytes, duration in seconds, and rate in bytes per second."""
    rate = round(size / seconds) if size is not None and seconds else None
    return {"size": size, "seconds": None if seconds is None else round(max(0.0, seconds), 3), "rate": rate}
