"""The receiving of direct parts at this server, for pools whose store has no presigned URLs."""

from __future__ import annotations

from contextlib import suppress

from fileupload.errors import (
    Incomplete,
    InvalidLength,
    LengthRequired,
    MalformedForm,
    MethodNotAllowed,
    NoFile,
    TooLarge,
)
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.pool.direct import DirectFile
from fileupload.pool.parts import FileWriter, Part, PartWriter
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.multipart_form import prepare_form
from fileupload.protocols.receiver import Receiver
from fileupload.protocols.upload_request import FileFilter, UploadPolicy
from fileupload.protocols.whole_file import refuse_envelope, refuse_piece
from fileupload.status import State, UploadStatus
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BodyReader
from fileupload.wsgi.upload_log import note_upload


class _OneFile(FileFilter):
    """Accepts a form with one file, and ignores its text fields."""

    def __init__(self) -> None:
        self._files = 0

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        self._files += 1
        if self._files > 1:
            raise MalformedForm("Send one file only; this address receives one.")


class _OpenPart(FileWriter):
    """Writes a part, and leaves it open at the end of the file.

    The part is stored only when the whole request was read and its length checked, by :meth:`_PartSink.close`.
    """

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
    """The sink of one part."""

    def __init__(self, direct: DirectFile, token: UploadToken, body: BodyReader) -> None:
        self._direct = direct
        self._number = token.number or 1
        # A part with a declared size needs no other limit. Without one, max_size limits the whole file: the sum of the
        # parts, or the one file of a form.
        self._limit = None if token.number and token.min_size == token.max_size else token.max_size
        sizes = [size for size in (body.length, token.max_size) if size is not None]
        self._size = min(sizes, default=None)  # an upper bound: a form is longer than the file in it
        self._writer: _OpenPart | None = None

    def create_file(self) -> FileWriter:
        """Begin the part."""
        self._writer = _OpenPart(self._direct.receive_part(self._number, self._size, self._limit))
        return self._writer

    def discard_file(self) -> None:
        """Refuse a form whose file input is empty.

        :raises NoFile: always.
        """
        raise NoFile("No file was sent; choose one.")

    def publish(self, status: UploadStatus) -> None:
        """Do nothing: the progress of a direct upload is computed from its stored parts."""

    def close(self, min_size: int) -> Part:
        """Store the part for good; return its description.

        :raises NoFile: the request held no file.
        :raises Incomplete: the part has fewer than *min_size* bytes.
        """
        if self._writer is None:
            raise NoFile("No file was sent; choose one, and send it as a file field of the form.")
        if self._writer.size < min_size:
            raise Incomplete(f"{self._writer.size} bytes were sent, and this address needs {min_size}.")
        self._writer.part.close()
        return self._writer.part.part

    def abandon(self) -> None:
        """Remove the bytes of a part that was not closed."""
        if self._writer is not None:
            self._writer.part.abandon()


def receive_part(request: Request, manager: UploadManager) -> Part:
    """Store the part, or the file of a form, that was sent to a signed URL of this server; return its description.

    :raises UploadError: the request is refused, or failed; nothing of it is stored.
    :raises OSError: the pool failed; nothing of it is stored.
    """
    body = BodyReader(request.environ, manager.settings)
    token = TokenSigner(manager.key_ring).read(request.query.get("ticket", ""))
    body.trusted = True
    note_upload("direct", bucket_id=token.bucket_id)
    if request.method != (allowed := "PUT" if token.number else "POST"):
        raise MethodNotAllowed(request.method, (allowed,))
    refuse_piece(request)
    if token.number:
        refuse_envelope(request.environ.get("CONTENT_TYPE", ""))
    return _receive(request, body, manager, token)


def _receive(request: Request, body: BodyReader, manager: UploadManager, token: UploadToken) -> Part:
    settings = manager.settings
    # Name and type were checked before the URL was signed; the length and the free space remain.
    policy = UploadPolicy(
        pool=manager.pool,
        max_size=token.max_size,
        min_free_space=settings.min_free_space,
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
            prepare_form(body, request.environ.get("CONTENT_TYPE", ""), settings, policy)(receiver)
        return sink.close(token.min_size)
    except BaseException:
        with suppress(OSError):
            sink.abandon()
        raise


def _check_length(length: int | None, policy: UploadPolicy, token: UploadToken) -> None:
    """Refuse a body whose declared length the token does not allow.

    :raises LengthRequired: no length is declared.
    :raises TooLarge, InvalidLength: the length is outside the token's limits.
    :raises PoolFull: the pool has no space for it.
    """
    if length is None:
        raise LengthRequired("Send the length of this part as Content-Length.")
    if token.max_size is not None and length > token.max_size:
        raise TooLarge(f"{length} bytes are sent, and this address accepts at most {format_size(token.max_size)}.")
    if length < token.min_size:
        raise InvalidLength(f"{length} bytes are sent, and this address needs {token.min_size}.")
    policy.check_space(length)


def _transfer(body: BodyReader, receiver: Receiver) -> None:
    receiver.begin_file("", "", "")
    for chunk in body.chunks():
        receiver.write(chunk)
    receiver.end_file()
