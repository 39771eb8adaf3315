"""Receives parts of direct uploads at our own server, for pools whose store does not take them by itself."""

from __future__ import annotations

from contextlib import suppress
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
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.pool.direct import DirectFile
from fileupload.pool.parts import FileWriter, Part, PartWriter
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.multipart_form import prepare_form
from fileupload.protocols.receiver import Receiver
from fileupload.protocols.upload_request import FileFilter, UploadPolicy
from fileupload.status import State, UploadStatus
from fileupload.wsgi.request_body import BodyReader


class _OneFile(FileFilter):
    """Accepts a form with one file; its text fields mean nothing."""

    def __init__(self) -> None:
        self._files = 0

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        self._files += 1
        if self._files > 1:
            raise MalformedForm("Send one file; this address is for one.")


class _OpenPart(FileWriter):
    """Leaves the part open at the end of the file: it counts only when the end of the request has come."""

    def __init__(self, part: PartWriter) -> None:
        self.part = part
        self.size = 0

    def write(self, data: bytes) -> None:
        """Store all of *data*."""
        self.size += len(data)
        self.part.write(data)

    def close(self) -> None:
        """Do nothing; see :meth:`_PartSink.close`."""


class _PartSink:
    """A sink for one part."""

    def __init__(self, direct: DirectFile, token: UploadToken, body: BodyReader) -> None:
        self._direct = direct
        self._number = token.number or 1
        # A part whose size was agreed is bounded by that. Otherwise the limit is that of the whole file; of a form it
        # holds for the one file.
        self._limit = None if token.number and token.min_size == token.max_size else token.max_size
        sizes = [size for size in (body.length, token.max_size) if size is not None]
        self._size = min(sizes, default=None)  # a body is never shorter than the file in it
        self._writer: _OpenPart | None = None

    def create_file(self) -> FileWriter:
        """Begin the part."""
        self._writer = _OpenPart(self._direct.receive_part(self._number, self._size, self._limit))
        return self._writer

    def discard_file(self) -> None:
        """Refuse a form in whose file input nothing was chosen."""
        raise NoFile("No file was sent; choose one.")

    def publish(self, status: UploadStatus) -> None:
        """Do nothing: the stored parts tell how far the upload is."""

    def close(self, min_size: int) -> Part:
        """Let the part count, if it has *min_size* bytes; return what is stored.

        :raises NoFile, Incomplete: there is none, or it has fewer.
        """
        if self._writer is None:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        if self._writer.size < min_size:
            raise Incomplete(f"{self._writer.size} bytes were sent, and this address takes {min_size}.")
        self._writer.part.close()
        return self._writer.part.part

    def abandon(self) -> None:
        """Leave nothing of the part."""
        if self._writer is not None:
            self._writer.part.abandon()


def receive_part(environ: dict[str, Any], query: dict[str, str], manager: UploadManager) -> Part:
    """Store the part, or the file of a form, in a request to an address that we have signed; return what is stored.

    :raises UploadError: it is refused, or failed, and left nothing.
    """
    body = BodyReader(environ, manager.settings)
    try:
        token = TokenSigner(manager.key_ring).read(query.get("ticket", ""))
        body.trusted = True
        if environ["REQUEST_METHOD"] != (allowed := "PUT" if token.number else "POST"):
            raise MethodNotAllowed(environ["REQUEST_METHOD"], (allowed,))
        return _receive(environ, body, manager, token)
    except UploadError:  # before OSError: some are both
        raise
    except OSError as error:
        raise storage_error(error) from error


def _receive(environ: dict[str, Any], body: BodyReader, manager: UploadManager, token: UploadToken) -> Part:
    settings = manager.settings
    # Name and type were checked when the address was signed; what remains are the length and the room.
    policy = UploadPolicy(
        pool=manager.pool,
        max_size=token.max_size,
        min_free_space=settings.min_free_space or None,
        file_filter=_OneFile(),
    )
    sink = _PartSink(manager.pool.direct(token.bucket_id, token.attempt), token, body)
    status = UploadStatus(state=State.UPLOADING)
    receiver = Receiver(sink, policy, body, status, hashes=False, progress_interval=settings.progress_interval)
    try:
        if token.number:
            _check_length(body.length, policy, token)
            _transfer(body, receiver)
        else:
            prepare_form(body, environ.get("CONTENT_TYPE", ""), settings, policy)(receiver)
        return sink.close(token.min_size)
    except BaseException:
        with suppress(OSError):
            sink.abandon()
        raise


def _check_length(length: int | None, policy: UploadPolicy, token: UploadToken) -> None:
    """Refuse a body that does not have the bytes that were signed.

    :raises TooLarge, InvalidLength, LengthRequired, PoolFull: it has not, or they have no room.
    """
    if length is None:
        raise LengthRequired("Send the length of this part as Content-Length.")
    if token.max_size is not None and length > token.max_size:
        raise TooLarge(f"{length} bytes are sent, and this address takes {format_size(token.max_size)} at most.")
    if length < token.min_size:
        raise InvalidLength(f"{length} bytes are sent, and this address takes {token.min_size}.")
    policy.check_space(length)


def _transfer(body: BodyReader, receiver: Receiver) -> None:
    receiver.begin_file("", "", "")
    for chunk in body.chunks():
        receiver.write(chunk)
    receiver.end_file()
