"""The attachments of a session, in bundles: the API that an app finds in ``environ['fileupload.attachments']``."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from fileupload import clocks
from fileupload.apps.session_attachments.bundle_index import (
    SESSIONS,
    BundleEntry,
    BundleFile,
    BundleIndex,
    read_entries,
)
from fileupload.apps.session_attachments.errors import BadBundleName
from fileupload.pool.base import Bucket, Pool, is_stalled
from fileupload.pool.index import MAX_SEGMENT_BYTES
from fileupload.status import State, UploadStatus, seconds_of


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file in a bundle.

    :ivar name: the name that the client sent, without folders.
    :ivar size: in bytes.
    :ivar mimetype: the media type that the client sent, or a guess from the name.
    :ivar created: when the upload was finished, in UTC.
    :ivar sha256: the hex digest of the content, or None with ``checksum = none``.
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
        """A strong entity tag, without quotes; it changes with the content."""
        return self.sha256 or f"{self._stored.entry.name}-{self._stored.index}"

    def open(self) -> BinaryIO:
        """Open the file for reading bytes; it stays readable when the attachment is replaced or removed.

        :raises FileMissing: the file is gone.
        """
        return self._stored.bucket.open(self._stored.index)

    def move_to(self, path: str | os.PathLike[str]) -> None:
        """Move the file out of the bundle to *path*; an existing file there is replaced.

        :raises FileMissing: the file is gone.
        :raises OSError: it cannot be written to *path*; it is still in the bundle.
        """
        self._stored.bucket.move_to(path, self._stored.index)
        self.delete()

    def delete(self) -> bool:
        """Remove the attachment; return False if another request has removed it."""
        # Replaced files are removed first: after a crash in between, an older file must not reappear under the name.
        for older in self._replaced:
            older.remove()
        return self._stored.remove()

    def to_json(self) -> dict[str, Any]:
        """Return the attachment as a JSON object, as the HTTP interface lists it."""
        return {
            "name": self.name,
            "size": self.size,
            "mimetype": self.mimetype,
            "created": f"{self.created:%Y-%m-%d %H:%M}",
            "created_at": self.created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }


class Bundle:
    """The attachments of one purpose, such as a letter that is being written. Their names are unique.

    ::

        bundle = environ["fileupload.attachments"].bundle("letter")
        for attachment in bundle:
            attachment.move_to(folder / attachment.name)
    """

    def __init__(self, pool: Pool, session: str, name: str) -> None:
        """Open a bundle.

        :param session: the session, as a segment of a key in the pool's index.
        """
        self.name = name
        self.session = session
        self.index = BundleIndex(pool, (SESSIONS, session, name))

    def __iter__(self) -> Iterator[Attachment]:
        """Yield the attachments, the oldest first."""
        for stored in self._versions().values():
            yield _attachment(stored)

    def __len__(self) -> int:
        return len(self._versions())

    def get(self, name: str) -> Attachment | None:
        """Return the attachment with this *name*, or None."""
        stored = self._versions().get(name)
        return _attachment(stored) if stored else None

    def clear(self) -> list[bool]:
        """Remove all attachments; running uploads are not touched.

        :return: for each attachment, False if another request has removed it.
        """
        return [attachment.delete() for attachment in self]

    def remove_replaced(self) -> None:
        """Remove the files that later uploads of the same name have replaced."""
        for stored in self._versions().values():
            for older in stored[:-1]:
                older.remove()

    def _versions(self) -> dict[str, list[BundleFile]]:
        """Return the stored files by name, of each name the oldest first."""
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
    """The bundles of a request's session.

    The session is determined when a method first needs it; a client without a session then gets a new one, by a session
    cookie in the answer.
    """

    def __init__(self, pool: Pool, find_session: Callable[[], str]) -> None:
        """Open the bundles of a session.

        :param find_session: returns the session, as a segment of a key in the pool's index.
        """
        self._pool = pool
        self._find_session = find_session

    def bundle(self, name: str) -> Bundle:
        """Return the bundle with this *name*, which may be empty.

        :raises BadBundleName: the name is not allowed.
        :raises NoSession: the function in the setting ``session`` has returned no session.
        """
        if not _is_bundle_name(name):
            raise BadBundleName
        return Bundle(self._pool, self._find_session(), name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the bundles that are not empty."""
        for bundle in bundles_of(self._pool, self._find_session()):
            if len(bundle):
                yield bundle.name

    def clear(self) -> None:
        """Remove the attachments of all bundles."""
        for bundle in bundles_of(self._pool, self._find_session()):
            bundle.clear()


def bundles_of(pool: Pool, session: str) -> list[Bundle]:
    """Return the bundles of a *session* that have entries in the index, ordered by name."""
    keys = pool.index.keys((SESSIONS, session))
    return [Bundle(pool, session, name) for name in sorted(key[2] for key in keys if len(key) == 3)]


def _is_bundle_name(name: str) -> bool:
    size = len(name.encode("utf-8", "surrogatepass"))
    plain = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
    return 1 <= size <= MAX_SEGMENT_BYTES and plain and "/" not in name and name not in {".", ".."}


def _is_current(bucket: Bucket, status: UploadStatus, older_than: float, *, correct: bool) -> bool:
    """Return whether an upload is running, or ended in the last *older_than* seconds."""
    if status.running:
        return not is_stalled(status, older_than)
    if status.finished is None:
        return False
    finished = seconds_of(status.finished)
    age = bucket.idle(correct=correct) if clocks.is_far_ahead(finished) else clocks.age_of(finished)
    return age < older_than


def remove_outdated(pool: Pool, older_than: float, *, dry_run: bool = False) -> Iterator[str]:
    """Remove the attachments of all sessions that arrived more than *older_than* seconds ago; yield their bucket ids.

    Running uploads are not touched, unless they are stalled. A bucket that belongs to another application or session is
    not removed either, only its entry here.
    """
    outdated: list[tuple[BundleIndex, BundleEntry]] = []
    kept = set()  # buckets with a younger entry: a client may send another upload with the same identifier
    for key in pool.index.keys((SESSIONS,)):
        for entry in read_entries(pool.index.names(key)):
            if clocks.age_of(entry.moment) < older_than and not clocks.is_far_ahead(entry.moment):
                kept.add(entry.bucket_id)
            else:
                outdated.append((BundleIndex(pool, key), entry))
    for index, entry in outdated:
        bucket = pool.bucket(entry.bucket_id)
        status = bucket.get_status()
        if entry.bucket_id in kept:
            if not dry_run:
                index.forget(entry)
        elif index.owns(entry, status) and _is_current(bucket, status, older_than, correct=not dry_run):
            continue
        elif (
            status.state is not State.UNKNOWN and index.owns(entry, status)
            if dry_run
            else index.remove(entry, seen=status)
        ):
            yield entry.bucket_id
            kept.add(entry.bucket_id)
