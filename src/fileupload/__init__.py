"""File uploads for WSGI applications: a middleware, a dedicated upload server, and apps on top of uploads."""

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
