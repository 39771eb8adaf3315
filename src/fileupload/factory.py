"""Builds pools and managers from settings."""

from __future__ import annotations

from fileupload.errors import SettingError
from fileupload.manager import UploadManager
from fileupload.pool.base import Pool
from fileupload.settings import Settings


def make_pool(settings: Settings) -> Pool:
    """Return the pool that *settings* name: a directory, or a place in an object store.

    :raises SettingError: none is named, or it cannot be used.
    """
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    # Each kind is imported where it is used: an object store needs much that a directory does not.
    if settings.pool:
        from fileupload.pool.s3.store import open_pool

        return open_pool(settings)
    if not settings.directory:
        raise SettingError("setting 'directory' is missing; it must be the path of the pool's folder")
    from fileupload.pool.directory.pool import DirectoryPool

    return DirectoryPool(settings.directory, durable=settings.durable, min_free_space=settings.min_free_space)


def make_manager(settings: Settings) -> UploadManager:
    """Return the manager of the pool that *settings* name.

    :raises SettingError: the pool cannot be used.
    """
    return UploadManager(make_pool(settings), settings)
