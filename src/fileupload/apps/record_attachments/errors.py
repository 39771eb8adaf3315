"""Errors of record attachments, with the codes of Kinto's API."""

from __future__ import annotations

from fileupload.errors import UploadError

# The error numbers of Kinto's API ("Error responses"), and those that follow from the HTTP status.
INVALID_PARAMETERS = 107
INVALID_POSTED_DATA = 109
ERRNOS = {401: 104, 403: 121, 404: 111, 405: 115, 409: 122, 411: 112, 412: 114, 413: 113, 415: 107, 429: 117, 503: 201}


class RecordError(UploadError):
    """The form, or a record's data, is not valid.

    :ivar errno: Kinto's error number.
    :ivar location: the invalid part of the request: ``body``, or empty.
    """

    code = "invalid-attachment"
    title = "The attachment cannot be accepted"

    def __init__(self, detail: str, *, errno: int = INVALID_PARAMETERS, location: str = "") -> None:
        super().__init__(f"{location}: {detail}" if location else detail)
        self.errno = errno
        self.location = location
        self.description = detail


class AttachmentFixed(RecordError):
    """A request that uploads no file sets the attribute ``attachment``."""

    code = "attachment-fixed"
    title = "The attachment can only be changed by an upload"

    def __init__(self) -> None:
        super().__init__(
            "Attachment metadata cannot be modified. Send the file by POST to the record's address followed by"
            " /attachment, or remove it by DELETE there.",
            errno=INVALID_POSTED_DATA,
        )


class AmbiguousRequest(RecordError):
    """Servers and apps may interpret the request differently: its path, its method, its host or its body."""

    code = "ambiguous-request"
    title = "The request is ambiguous"


class UnsupportedBody(RecordError):
    """The type, the charset or the coding of the body is not supported for records."""

    status = 415
    code = "unsupported-request"
    title = "A record cannot be sent in this form"
