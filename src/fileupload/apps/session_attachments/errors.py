"""What can be wrong with attachments of a session, beside what can be wrong with any upload."""

from __future__ import annotations

from fileupload.errors import UploadError
from fileupload.pool.index import MAX_SEGMENT_BYTES


class NoSession(UploadError):
    """The function that the setting ``session`` names knows no session of this client."""

    status = 403
    code = "no-session"
    title = "Attachments need a session"

    def __init__(self) -> None:
        super().__init__(
            "There is no session to which these attachments could belong. Log in, or begin a session first."
        )


class NoSuchAddress(UploadError):
    """Nothing is at this address, whoever asks."""

    status = 404
    code = "not-found"
    title = "There is nothing here"

    def __init__(self) -> None:
        super().__init__("Attachments are at <bundle>/ and <bundle>/<name>/ below this address.")


class BadBundleName(UploadError):
    """A bundle cannot have this name."""

    status = 404
    code = "bad-bundle-name"
    title = "A bundle cannot have this name"

    def __init__(self) -> None:
        super().__init__(f"A bundle's name has 1 to {MAX_SEGMENT_BYTES} bytes in UTF-8, and no control characters.")


class BadName(UploadError):
    """A file came without a name, or with one that no file can have."""

    code = "bad-name"
    title = "The file needs a name"

    def __init__(self) -> None:
        super().__init__("Send each file with a name, without folders and control characters; by it, it will be found.")
