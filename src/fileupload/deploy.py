"""Entry points of PasteDeploy, and the app of the dedicated upload server.

The applications are re-exported here: ``fileupload.deploy`` has every name that a deployment needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from wsgiref.types import WSGIApplication

from fileupload.apps.record_attachments.app import RecordAttachments
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.s3fileup.app import S3Fileup
from fileupload.apps.s3fileup.settings import S3FileupSettings
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
    "check_global_conf",
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


def check_global_conf(kind: type[Settings], global_conf: Mapping[str, str], local_conf: Mapping[str, str]) -> None:
    """Refuse settings of *kind* that are global in a Paste file.

    PasteDeploy drops a directive of a section if the name is also global: in ``[DEFAULT]``, by ``set`` in a section, or
    in the variables that a server passes. The component would start with another value than the one in its section. A
    directive ``get name = name`` is not dropped, and takes the global value.

    :param global_conf: the global names, as PasteDeploy passes them to a factory.
    :param local_conf: the directives of the section.
    :raises SettingError: a setting is global, and the section does not take it with ``get``.
    """
    for name in sorted(global_conf):
        if kind.owns(name) and name not in local_conf:
            raise SettingError(
                f"setting {name!r} is global here ([DEFAULT], 'set {name} = ...', or a variable of the server), which "
                f"hides it in the section of fileupload; give it in that section only, or write 'get {name} = {name}' "
                "there to use the global value"
            )


def _check(kind: type[Settings], global_conf: Mapping[str, str], local_conf: Mapping[str, str]) -> None:
    """Check the directives of a section, so that an invalid one stops the start before an app is loaded.

    :raises SettingError: a setting is global, unknown or invalid.
    """
    check_global_conf(kind, global_conf, local_conf)
    kind.parse(local_conf)


def filter_factory(global_conf: Mapping[str, str], /, **settings: str) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload``: the middleware, with the section's directives."""
    _check(Settings, global_conf, settings)
    return lambda app: UploadMiddleware(app, **settings)


def page_factory(global_conf: Mapping[str, str], /, **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#page``: the upload page, for use behind the filter.

    :raises SettingError: the section has a directive.
    """
    if settings:
        raise SettingError(
            f"egg:fileupload#page has no settings, and so no {min(settings)!r}; the settings of uploads belong to the "
            "filter in front of the page (use = egg:fileupload)"
        )
    return UploadPage()


def app_factory(global_conf: Mapping[str, str], /, **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload``: the dedicated upload server."""
    _check(Settings, global_conf, settings)
    return make_server_app(Settings.parse(settings))


def records_filter_factory(
    global_conf: Mapping[str, str], /, **settings: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload#records``: record attachments in front of an app."""
    _check(RecordSettings, global_conf, settings)
    return lambda app: RecordAttachments(app, **settings)


def attachments_filter(
    global_conf: Mapping[str, str], /, **settings: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return the factory of ``[filter:...] use = egg:fileupload#attachments``: session attachments before an app."""
    _check(SessionSettings, global_conf, settings)
    return lambda app: SessionAttachments(app, **settings)


def attachments_app(global_conf: Mapping[str, str], /, **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#attachments``: session attachments without an app."""
    _check(SessionSettings, global_conf, settings)
    return SessionAttachments(None, **settings)


def s3fileup_app(global_conf: Mapping[str, str], /, **settings: str) -> WSGIApplication:
    """Return the app of ``[app:...] use = egg:fileupload#s3fileup``: presigned URLs for uploads."""
    _check(S3FileupSettings, global_conf, settings)
    return S3Fileup(**settings)
