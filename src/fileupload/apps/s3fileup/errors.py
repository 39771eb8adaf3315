"""Errors of the app, beside those of all uploads."""

from __future__ import annotations

from fileupload.errors import UploadError


class NotAuthorized(UploadError):
    """The client is not authorised, by REMOTE_USER or by the settings ``authorize`` or ``anonymous``."""

    status = 403
    code = "not-authorized"
    title = "Not authorised to upload"

    def __init__(self) -> None:
        super().__init__("You may not upload here. Log in first. (REMOTE_USER is empty; see the setting authorize.)")


class UnknownKey(UploadError):
    """The key names no upload of this app."""

    status = 404
    code = "unknown-key"
    title = "There is no such upload"

    def __init__(self) -> None:
        super().__init__("There is no upload with this key; begin one first.")


class UnknownAddress(UploadError):
    """The address does not exist in the app."""

    status = 404
    code = "unknown-address"
    title = "There is no such address"

    def __init__(self) -> None:
        super().__init__("Use one of the addresses s3put, s3get, complete, s3/params and s3/multipart.")


class CallbackFailed(UploadError):
    """The upload is complete, but its webhook could not be delivered."""

    status = 502
    code = "callback-failed"
    title = "The application does not answer"

    def __init__(self) -> None:
        super().__init__("The upload is complete, but the application does not answer. Complete it again later.")
