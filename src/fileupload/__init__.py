"""Takes file uploads off any WSGI application, and serves them on their own."""

from fileupload.deploy import RecordAttachments, SessionAttachments, UploadMiddleware
from fileupload.errors import FileMissing, InvalidIdentifier, SettingError, UploadError
from fileupload.manager import UploadManager
from fileupload.pool.base import Bucket
from fileupload.settings import Settings
from fileupload.status import State, UploadedFile, UploadStatus

__all__ = [
    "Bucket",
    "FileMissing",
    "InvalidIdentifier",
    "RecordAttachments",
    "SessionAttachments",
    "SettingError",
    "Settings",
    "State",
    "UploadError",
    "UploadManager",
    "UploadMiddleware",
    "UploadStatus",
    "UploadedFile",
]
