"""Factory of pools and upload managers from settings."""

from __future__ import annotations

from typing import Any

from fileupload.errors import SettingError
from fileupload.manager import UploadManager
from fileupload.pool.base import Pool
from fileupload.settings import Settings


def make_pool(settings: Settings, *, read_only: bool = False) -> Pool:
    """Return the pool of *settings*: in a directory, or in an object store.

    :param read_only: create and write nothing; the caller must call no method that changes the pool.
    :raises SettingError: the settings name no pool, or two, or the pool cannot be used.
    """
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    # Imported on use: an object store needs boto3, which a directory does not.
    if settings.pool:
        from fileupload.pool.s3.store import open_pool as open_store_pool

        return open_store_pool(settings, read_only=read_only)
    if not settings.directory:
        raise SettingError("setting 'directory' is missing; it must be the path of the pool's directory")
    from fileupload.pool.directory.pool import DirectoryPool

    return DirectoryPool(
        settings.directory,
        durable=settings.durable,
        min_free_space=settings.min_free_space or 0,
        read_only=read_only,
    )


def make_manager(settings: Settings) -> UploadManager:
    """Return the upload manager of the pool of *settings*.

    :raises SettingError: the pool cannot be used.
    """
    return UploadManager(make_pool(settings), settings)


def open_pool(**settings: Any) -> UploadManager:
    """Return the upload manager of a pool, for a process that is no WSGI app, such as a worker or a script.

    It is what an app finds in ``environ['fileupload']``::

        uploads = open_pool(directory="/srv/uploads")
        bucket = uploads.find_bucket(bucket_id)    # or access_upload_bucket(identifier)

    :param settings: those of the middleware, of which the ones for the pool are needed.
    :raises SettingError: a setting is unknown or invalid, or the pool cannot be used.
    """
    return make_manager(Settings.parse(settings))
