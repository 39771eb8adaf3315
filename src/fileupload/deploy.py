"""Paste factories, and the middleware with keywords: the one place that builds a pool from settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fileupload.apps.record_attachments.app import RecordFilter
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.s3fileup.app import S3FileupApp
from fileupload.apps.s3fileup.settings import S3FileupSettings
from fileupload.apps.session_attachments.app import AttachmentsMiddleware
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.apps.upload_page.app import UploadPage
from fileupload.errors import SettingError
from fileupload.manager import UploadManager
from fileupload.middleware import Middleware
from fileupload.pool.base import Pool
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.s3 import store as s3
from fileupload.settings import Settings
from fileupload.wsgi.responses import WSGIApp


def make_pool(settings: Settings) -> Pool:
    """Return the pool that *settings* name.

    :raises SettingError: none is named, or it cannot be used.
    """
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    if settings.pool:
        return s3.open_pool(settings)
    if not settings.directory:
        raise SettingError("setting 'directory' is missing; it must be the path of the pool's folder")
    return DirectoryPool(settings.directory, durable=settings.durable, min_free_space=settings.min_free_space)


def make_manager(settings: Settings) -> UploadManager:
    """Return the manager of the pool that *settings* name.

    :raises SettingError: the pool cannot be used.
    """
    return UploadManager(make_pool(settings), settings)


class UploadMiddleware(Middleware):
    """Takes uploads off a WSGI app: ``app = UploadMiddleware(app, directory="/srv/uploads")``."""

    def __init__(self, app: WSGIApp, **settings: Any) -> None:
        """Stand in front of *app*, with the *settings* of :class:`fileupload.settings.Settings`.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
        """
        super().__init__(app, make_manager(Settings.parse(settings)))


class RecordAttachments(RecordFilter):
    """Attaches files to the records of a REST app: ``app = RecordAttachments(app, directory="/srv/uploads")``."""

    def __init__(self, app: WSGIApp, **settings: Any) -> None:
        """Stand in front of *app*, with the *settings* of :class:`RecordSettings`.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
        """
        parsed = RecordSettings.parse(settings)
        super().__init__(app, make_manager(parsed), parsed)


class SessionAttachments(AttachmentsMiddleware):
    """Keeps attachments for the clients of a WSGI app: ``app = SessionAttachments(app, directory="/srv/uploads")``."""

    def __init__(self, app: WSGIApp | None = None, **settings: Any) -> None:
        """Stand in front of *app*, with the *settings* of :class:`SessionSettings`; without one, answer alone.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
        """
        parsed = SessionSettings.parse(settings)
        super().__init__(app, make_manager(parsed), parsed)


class S3Fileup(S3FileupApp):
    """Gives signed addresses for uploads straight into the pool: ``app = S3Fileup(pool="s3://my-bucket/uploads")``."""

    def __init__(self, **settings: Any) -> None:
        """Answer alone, with the *settings* of :class:`S3FileupSettings`.

        :raises SettingError: a setting is unknown or wrong, or the pool cannot be used.
        """
        parsed = S3FileupSettings.parse(settings)
        super().__init__(make_manager(parsed), parsed)


def make_server_app(settings: Settings) -> WSGIApp:
    """Return the app of a dedicated upload server: its page, behind the middleware.

    :raises SettingError: the pool cannot be used.
    """
    if settings.upload_url:
        raise SettingError("setting 'upload_url' belongs to the apps that use this server, not to the server itself")
    return Middleware(UploadPage(), make_manager(settings))


def filter_factory(global_conf: dict[str, str], **settings: str) -> Callable[[WSGIApp], WSGIApp]:
    """``[filter:...] use = egg:fileupload``: the middleware, with the section's directives."""
    parsed = Settings.parse(settings)
    return lambda app: Middleware(app, make_manager(parsed))


def page_factory(global_conf: dict[str, str]) -> WSGIApp:
    """``[app:...] use = egg:fileupload#page``: the page of the server, for use behind the filter."""
    return UploadPage()


def app_factory(global_conf: dict[str, str], **settings: str) -> WSGIApp:
    """``[app:...] use = egg:fileupload``: the dedicated upload server, with the section's directives."""
    return make_server_app(Settings.parse(settings))


def records_filter_factory(global_conf: dict[str, str], **settings: str) -> Callable[[WSGIApp], WSGIApp]:
    """``[filter:...] use = egg:fileupload#records``: files attached to the records of the app behind."""
    parsed = RecordSettings.parse(settings)
    return lambda app: RecordFilter(app, make_manager(parsed), parsed)


def attachments_filter(global_conf: dict[str, str], **settings: str) -> Callable[[WSGIApp], WSGIApp]:
    """``[filter:...] use = egg:fileupload#attachments``: session attachments, with the section's directives."""
    parsed = SessionSettings.parse(settings)
    return lambda app: AttachmentsMiddleware(app, make_manager(parsed), parsed)


def attachments_app(global_conf: dict[str, str], **settings: str) -> WSGIApp:
    """``[app:...] use = egg:fileupload#attachments``: session attachments alone."""
    return SessionAttachments(None, **settings)


def s3fileup_app(global_conf: dict[str, str], **settings: str) -> WSGIApp:
    """``[app:...] use = egg:fileupload#s3fileup``: signed addresses for uploads, with the section's directives."""
    return S3Fileup(**settings)
