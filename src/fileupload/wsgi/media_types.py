"""Guesses of media types by the extension of a filename; those of images are the same on every platform."""

from __future__ import annotations

import mimetypes
import os

DEFAULT_TYPE = "application/octet-stream"

# Types that not every version of Python, and not every system, knows by their extension.
_TYPES = {
    **{".webp": "image/webp", ".avif": "image/avif", ".heic": "image/heic", ".heif": "image/heif"},
    **{".jfif": "image/jpeg", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg"},
    **{".tif": "image/tiff", ".tiff": "image/tiff", ".bmp": "image/bmp", ".svg": "image/svg+xml"},
    **{".png": "image/png", ".gif": "image/gif"},
}
# The type of a compressed file is that of the compression: an image within it is no image.
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def guess_type(filename: str) -> str:
    """Return the media type that belongs to the extension of *filename*, or :data:`DEFAULT_TYPE`.

    >>> guess_type("IMG_0001.HEIC"), guess_type("photos.tar.gz")
    ('image/heic', 'application/gzip')
    """
    extension = os.path.splitext(filename)[1].lower()
    if extension in _TYPES:
        return _TYPES[extension]
    # The name must not be read as a URL such as `data:…`, and only its extension matters.
    kind, compression = mimetypes.guess_type("file" + extension)
    if compression is not None:
        return _COMPRESSED.get(compression, DEFAULT_TYPE)
    return kind or DEFAULT_TYPE
