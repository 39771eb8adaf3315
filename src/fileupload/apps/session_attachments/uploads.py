"""Take uploads into bundles, within the limits of bundle and session.

An upload goes through three facts, each visible to all: announced, done, accepted. A request that is done looks at all
others before its upload is accepted, and all that are accepted were done before they looked: so the last of them saw
the others, and no number of parallel uploads leaves more than the limits allow.

An upload is announced once its first byte has come. A request that is refused before, or because the upload under that
identifier is done, writes nothing into the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fileupload.apps.session_attachments.bundle_index import SESSIONS, BundleEntry, session_owner
from fileupload.apps.session_attachments.bundles import Attachment, Bundle, bundles_of
from fileupload.apps.session_attachments.errors import BadName
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.errors import AlreadyDone, LimitExceeded, Superseded, TooLarge, UploadError
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.protocols.registry import open_upload, receive
from fileupload.protocols.upload_request import FileFilter, UploadRequest
from fileupload.status import State, UploadedFile, UploadStatus
from fileupload.wsgi.request import identifier_of

_TIMEOUT = 5.0  # seconds to wait for an upload that has arrived at the same time, and may have to give way
_POLL_INTERVAL = 0.02


class _BundleGate(FileFilter):
    """Announces the upload, and refuses a plain body without a name.

    A file of a form without a name may be an input that was left empty.

    :ivar entry: of the upload; None before it is announced.
    """

    def __init__(self, bundle: Bundle, reserve: Callable[[Bundle, BundleEntry, UploadRequest], None]) -> None:
        """Take what refuses an upload that has no room beside others."""
        self.entry: BundleEntry | None = None
        self._bundle = bundle
        self._reserve = reserve

    def begin(self, request: UploadRequest) -> None:
        """Announce the upload in the index, before its attempt begins."""
        self.entry = self._bundle.index.announce(request.claims.id, _declared(request))
        self._reserve(self._bundle, self.entry, request)

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        if not field and not filename:
            raise BadName


@dataclass(frozen=True)
class _Reservation:
    """Room that is taken, or that an upload asks for.

    :ivar place: the bundle, and the one file or upload in it; of several claims to one place the largest counts.
    :ivar committed: whether it goes before that of the upload that asks.
    """

    place: tuple[str, str]
    files: int
    size: int
    committed: bool


class AttachmentUploads:
    """Takes the uploads of all sessions."""

    def __init__(self, manager: UploadManager, settings: SessionSettings) -> None:
        self._manager = manager
        self._pool = manager.pool
        self._limits = settings
        sizes = filter(None, (settings.max_size, settings.max_bundle_size, settings.max_session_size))
        self._settings = replace(settings, max_size=min(sizes, default=0))

    def receive(self, environ: dict[str, Any], query: dict[str, str], bundle: Bundle) -> list[Attachment]:
        """Take the upload of a request into *bundle*; return the attachments that it has made.

        :raises UploadError: it is refused, or failed, and left nothing but the status that says so to a client who
            has given an identifier.
        """
        given = identifier_of(environ, query)
        identifier = given or self._manager.create_identifier()
        file_filter = _BundleGate(bundle, self._reserve)
        owner = session_owner(bundle.session)
        upload = open_upload(
            environ, query, self._manager, identifier, settings=self._settings, file_filter=file_filter, owner=owner
        )
        status = None
        try:
            status = receive(upload)
            assert file_filter.entry is not None
            self._accept(bundle, file_filter.entry, status)
        except BaseException as error:
            if file_filter.entry is not None:
                with suppress(OSError):  # what then stays is found by its entry
                    self._abandon(bundle, file_filter.entry, upload, bool(given), status, error)
            raise
        with suppress(OSError):  # what is replaced is not shown, and goes with the next upload
            bundle.remove_replaced()
        names = {file.filename for file in status.files}
        return [attachment for attachment in bundle if attachment.name in names]

    def _reserve(self, bundle: Bundle, entry: BundleEntry, upload: UploadRequest) -> None:
        """Refuse an upload that cannot have room beside those of the session that began before.

        :raises TooLarge: it has none.
        """
        limit = self._limits.max_session_size
        places = [other.index for other in bundles_of(self._pool, bundle.session)] if limit else []
        begun = [(place, other) for place in places for other in place.entries() if other.acceptance is None]
        before = [(place, other) for place, other in begun if other.rank < entry.rank]
        left = limit - entry.declared
        if not before or sum(other.declared for _, other in before) <= left:
            return
        if sum(other.declared for place, other in before if place.is_expected(other)) > left:
            raise TooLarge(
                f"Uploads that run at the same time may have {format_size(limit)} together; try again later."
            )

    def _accept(self, bundle: Bundle, entry: BundleEntry, status: UploadStatus) -> None:
        """Make a finished upload's files attachments.

        :raises BadName: one has no name.
        :raises TooLarge, LimitExceeded: they have no room in the bundle or in the session.
        """
        if not all(file.filename for file in status.files):
            raise BadName
        deadline = time.monotonic() + _TIMEOUT
        swept = False
        while True:
            claims = [*_claims(bundle, entry, status.files, committed=True), *self._others(bundle, entry, status)]
            if (refusal := self._refusal(bundle, claims)) is None:
                bundle.index.accept(entry, status)
                return
            # Of two that have no room together the earlier one stays: it waits until the later one has given way.
            if self._refusal(bundle, (claim for claim in claims if claim.committed)) or time.monotonic() > deadline:
                if swept:
                    raise refusal
                self._collect_abandoned(bundle.session)
                swept = True
            else:
                time.sleep(_POLL_INTERVAL)

    def _collect_abandoned(self, session: str) -> None:
        """Look at each upload of the session, so that none counts which is gone."""
        for bundle in bundles_of(self._pool, session):
            bundle.index.files()

    def _others(self, bundle: Bundle, entry: BundleEntry, status: UploadStatus) -> Iterator[_Reservation]:
        """Yield what the session's other uploads take, but for what *entry* replaces."""
        replaced = {file.filename for file in status.files}
        for place in bundles_of(self._pool, bundle.session):
            for other in place.index.entries():
                earlier = other.rank < entry.rank
                committed = earlier or other.acceptance is not None
                if other.rank == entry.rank:
                    continue
                if other.acceptance is not None and place.name != bundle.name:
                    yield _Reservation((place.name, other.bucket_id), other.files, other.size, committed)
                elif (found := place.index.status_of(other)) is not None:
                    files = (file for index, file in enumerate(found.files) if index not in other.removed)
                    stay = [
                        file
                        for file in files
                        if place.name != bundle.name or not earlier or file.filename not in replaced
                    ]
                    yield from _claims(place, other, stay, committed=committed)

    def _refusal(self, bundle: Bundle, claims: Iterable[_Reservation]) -> UploadError | None:
        """Return what is wrong where *claims* have no room together."""
        places: dict[tuple[str, str], _Reservation] = {}
        for claim in claims:
            if claim.place not in places or places[claim.place].size < claim.size:
                places[claim.place] = claim
        in_bundle = [claim for claim in places.values() if claim.place[0] == bundle.name]
        limits = self._limits
        return _over("A bundle", in_bundle, limits.max_bundle_size, limits.max_bundle_files) or _over(
            "All bundles together", list(places.values()), limits.max_session_size, limits.max_session_files
        )

    def _abandon(
        self,
        bundle: Bundle,
        entry: BundleEntry,
        upload: UploadRequest,
        given: bool,
        status: UploadStatus | None,
        error: BaseException,
    ) -> None:
        """Remove what an upload has left that was not accepted."""
        bucket_id = upload.claims.id

        def is_own(found: UploadStatus) -> bool:
            same = status is None or found.finished == status.finished
            return same and found.owner == upload.owner and not found.kept

        if status is not None or not given:
            self._pool.clear(bucket_id, condition=is_own)
        if given and status is not None and isinstance(error, UploadError):
            self._pool.record_refusal(bucket_id, upload.first_status().failed(error))
        elif given and not isinstance(error, (AlreadyDone, Superseded)):
            # The client may ask why the attempt failed; that this is kept for it, expiry has to know. Of a refusal,
            # which is no attempt, and of what another application has begun meanwhile, expiry must not know.
            found = self._pool.bucket(bucket_id).get_status()
            if found.attempt and found.state is not State.DONE and is_own(found):
                self._pool.index.put((SESSIONS, bundle.session), entry.name)
        bundle.index.forget(entry)


def _declared(upload: UploadRequest) -> int:
    """Return the most bytes that may come, as far as that is known."""
    limit, length = upload.policy.max_size, upload.body.length
    return min((size for size in (limit, length) if size is not None), default=0)


def _claims(
    bundle: Bundle, entry: BundleEntry, files: Iterable[UploadedFile], *, committed: bool
) -> list[_Reservation]:
    last = {file.filename: file for file in files}
    return [_Reservation((bundle.name, name), 1, file.size, committed) for name, file in last.items()]


def _over(what: str, claims: list[_Reservation], max_size: int, max_files: int) -> UploadError | None:
    if max_size and sum(claim.size for claim in claims) > max_size:
        return TooLarge(f"{what} may hold at most {format_size(max_size)}; nothing of this upload was kept.")
    if sum(claim.files for claim in claims) > max_files:
        return LimitExceeded(f"{what} may hold at most {max_files} files; nothing of this upload was kept.")
    return None
