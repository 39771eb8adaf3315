"""Exceptions of this package: each class has an HTTP status, a code and a title, each instance a sentence.

``wsgi.pipeline`` turns these errors into responses; all other modules only raise them. The sentence is written for the
user of the client. It never holds a server path or a full identifier.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class UploadError(Exception):
    """Base class of the errors that clients see; the answer is a problem document (RFC 9457) or an HTML page.

    :ivar status: HTTP status code of the answer.
    :ivar code: stable identifier for programs, such as ``too-large``: ``code`` in the problem document and in the
        status of the upload.
    :ivar title: summary of the problem, the same for all errors of the class (RFC 9457, 3.1.3).
    :ivar detail: sentence about this occurrence, with what the user can do (RFC 9457, 3.1.4).
    :ivar retry_after: seconds after which the same request may succeed, or None.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The upload cannot be accepted"
    retry_after: ClassVar[int | None] = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every answer to this error has, such as ``Retry-After`` (RFC 9110, 10.2.3)."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class SettingError(ValueError):
    """Invalid configuration: a setting is unknown, or its value is not allowed. Raised at startup only."""


class InvalidIdentifier(UploadError):
    """Identifier that is malformed, forged or expired; the answer does not tell which."""

    status = 403
    code = "invalid-identifier"
    title = "The upload identifier is not valid"

    def __init__(self) -> None:
        super().__init__("The upload identifier is invalid or has expired. Reload the page to get a new one.")


class IdentifierRequired(UploadError):
    """Request to an upload server without the identifier that it needs."""

    status = 403
    code = "identifier-required"
    title = "An upload identifier is needed"

    def __init__(self, *, anonymous: bool) -> None:
        """Say how to get one; on a server with the setting *anonymous*, an upload that has been sent has one."""
        super().__init__(
            "Name an upload: send its identifier as the query field or the header X-Progress-ID. The answer to an"
            " upload has its identifier."
            if anonymous
            else "This server receives uploads for an application: get an identifier from the application, and send it"
            " as the query field or the header X-Progress-ID. The operator of the server gets one from the command"
            " `fileupload identifier`, or lets any client upload with the option --anonymous."
        )


class NotFound(UploadError):
    """Address without a resource."""

    status = 404
    code = "not-found"
    title = "There is nothing at this address"

    def __init__(self) -> None:
        super().__init__("Check the address. If a link has led here, it is wrong or out of date.")


class AlreadyDone(UploadError):
    """Second upload to a bucket that holds a finished upload."""

    status = 409
    code = "already-done"
    title = "The upload is already complete"

    def __init__(self) -> None:
        super().__init__(
            "The upload with this identifier is already complete. Reset it first, or use a new identifier."
        )


class Superseded(UploadError):
    """Attempt that a newer attempt, or a reset, has replaced."""

    status = 409
    code = "superseded"
    title = "The upload was superseded"

    def __init__(self) -> None:
        super().__init__("This upload was reset, or superseded by a newer attempt with the same identifier.")


class Busy(UploadError):
    """Upload that another request is sending at the moment."""

    status = 423
    code = "busy"
    title = "The upload is in progress"

    def __init__(self) -> None:
        super().__init__("Another request is sending this upload. Wait until it has ended, then continue.")


class NotResumable(UploadError):
    """No unfinished upload with this identifier can be resumed."""

    status = 404
    code = "not-resumable"
    title = "There is no upload to resume"

    def __init__(self) -> None:
        super().__init__("There is no unfinished upload with this identifier. Start it again.")


class NotDirect(UploadError):
    """No direct upload was started with this identifier."""

    status = 404
    code = "not-direct"
    title = "There is no direct upload to complete"

    def __init__(self) -> None:
        super().__init__("No direct upload was started with this identifier. Start it first, to get the URLs.")


class AddressExpired(UploadError):
    """Presigned URL that is forged or expired; the answer does not tell which."""

    status = 403
    code = "address-expired"
    title = "The URL is not valid"

    def __init__(self) -> None:
        super().__init__("This URL is invalid or has expired. Request the URLs of the upload again.")


class ChecksumMismatch(UploadError):
    """File whose SHA-256 differs from the one that the client announced."""

    code = "checksum-mismatch"
    title = "The checksum does not match"

    def __init__(self) -> None:
        super().__init__("The received file does not have the announced SHA-256. It was discarded; send it again.")


class MalformedRequest(UploadError):
    """JSON body or query parameter with an invalid form or value."""

    code = "malformed-request"
    title = "The request is malformed"


class LengthRequired(UploadError):
    """Body without a reliable end: no Content-Length, and the server does not detect truncated chunked bodies."""

    status = 411
    code = "length-required"
    title = "Content-Length is required"


