"""Takes parts of direct uploads at our own server, for pools that have no address of their own for them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from fileupload.errors import (
    Incomplete,
    InvalidLength,
    LengthRequired,
    MalformedForm,
    MethodNotAllowed,
    NoFile,
    TooLarge,
    UploadError,
    storage_error,
)
from fileupload.identifiers import Claims
from fileupload.manager import UploadManager
from fileupload.pool.base import Attempt
from fileupload.pool.direct import DirectFile
from fileupload.pool.parts import FileWriter, Part, PartWriter
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.multipart_form import FormProtocol
from fileupload.protocols.receiver import FileFilter, Receiver, UploadRequest
from fileupload.settings import format_size
from fileupload.status import UploadStatus
from fileupload.wsgi.request_body import BodyReader


class _OneFile(FileFilter):
    """Lets in a form with one file; its other fields mean nothing."""

    def __init__(self) -> None:
        self._files = 0

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        self._files += 1
        if self._files > 1:
            raise MalformedForm("Send one file; this address is for one.")


class _OpenEnd(FileWriter):
    """Leaves the part open at the end of the file: it counts only if all of the request was right."""

    def __init__(self, part: PartWriter) -> None:
        self.part = part
        self.size = 0

    def write(self, data: bytes) -> None:
        """Store all of *data*."""
        self.size += len(data)
        self.part.write(data)

    def close(self) -> None:
        """Wait for the end of the request."""


class _PartAttempt(Attempt):
    """What the receiver needs of an attempt, so that it takes a part as it takes any file."""

    def __init__(self, direct: DirectFile, ticket: UploadToken, upload: UploadRequest) -> None:
        self.status = upload.first_status()
        self._direct = direct
        self._number = ticket.number or 1
        # Where the size of a part was agreed, as a rule, its number bounds it. Else the limit is that of the whole
        # file; in a form it holds for the one file.
        self._limit = None if ticket.number and ticket.min_size == ticket.max_size else ticket.max_size
        sizes = [size for size in (upload.body.length, ticket.max_size) if size is not None]
        self._size = min(sizes, default=None)  # a body is never shorter than the file in it
        self._writer: _OpenEnd | None = None

    def create_file(self) -> FileWriter:
        """Begin the part."""
        self._writer = _OpenEnd(self._direct.receive_part(self._number, self._size, self._limit))
        return self._writer

    def store(self, min_size: int) -> Part:
        """Let the part count, if it has *least* bytes; return what is then stored.

        :raises NoFile, Incomplete: there is none, or it has fewer.
        """
        if self._writer is None:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        if self._writer.size < min_size:
            raise Incomplete(f"{self._writer.size} bytes were sent, and this address takes {min_size}.")
        self._writer.part.close()
        return self._writer.part.part

    def append_file(self) -> tuple[FileWriter, int]:
        """A part is sent as a whole."""
        raise NotImplementedError

    def discard_file(self) -> None:
        """Refuse an input in which nothing was chosen."""
        raise NoFile("No file was sent; choose one.")

    def publish(self, status: UploadStatus) -> None:
        """What is stored tells how far the upload is."""

    def suspend(self, status: UploadStatus) -> None:
        """Nothing to do: others own the attempt."""

    def finish(self, status: UploadStatus) -> None:
        """Nothing to do: completing finishes it."""

    def fail(self, status: UploadStatus) -> None:
        """Leave nothing of the part."""
        if self._writer is not None:
            self._writer.part.abandon()


def receive_part(environ: dict[str, Any], query: dict[str, str], manager: UploadManager) -> Part:
    """Take the part, or the form, in a request to an address that we have signed; return what is stored.

    :raises UploadError: it is refused, or failed, and left nothing.
    """
    body = BodyReader(environ, manager.settings)
    try:
        ticket = TokenSigner(manager.key_ring).read(query.get("ticket", ""))
        body.trusted = True
        if environ["REQUEST_METHOD"] != (allowed := "PUT" if ticket.number else "POST"):
            raise MethodNotAllowed(environ["REQUEST_METHOD"], (allowed,))
        upload = _open(environ, manager, ticket, body)
        return _receive(upload, ticket)
    except UploadError:  # also those that are an OSError
        raise
    except OSError as error:
        raise storage_error(error) from error


def _open(environ: dict[str, Any], manager: UploadManager, ticket: UploadToken, body: BodyReader) -> UploadRequest:
    # What was agreed holds already; here it is the length that counts.
    settings = replace(manager.settings, checksum="none", content_types=(), extensions=(), max_size=0, max_file_size=0)
    return UploadRequest(
        environ=environ,
        query={},
        identifier="",
        claims=Claims(id=ticket.bucket_id, max_size=ticket.max_size),
        pool=manager.pool,
        settings=settings,
        body=body,
        file_filter=_OneFile(),
    )


def _receive(upload: UploadRequest, ticket: UploadToken) -> Part:
    direct = upload.pool.direct(ticket.bucket_id, ticket.attempt)
    attempt = _PartAttempt(direct, ticket, upload)
    receiver = Receiver(upload, attempt, attempt.status)
    try:
        if ticket.number:
            _check_length(upload, ticket)
            _fill(upload, receiver)
        else:
            form = FormProtocol()
            form.prepare(upload)
            form.fill(upload, receiver)
        return attempt.store(ticket.min_size)
    except BaseException:
        with suppress(OSError):
            attempt.fail(attempt.status)
        raise


def _check_length(upload: UploadRequest, ticket: UploadToken) -> None:
    """Refuse a body that has not the bytes that were signed.

    :raises TooLarge, InvalidLength, LengthRequired, PoolFull: it has not, or they have no room.
    """
    length = upload.body.length
    if length is None:
        raise LengthRequired("Send the length of this part as Content-Length.")
    if ticket.max_size is not None and length > ticket.max_size:
        raise TooLarge(f"{length} bytes are sent, and this address takes {format_size(ticket.max_size)} at most.")
    if length < ticket.min_size:
        raise InvalidLength(f"{length} bytes are sent, and this address takes {ticket.min_size}.")
    upload.check_space(length)


def _fill(upload: UploadRequest, receiver: Receiver) -> None:
    """Store the body."""
    receiver.begin_file("", "", "")
    for chunk in upload.body.chunks():
        receiver.write(chunk)
    receiver.end_file()
