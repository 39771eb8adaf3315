"""Attachments, organised in bundles that belong to a session: what an app finds in ``fileupload.attachments``."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from fileupload.apps.session_attachments.bundle_index import (
    SESSIONS,
    BundleEntry,
    BundleFile,
    BundleIndex,
    read_entries,
)
from fileupload.apps.session_attachments.errors import BadBundleName
from fileupload.pool.base import Pool, is_stalled
from fileupload.pool.index import MAX_SEGMENT_BYTES
from fileupload.status import State, UploadStatus, seconds_of


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file in a bundle.

    :ivar name: as the client sent it, without folders.
    :ivar size: its bytes.
    :ivar mimetype: the media type that the client gave, or what the name tells.
    :ivar created: when it had arrived, in UTC.
    :ivar sha256: the hex digest of its bytes, or None with ``checksum = none``.
    """

    name: str
    size: int
    mimetype: str
    created: datetime
    sha256: str | None
    _stored: BundleFile = field(repr=False, compare=False)
    _replaced: tuple[BundleFile, ...] = field(repr=False, compare=False)

    @property
    def etag(self) -> str:
        """What changes with the bytes."""
        return self.sha256 or f"{self._stored.entry.name}-{self._stored.index}"

    def open(self) -> BinaryIO:
        """Return the file, opened for reading bytes; it stays readable when the attachment is replaced or removed.

        :raises FileMissing: it is not there any more.
        """
        return self._stored.bucket.open(self._stored.index)

    def move_to(self, path: str | os.PathLike[str]) -> None:
        """Move the file to *path*, where a file of that name is replaced; the bundle holds it no longer.

        :raises FileMissing: it is not there any more.
        :raises OSError: it could not be put there; it is still in the bundle.
        """
        self._stored.bucket.move_to(path, self._stored.index)
        self.delete()

    def delete(self) -> bool:
        """Remove it; False if somebody else did."""
        # What it has replaced goes first, so that it never comes back.
        for older in self._replaced:
            older.remove()
        return self._stored.remove()

    def to_json(self) -> dict[str, Any]:
        """Return what the client is told of it."""
        return {
            "name": self.name,
            "size": self.size,
            "mimetype": self.mimetype,
            "created": f"{self.created:%Y-%m-%d %H:%M}",
            "created_at": self.created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }


class Bundle:
    """The attachments of one purpose, such as a letter that is being written; of one name there is one."""

    def __init__(self, pool: Pool, session: str, name: str) -> None:
        """Take the bundle of that *name* in a *session*, which is a word of the pool's index."""
        self.name = name
        self.session = session
        self.index = BundleIndex(pool, (SESSIONS, session, name))

    def __iter__(self) -> Iterator[Attachment]:
        """Yield the attachments in the order of their arrival."""
        for stored in self._versions().values():
            yield _attachment(stored)

    def __len__(self) -> int:
        return len(self._versions())

    def get(self, name: str) -> Attachment | None:
        """Return the attachment of that *name*, or None."""
        stored = self._versions().get(name)
        return _attachment(stored) if stored else None

    def clear(self) -> list[bool]:
        """Remove all attachments; for each, False if somebody else did. Uploads that still run are not touched."""
        return [attachment.delete() for attachment in self]

    def remove_replaced(self) -> None:
        """Remove the files that later ones of the same name have replaced."""
        for stored in self._versions().values():
            for older in stored[:-1]:
                older.remove()

    def _versions(self) -> dict[str, list[BundleFile]]:
        """Return what is stored under each name, the oldest first."""
        versions: dict[str, list[BundleFile]] = {}
        for stored in self.index.files():
            name = stored.file.filename
            versions[name] = [*versions.pop(name, []), stored]
        return versions


def _attachment(versions: list[BundleFile]) -> Attachment:
    stored = versions[-1]
    return Attachment(
        name=stored.file.filename,
        size=stored.file.size,
        mimetype=stored.file.content_type,
        created=datetime.fromisoformat(stored.finished),
        sha256=stored.file.sha256,
        _stored=stored,
        _replaced=tuple(versions[:-1]),
    )


class SessionBundles:
    """The bundles of the session of a request.

    Whose session it is, is asked when a bundle is; a client who has none gets one then, by a cookie in the answer.
    """

    def __init__(self, pool: Pool, find_session: Callable[[], str]) -> None:
        """Take what finds the session, as a word of the pool's index."""
        self._pool = pool
        self._find_session = find_session

    def bundle(self, name: str) -> Bundle:
        """Return the bundle of that *name*, which may be empty.

        :raises BadBundleName: no bundle can have that name.
        :raises NoSession: the function of the setting ``session`` knows none.
        """
        if not _is_bundle_name(name):
            raise BadBundleName
        return Bundle(self._pool, self._find_session(), name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the bundles that hold something."""
        for bundle in bundles_of(self._pool, self._find_session()):
            if len(bundle):
                yield bundle.name

    def clear(self) -> None:
        """Remove the attachments of all bundles."""
        for bundle in bundles_of(self._pool, self._find_session()):
            bundle.clear()


def bundles_of(pool: Pool, session: str) -> list[Bundle]:
    """Return the bundles of a *session* of which the index says something, in the order of their names."""
    keys = pool.index.keys((SESSIONS, session))
    return [Bundle(pool, session, name) for name in sorted(key[2] for key in keys if len(key) == 3)]


def _is_bundle_name(name: str) -> bool:
    size = len(name.encode("utf-8", "surrogatepass"))
    plain = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
    return 1 <= size <= MAX_SEGMENT_BYTES and plain and "/" not in name and name not in {".", ".."}


def _is_current(status: UploadStatus, older_than: float) -> bool:
    """Tell whether an upload is running, or ended in the last *older_than* seconds."""
    if status.running:
        return not is_stalled(status, older_than)
    return status.finished is not None and seconds_of(status.finished) > time.time() - older_than


def remove_outdated(pool: Pool, older_than: float, *, dry_run: bool = False) -> Iterator[str]:
    """Remove what arrived more than *older_than* seconds ago, of all sessions; yield the ids of its buckets.

    An upload that still runs is not touched, unless it is stalled. Neither is a bucket that is another application's,
    or another session's: of that, only what the index says here is removed.
    """
    limit = time.time() - older_than
    outdated: list[tuple[BundleIndex, BundleEntry]] = []
    kept = set()  # a client may have sent an upload once more, under the same identifier
    for key in pool.index.keys((SESSIONS,)):
        for entry in read_entries(pool.index.names(key)):
            if entry.moment > limit:
                kept.add(entry.bucket_id)
            else:
                outdated.append((BundleIndex(pool, key), entry))
    for place, entry in outdated:
        status = pool.bucket(entry.bucket_id).get_status()
        if entry.bucket_id in kept:
            if not dry_run:
                place.forget(entry)
        elif place.owns(entry, status) and _is_current(status, older_than):
            continue
        elif status.state is not State.UNKNOWN and place.owns(entry, status) if dry_run else place.remove(entry):
            yield entry.bucket_id
            kept.add(entry.bucket_id)