class InvalidLength(UploadError):
    """Content-Length that is not 1 to 19 ASCII digits, or that comes with Transfer-Encoding (RFC 9112, 6)."""

    code = "invalid-length"
    title = "Content-Length is not valid"


class Incomplete(UploadError):
    """Truncated body: the client disconnected, or a form has no closing boundary."""

    code = "incomplete"
    title = "The upload is incomplete"


class Interrupted(UploadError):
    """Upload whose process died while it was running."""

    status = 503
    code = "interrupted"
    title = "The upload was interrupted"

    def __init__(self) -> None:
        super().__init__("The server was interrupted during this upload. Send the file again.")


class MalformedForm(UploadError):
    """Body that is not valid multipart/form-data (RFC 7578)."""

    code = "malformed-form"
    title = "The form is malformed"


class NoFile(UploadError):
    """Valid form without a file."""

    code = "no-file"
    title = "No file was sent"


class TooLarge(UploadError):
    """Upload larger than ``max_size``, or than its identifier allows."""

    status = 413
    code = "too-large"
    title = "The upload is too large"


class FieldTooLarge(TooLarge):
    """Text field larger than ``max_field_size``, or text fields larger than ``max_fields_size`` together."""


class UploadKept(UploadError):
    """Upload that an application keeps, and that can only be removed there."""

    status = 409
    code = "kept"
    title = "The upload is in use"

    def __init__(self) -> None:
        super().__init__("The application uses this upload; it cannot be reset. Remove it in the application.")


class LimitExceeded(UploadError):
    """Form or collection of files over one of its limits, such as ``max_files``, ``max_fields`` or ``max_headers``."""

    status = 413
    code = "limit-exceeded"
    title = "A limit is exceeded"


class TypeNotAllowed(UploadError):
    """File whose media type or filename extension is not accepted."""

    status = 415
    code = "type-not-allowed"
    title = "The file type is not accepted"


class UnsupportedRequest(UploadError):
    """Upload request with an unsupported Content-Type or Content-Encoding."""

    status = 415
    code = "unsupported-request"
    title = "The format of the request is not supported"


class HttpVersionNotSupported(UploadError):
    """Body over HTTP/2 on a server whose reads never return once the stream is reset (505: RFC 9110, 15.6.6)."""

    status = 505
    code = "http-version-not-supported"
    title = "HTTP/2 is not supported for uploads"

    def __init__(self) -> None:
        super().__init__("This server accepts uploads over HTTP/1.1 only. Send the request over HTTP/1.1.")


class MethodNotAllowed(UploadError):
    """Method that the resource does not support; the answer has ``Allow`` (RFC 9110, 15.5.6)."""

    status = 405
    code = "method-not-allowed"
    title = "The method is not allowed"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not allowed here; use {' or '.join(allowed)}.")
        self._allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Allow": ", ".join(self._allowed)}


class BadCallback(UploadError):
    """JSONP callback that is not a plain JavaScript name."""

    code = "bad-callback"
    title = "The callback is not valid"


class OriginNotAllowed(UploadError):
    """Preflight or state-changing request from a page whose origin is not allowed (CORS, CSRF)."""

    status = 403
    code = "origin-not-allowed"
    title = "The origin of the page is not allowed"


class TooSlow(UploadError):
    """Client slower than ``min_rate`` for ``min_rate_grace``, or silent for ``idle_timeout``."""

    status = 408
    code = "too-slow"
    title = "The upload is too slow"


class PoolFull(UploadError):
    """Pool that is full, or in which less than ``min_free_space`` would remain."""

    status = 507
    code = "pool-full"
    title = "There is not enough free space"

    def __init__(self) -> None:
        super().__init__("The server does not have enough free space for this upload. Try again later.")


class ServerBusy(UploadError):
    """Process without enough free file descriptors for the request."""

    status = 503
    code = "server-busy"
    title = "The server is busy"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The server is busy with other uploads. Try again in a few seconds.")


class StorageFailed(UploadError):
    """I/O error of the pool."""

    status = 500
    code = "storage-failed"
    title = "The upload could not be stored"

    def __init__(self) -> None:
        super().__init__("The server could not store this upload. Try again later.")


class FileMissing(UploadError, FileNotFoundError):
    """File that is not in the pool: its upload is not finished, was cleared, or the app has moved the file away."""

    status = 404
    code = "file-missing"
    title = "The file does not exist"

    def __init__(self) -> None:
        super().__init__("This file does not exist: it was moved or removed, or its upload is not complete.")


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def lacks_descriptors(error: OSError) -> bool:
    """Return whether *error* means that this process, or the system, has no file descriptors left."""
    return error.errno in _NO_DESCRIPTORS


def storage_error(error: OSError) -> UploadError:
    """Return the client error for an OSError that a pool raised while it stored an upload."""
    if lacks_descriptors(error):
        return ServerBusy()
    return PoolFull() if error.errno in _FULL else StorageFailed()
