"""Factory of pools and upload managers from settings."""

from __future__ import annotations

from fileupload.errors import SettingError
from fileupload.manager import UploadManager
from fileupload.pool.base import Pool
from fileupload.settings import Settings


def make_pool(settings: Settings) -> Pool:
    """Return the pool of *settings*: in a directory, or in an object store.

    :raises SettingError: the settings name no pool, or two, or the pool cannot be used.
    """
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    # Imported on use: an object store needs boto3, which a directory does not.
    if settings.pool:
        from fileupload.pool.s3.store import open_pool

        return open_pool(settings)
    if not settings.directory:
        raise SettingError("setting 'directory' is missing; it must be the path of the pool's directory")
    from fileupload.pool.directory.pool import DirectoryPool

    return DirectoryPool(settings.directory, durable=settings.durable, min_free_space=settings.min_free_space or 0)


def make_manager(settings: Settings) -> UploadManager:
    """Return the upload manager of the pool of *settings*.

    :raises SettingError: the pool cannot be used.
    """
    return UploadManager(make_pool(settings), settings)
