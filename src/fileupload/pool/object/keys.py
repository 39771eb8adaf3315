"""Names of the keys in an object pool. ``bucket_store`` says which process writes which key, and when.

::

    <prefix>/.upload_key                    the signing keys, if the settings have none
    <prefix>/turns/<name>-<number>          an interval lease
    <prefix>/refused/<slot>                 uploads that were refused before their first byte
    <prefix>/index/…                        the index
    <prefix>/b/ab12…/                       one bucket
        a/<order>-<token>                   the marker of an attempt: its first status
        p/<token>                           the last status of an attempt: running, suspended or failed
        f/<data>/0, 1, …                    the files of an attempt
        d                                   the status of the finished upload
        k                                   exempts the upload from purging
        x                                   a process clears the bucket
"""

from __future__ import annotations

import re

from fileupload.identifiers import is_id

MARKERS, DONE, KEPT, CLEARING = "a/", "d", "k", "x"
BUCKETS = "b/"

_FILE_KEY = re.compile(r"b/(?P<id>[0-9a-f]{32})/f/[0-9A-Za-z_-]+/[0-9A-Za-z_.-]+", re.ASCII)


def bucket_prefix(prefix: str, bucket_id: str) -> str:
    """Return what all keys of a bucket begin with.

    :param prefix: what all keys of the pool begin with.
    :raises ValueError: *bucket_id* is not the id of a bucket.
    """
    if not is_id(bucket_id):
        raise ValueError("not the id of a bucket")
    return f"{prefix}{BUCKETS}{bucket_id}/"


def bucket_id_of_file(prefix: str, key: str) -> str | None:
    """Return the id of the bucket that has the file *key*; None if it is not the key of a file."""
    match = _FILE_KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    return match["id"] if match else None


def attempt_id_of(marker: str) -> str:
    """Return the name (the token) of the attempt whose marker has this key."""
    return marker.rpartition("-")[2]


def data_prefix_of(token: str) -> str:
    """Return the name under which the files of an attempt are stored.

    An attempt that continues another one has a token of its own, ``<random>_<data>``, and uses the files of the first.
    """
    return token.rpartition("_")[2]
