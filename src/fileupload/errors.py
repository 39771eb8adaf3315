"""What can go wrong, as one tree: every error knows its HTTP status, its code and its sentence.

One place, ``middleware``, turns these errors into responses; everything below only raises them. The sentence
is written for the person at the client. It never holds a server path or a full identifier.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class UploadError(Exception):
    """Anything this package refuses or cannot do.

    :ivar status: the HTTP status code of the answer.
    :ivar code: a stable word for programs (``code`` in the problem document and in the status).
    :ivar title: the problem in general, the same for each error of the kind (RFC 9457, ``title``).
    :ivar detail: what was wrong this time, and what to do.
    :ivar retry_after: seconds after which the same request may succeed (``Retry-After``, RFC 9110, 10.2.3), or None.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The upload cannot be accepted"
    retry_after: ClassVar[int | None] = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class SettingError(ValueError):
    """A setting is unknown, or its value is not what it should be; stops the start."""


class InvalidIdentifier(UploadError):
    """The identifier is malformed, forged or too old; which of them is not told."""

    status = 403
    code = "invalid-identifier"
    title = "The upload identifier is not valid"

    def __init__(self) -> None:
        super().__init__("The upload identifier is not valid, or no longer. Reload the page to get a new one.")


class AlreadyDone(UploadError):
    """A second upload was sent to a bucket that is complete."""

    status = 409
    code = "already-done"
    title = "This upload is complete"

    def __init__(self) -> None:
        super().__init__(
            "An upload is already complete under this identifier. Reset it first, or use a new identifier."
        )


class Superseded(UploadError):
    """A newer attempt, or a reset, has taken the bucket away from this one."""

    status = 409
    code = "superseded"
    title = "The upload was replaced"

    def __init__(self) -> None:
        super().__init__("This upload was reset, or replaced by a newer attempt with the same identifier.")


class Busy(UploadError):
    """Another request is at this upload."""

    status = 423
    code = "busy"
    title = "Another request is at this upload"

    def __init__(self) -> None:
        super().__init__("Another request is sending to this upload. Wait until it ends, then ask where to go on.")


class NotResumable(UploadError):
    """There is nothing under this identifier that could be gone on with."""

    status = 404
    code = "not-resumable"
    title = "There is no such upload to go on with"

    def __init__(self) -> None:
        super().__init__("There is no unfinished upload here that could be gone on with. Begin it anew.")


class NotDirect(UploadError):
    """There is no direct upload under this identifier that could be completed."""

    status = 404
    code = "not-direct"
    title = "There is no such upload to complete"

    def __init__(self) -> None:
        super().__init__("No file was announced under this identifier. Ask for an address first.")


class AddressExpired(UploadError):
    """A signed address is too old, or was not made here; which of them is not told."""

    status = 403
    code = "address-expired"
    title = "The address is not valid"

    def __init__(self) -> None:
        super().__init__("This address is not valid, or no longer. Ask for the upload's addresses again.")


class ChecksumMismatch(UploadError):
    """The bytes are not those of which the client gave the checksum."""

    code = "checksum-mismatch"
    title = "The file does not have the checksum that was given"

    def __init__(self) -> None:
        super().__init__("The file that arrived has another SHA-256 than was given. Nothing was kept; send it again.")


class MalformedRequest(UploadError):
    """A request in JSON is not what it should be."""

    code = "malformed-request"
    title = "The request cannot be understood"


class LengthRequired(UploadError):
    """The end of the body cannot be known."""

    status = 411
    code = "length-required"
    title = "The length of the body is needed"


class InvalidLength(UploadError):
    """Content-Length is not 1 to 19 ASCII digits, or stands beside Transfer-Encoding (RFC 9112, 6)."""

    code = "invalid-length"
    title = "The length of the body is not valid"


class Incomplete(UploadError):
    """The body ended before it was whole: the client has gone, or a form has no closing boundary."""

    code = "incomplete"
    title = "The upload is incomplete"


class Interrupted(UploadError):
    """The server stopped while the upload was running."""

    status = 503
    code = "interrupted"
    title = "The upload was interrupted"

    def __init__(self) -> None:
        super().__init__("The server was interrupted during this upload. Send the file again.")


