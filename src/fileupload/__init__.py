"""File uploads for WSGI applications: a middleware, a dedicated upload server, and apps on top of uploads.

The public names are imported when they are used (PEP 562): ``import fileupload`` loads none of the modules below it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fileupload.apps.record_attachments.app import RecordAttachments
    from fileupload.apps.s3fileup.app import S3Fileup
    from fileupload.apps.session_attachments.app import SessionAttachments
    from fileupload.apps.session_attachments.bundles import Bundle
    from fileupload.errors import FileMissing, InvalidIdentifier, SettingError, UploadError
    from fileupload.factory import open_pool
    from fileupload.manager import UploadManager
    from fileupload.middleware import UploadMiddleware
    from fileupload.pool.base import Bucket
    from fileupload.settings import Settings
    from fileupload.status import State, UploadedFile, UploadStatus

__all__ = [
    "Bucket",
    "Bundle",
    "FileMissing",
    "InvalidIdentifier",
    "RecordAttachments",
    "S3Fileup",
    "SessionAttachments",
    "SettingError",
    "Settings",
    "State",
    "UploadError",
    "UploadManager",
    "UploadMiddleware",
    "UploadStatus",
    "UploadedFile",
    "open_pool",
]

_MODULES = {
    "Bucket": "pool.base",
    "Bundle": "apps.session_attachments.bundles",
    "FileMissing": "errors",
    "InvalidIdentifier": "errors",
    "RecordAttachments": "apps.record_attachments.app",
    "S3Fileup": "apps.s3fileup.app",
    "SessionAttachments": "apps.session_attachments.app",
    "SettingError": "errors",
    "Settings": "settings",
    "State": "status",
    "UploadError": "errors",
    "UploadManager": "manager",
    "UploadMiddleware": "middleware",
    "UploadStatus": "status",
    "UploadedFile": "status",
    "open_pool": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # the next access finds it without a call
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
