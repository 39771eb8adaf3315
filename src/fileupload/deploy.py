"""Entry points of PasteDeploy, and the app of the dedicated upload server.

The applications are re-exported here: ``fileupload.deploy`` has every name that a deployment needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from wsgiref.types import WSGIApplication

from fileupload.apps.record_attachments.app import RecordAttachments
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.s3fileup.app import S3Fileup
from fileupload.apps.session_attachments.app import SessionAttachments
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.apps.upload_page.app import UploadPage
from fileupload.errors import SettingError
from fileupload.factory import make_manager, make_pool
from fileupload.middleware import UploadMiddleware
from fileupload.settings import Settings

__all__ = [
    "RecordAttachments",
    "S3Fileup",
    "SessionAttachments",
    "UploadMiddleware",
    "UploadPage",
    "app_factory",
    "attachments_app",
    "attachments_filter",
    "filter_factory",
    "make_manager",
    "make_pool",
    "make_server_app",
    "page_factory",
    "records_filter_factory",
    "s3fileup_app",
]


def make_server_app(settings: Settings) -> WSGIApplication:
    """Return the app of a dedicated upload server: the upload page, wrapped in the middleware.

    :raises SettingError: the pool cannot be used.
    """
    if settings.upload_url:
        raise SettingError("setting 'upload_url' belongs to the apps that use this server, not to the server itself")
    # The page is for files. An app with forms in which a file may be left out, and this server, sets it to false.
    settings = replace(settings, require_file=settings.require_file is not False)
    return UploadMiddleware.from_manager(UploadPage(), make_manager(settings))


def filter_factory(global_conf: dict[str, str], **settings: str) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload``: the middleware, with the section's directives."""
    Settings.parse(settings)  # an invalid directive stops the start before the app is loaded
    return lambda app: UploadMiddleware(app, **settings)


def page_factory(global_conf: dict[str, str]) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#page``: the upload page, for use behind the filter."""
    return UploadPage()


def app_factory(global_conf: dict[str, str], **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload``: the dedicated upload server."""
    return make_server_app(Settings.parse(settings))


def records_filter_factory(
    global_conf: dict[str, str], **settings: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload#records``: record attachments in front of an app."""
    RecordSettings.parse(settings)
    return lambda app: RecordAttachments(app, **settings)


def attachments_filter(global_conf: dict[str, str], **settings: str) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload#attachments``: session attachments before an app."""
    SessionSettings.parse(settings)
    return lambda app: SessionAttachments(app, **settings)


def attachments_app(global_conf: dict[str, str], **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#attachments``: session attachments without an app."""
    return SessionAttachments(None, **settings)


def s3fileup_app(global_conf: dict[str, str], **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#s3fileup``: presigned URLs for uploads."""
    return S3Fileup(**settings)