class MalformedForm(UploadError):
    """The body is no valid multipart/form-data (RFC 7578)."""

    code = "malformed-form"
    title = "The form is malformed"


class NoFile(UploadError):
    """The form is valid, and no file is in it."""

    code = "no-file"
    title = "No file was sent"


class TooLarge(UploadError):
    """More bytes than ``max_size``, or than the identifier allows."""

    status = 413
    code = "too-large"
    title = "The upload is too large"


class FieldTooLarge(TooLarge):
    """A text field is too large, or all of them together."""


class UploadKept(UploadError):
    """The app has taken the upload for its own."""

    status = 409
    code = "kept"
    title = "The upload is in use"

    def __init__(self) -> None:
        super().__init__("This upload is in use, and cannot be reset. It is removed where it is used.")


class LimitExceeded(UploadError):
    """A form passes one of the limits on files, fields or part headers."""

    status = 413
    code = "limit-exceeded"
    title = "The form passes a limit"


class TypeNotAllowed(UploadError):
    """The type or the extension of a file is not among the allowed ones."""

    status = 415
    code = "type-not-allowed"
    title = "Files of this type are not accepted"


class UnsupportedRequest(UploadError):
    """The request's Content-Type or Content-Encoding is none that an upload can have."""

    status = 415
    code = "unsupported-request"
    title = "The request is not an upload that can be read"


class HttpVersionNotSupported(UploadError):
    """The body came over HTTP/2 through a server that cannot end the read of a broken stream (RFC 9110, 15.6.6)."""

    status = 505
    code = "http-version-not-supported"
    title = "Uploads are not possible over HTTP/2 here"

    def __init__(self) -> None:
        super().__init__("This server takes uploads over HTTP/1.1 only. Send the request over HTTP/1.1.")


class MethodNotAllowed(UploadError):
    """The address exists, and does not take this method."""

    status = 405
    code = "method-not-allowed"
    title = "The method is not allowed here"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not possible here; use {' or '.join(allowed)}.")
        self.allowed = allowed


class BadCallback(UploadError):
    """The script-tag interface got a callback that is no plain JavaScript name."""

    code = "bad-callback"
    title = "The callback is not valid"


class OriginNotAllowed(UploadError):
    """A page of another origin asks for something that ``cors_origins`` does not grant it."""

    status = 403
    code = "origin-not-allowed"
    title = "Pages of this origin may not upload here"


class TooSlow(UploadError):
    """The client stayed under ``min_rate`` for longer than ``min_rate_grace``."""

    status = 408
    code = "too-slow"
    title = "The upload is too slow"


class PoolFull(UploadError):
    """The pool has no room, or would fall under ``min_free_space``."""

    status = 507
    code = "pool-full"
    title = "There is no room for this upload"

    def __init__(self) -> None:
        super().__init__("The server has not enough free space for this upload. Try again later.")


class ServerBusy(UploadError):
    """The process has no file descriptors left for this request."""

    status = 503
    code = "server-busy"
    title = "The server is busy"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The server is busy with other uploads. Try again in a few seconds.")


class StorageFailed(UploadError):
    """The pool could not store the bytes, through no fault of the client."""

    status = 500
    code = "storage-failed"
    title = "The upload could not be stored"

    def __init__(self) -> None:
        super().__init__("The server could not store this upload. Try again later.")


class FileMissing(UploadError, FileNotFoundError):
    """A file of a finished upload is no longer in the pool (moved away by the app, or cleared)."""

    status = 404
    code = "file-missing"
    title = "The file is no longer here"

    def __init__(self) -> None:
        super().__init__("This file is not here: it was moved or removed, or its upload is not complete.")


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def lacks_descriptors(error: OSError) -> bool:
    """Tell whether *error* says that this process, or the system, has no file descriptors left."""
    return error.errno in _NO_DESCRIPTORS


def storage_error(error: OSError) -> UploadError:
    """Return the error to answer with when the pool raised *error* while bytes were stored."""
    if lacks_descriptors(error):
        return ServerBusy()
    return PoolFull() if error.errno in _FULL else StorageFailed()
