"""What can be wrong with an attachment, in the words that the users of record APIs know."""

from __future__ import annotations

from fileupload.errors import UploadError

# The numbers of Kinto's errors (its API, "Error responses"), by the HTTP status where the error itself tells none.
INVALID_PARAMETERS = 107
INVALID_POSTED_DATA = 109
ERRNOS = {401: 104, 403: 121, 404: 111, 405: 115, 409: 122, 411: 112, 412: 114, 413: 113, 415: 107, 429: 117, 503: 201}


class RecordError(UploadError):
    """The form, or a record's data, is not what it should be.

    :ivar errno: Kinto's number for it.
    :ivar location: the part of the request that is wrong: ``body``, or empty.
    """

    code = "invalid-attachment"
    title = "The attachment cannot be accepted"

    def __init__(self, detail: str, *, errno: int = INVALID_PARAMETERS, location: str = "") -> None:
        super().__init__(f"{location}: {detail}" if location else detail)
        self.errno = errno
        self.location = location
        self.description = detail


class AttachmentFixed(RecordError):
    """Someone writes the attribute ``attachment`` by hand."""

    code = "attachment-fixed"
    title = "The attachment cannot be changed by hand"

    def __init__(self) -> None:
        super().__init__(
            "Attachment metadata cannot be modified. Send the file by POST to the record's address followed by"
            " /attachment, or remove it by DELETE there.",
            errno=INVALID_POSTED_DATA,
        )


class AmbiguousRequest(RecordError):
    """Servers and apps may read the request in different ways: its path, its method, its host or its body."""

    code = "ambiguous-request"
    title = "The request can be read in more than one way"


class UnsupportedBody(RecordError):
    """The type, the charset or the encoding of the body is none in which a record is sent."""

    status = 415
    code = "unsupported-request"
    title = "The body is not in a form in which a record can be sent"
