"""What can go wrong beside what goes wrong with any upload."""

from __future__ import annotations

from fileupload.errors import UploadError


class NotAuthorized(UploadError):
    """The app in front has not said that this client may upload."""

    status = 403
    code = "not-authorized"
    title = "Who may not upload gets no address"

    def __init__(self) -> None:
        super().__init__(
            "You may not upload here. (Who may is told by REMOTE_USER, or by the settings authorize or anonymous.)"
        )


class UnknownKey(UploadError):
    """There is no upload under this key."""

    status = 404
    code = "unknown-key"
    title = "There is no such upload"

    def __init__(self) -> None:
        super().__init__("There is no upload under this key; ask for an address first.")


class UnknownAddress(UploadError):
    """The app has no such address."""

    status = 404
    code = "unknown-address"
    title = "There is no such address"

    def __init__(self) -> None:
        super().__init__("There is no such address here; there are s3put, s3get, complete, s3/params and s3/multipart.")


class CallbackFailed(UploadError):
    """The upload is complete, and the application could not be told."""

    status = 502
    code = "callback-failed"
    title = "The application could not be told"

    def __init__(self) -> None:
        super().__init__("The upload is complete, but the application does not answer. Complete it again later.")
