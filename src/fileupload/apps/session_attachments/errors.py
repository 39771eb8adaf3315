"""Errors of session attachments, beside those of all uploads."""

from __future__ import annotations

from fileupload.errors import UploadError
from fileupload.pool.index import MAX_SEGMENT_BYTES


class NoSession(UploadError):
    """The function in the setting ``session`` has returned no session."""

    status = 403
    code = "no-session"
    title = "Attachments need a session"

    def __init__(self) -> None:
        super().__init__("The request has no session to which attachments could belong. Log in, or begin a session.")


class NoSuchAddress(UploadError):
    """The address is not that of a bundle or of a file."""

    status = 404
    code = "not-found"
    title = "The address does not exist"

    def __init__(self) -> None:
        super().__init__("The addresses of attachments are <bundle>/ and <bundle>/<name>/ below this one.")


class BadBundleName(UploadError):
    """The name is not allowed for a bundle."""

    status = 404
    code = "bad-bundle-name"
    title = "A bundle cannot have this name"

    def __init__(self) -> None:
        super().__init__(f"A bundle's name has 1 to {MAX_SEGMENT_BYTES} bytes in UTF-8, and no control characters.")


class PreconditionFailed(UploadError):
    """A condition in If-Match or If-None-Match does not hold (RFC 9110, 13)."""

    status = 412
    code = "precondition-failed"
    title = "The attachment has changed"

    def __init__(self) -> None:
        super().__init__(
            "The condition in If-Match or If-None-Match does not hold for the current file; nothing was changed. "
            "Get the file and its ETag again."
        )


class BadName(UploadError):
    """A file has no name, or one that is not allowed."""

    code = "bad-name"
    title = "The file needs a name"

    def __init__(self) -> None:
        super().__init__("Send each file with a name, without folders and control characters.")
