"""Receiving of uploads into bundles, within the quotas of bundle and session.

An upload passes three states, each visible to all processes: announced (an entry in the index), done (the status of
its bucket), accepted (a second name in the index). A request first makes its upload done, then reads the state of all
other uploads of the session, then accepts its own. Of two uploads of one session that finish at the same time, at least
the one that reads last sees the other. Of two that do not fit together the later one gives way, so no number of
concurrent uploads exceeds the quotas.

An upload is announced after its first byte has arrived. A request that is refused earlier, or because the upload with
its identifier is done, writes nothing into the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fileupload.apps.session_attachments.bundle_index import SESSIONS, BundleEntry, session_owner
from fileupload.apps.session_attachments.bundles import Attachment, Bundle, bundles_of
from fileupload.apps.session_attachments.errors import BadName, PreconditionFailed
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.errors import AlreadyDone, LimitExceeded, Superseded, TooLarge, UploadError
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.numbered_names import numbered_names
from fileupload.protocols.registry import open_upload, receive
from fileupload.protocols.upload_request import FileFilter, UploadRequest
from fileupload.settings import least
from fileupload.status import State, UploadedFile, UploadStatus
from fileupload.wsgi.conditional_requests import Preconditions
from fileupload.wsgi.request import Request

_TIMEOUT = 5.0  # seconds to wait until a later, concurrent upload gives way
_POLL_INTERVAL = 0.02  # seconds
_UNCONDITIONAL = Preconditions()


class _BundleFilter(FileFilter):
    """Announces the upload when it begins, and refuses a plain body without a name.

    A file of a form without a name is accepted for now: it may be an empty file input.

    :ivar entry: the entry of the upload; None until it is announced.
    """

    def __init__(
        self,
        bundle: Bundle,
        reserve: Callable[[Bundle, BundleEntry, UploadRequest], None],
        preconditions: Preconditions,
    ) -> None:
        """Announce uploads in *bundle*.

        :param reserve: raises UploadError if the upload does not fit beside the running ones.
        :param preconditions: the conditions on each file that the upload would replace.
        """
        self.entry: BundleEntry | None = None
        self._preconditions = preconditions
        self._bundle = bundle
        self._reserve = reserve

    def begin(self, request: UploadRequest) -> None:
        """Announce the upload in the index, before its attempt begins."""
        self.entry = self._bundle.index.announce(request.claims.id, _declared(request))
        self._reserve(self._bundle, self.entry, request)

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        if not field and not filename:
            raise BadName
        # Before the content arrives; they are checked again when it is complete.
        if self._preconditions and filename:
            _check_preconditions(self._bundle, [filename], self._preconditions)

    def name_files(self, names: Sequence[str]) -> Sequence[str]:
        """Number the files of one form that have the same name: a bundle has one file of each name."""
        return numbered_names(names)


@dataclass(frozen=True)
class _Reservation:
    """A part of the quota that one file, or one upload, uses.

    :ivar target: the bundle, and the file or the upload in it; of several reservations for one target the largest
        counts.
    :ivar files: the number of files.
    :ivar size: their bytes.
    :ivar committed: whether it has priority over the upload that is being accepted.
    """

    target: tuple[str, str]
    files: int
    size: int
    committed: bool


class AttachmentUploads:
    """Receives uploads into the bundles of all sessions, within their quotas."""

    def __init__(self, manager: UploadManager, settings: SessionSettings) -> None:
        self._manager = manager
        self._pool = manager.pool
        self._limits = settings
        largest = least(settings.max_size, settings.max_bundle_size, settings.max_session_size)
        self._settings = replace(settings, max_size=largest, require_file=True)

    def receive(
        self,
        request: Request,
        bundle: Bundle,
        filename: str = "",
        *,
        preconditions: Preconditions = _UNCONDITIONAL,
    ) -> list[Attachment]:
        """Store the upload of a request in *bundle*; return its attachments.

        :param filename: the name of the file, if the address gives it; other names in the request are ignored.
        :param preconditions: the conditions on each file that the upload replaces.
        :raises UploadError: the upload is refused, or failed. Nothing of it is kept, except a status with the error if
            the client has sent an identifier.
        """
        given = request.identifier
        identifier = given or self._manager.create_identifier()
        file_filter = _BundleFilter(bundle, self._reserve, preconditions)
        owner = session_owner(bundle.session)
        upload = open_upload(
            request,
            self._manager,
            identifier=identifier,
            filename=filename,
            settings=self._settings,
            file_filter=file_filter,
            owner=owner,
        )
        status = None
        try:
            status = receive(upload)
            assert file_filter.entry is not None
            self._accept(bundle, file_filter.entry, status, preconditions)
        except BaseException as error:
            if file_filter.entry is not None:
                with suppress(OSError):  # expiry finds what is left by its entry
                    self._abandon(bundle, file_filter.entry, upload, bool(given), status, error)
            raise
        with suppress(OSError):  # replaced files are hidden already; the next upload tries again to remove them
            bundle.remove_replaced()
        names = {file.filename for file in status.files}
        return [attachment for attachment in bundle if attachment.name in names]

    def _reserve(self, bundle: Bundle, entry: BundleEntry, upload: UploadRequest) -> None:
        """Refuse an upload that does not fit into the session's quota beside its earlier, unfinished uploads.

        :raises TooLarge: their declared sizes together are more than ``max_session_size``.
        """
        limit = self._limits.max_session_size
        if limit is None:
            return
        indexes = [other.index for other in bundles_of(self._pool, bundle.session)]
        begun = [(index, other) for index in indexes for other in index.entries() if other.acceptance is None]
        before = [(index, other) for index, other in begun if other.rank < entry.rank]
        left = limit - entry.declared
        if not before or sum(other.declared for _, other in before) <= left:
            return
        if sum(other.declared for index, other in before if index.is_expected(other)) > left:
            raise TooLarge(
                f"Uploads that run at the same time may have {format_size(limit)} together; try again later."
            )

    def _accept(self, bundle: Bundle, entry: BundleEntry, status: UploadStatus, preconditions: Preconditions) -> None:
        """Make a finished upload's files attachments.

        :raises BadName: a file has no name.
        :raises PreconditionFailed: the file that one would replace is not the expected one.
        :raises TooLarge, LimitExceeded: the files exceed a quota of the bundle or of the session.
        """
        if not all(file.filename for file in status.files):
            raise BadName
        deadline = time.monotonic() + _TIMEOUT
        collected = False
        while True:
            own = _reservations(bundle, entry, status.files, committed=True)
            reservations = [*own, *self._others(bundle, entry, status)]
            if (refusal := self._refusal(bundle, reservations)) is None:
                if preconditions:
                    _await_preconditions(bundle, entry, status, preconditions, deadline)
                bundle.index.accept(entry, status)
                return
            # Of two uploads that do not fit together the earlier one stays: it waits until the later one has given way.
            committed = [reservation for reservation in reservations if reservation.committed]
            if self._refusal(bundle, committed) or time.monotonic() > deadline:
                if collected:
                    raise refusal
                self._collect_abandoned(bundle.session)
                collected = True
            else:
                time.sleep(_POLL_INTERVAL)

    def _collect_abandoned(self, session: str) -> None:
        """Remove the entries of abandoned uploads of the session, which otherwise count against its quota."""
        for bundle in bundles_of(self._pool, session):
            bundle.index.files()

    def _others(self, bundle: Bundle, entry: BundleEntry, status: UploadStatus) -> Iterator[_Reservation]:
        """Yield the reservations of the session's other uploads, without the files that *entry* replaces."""
        replaced = {file.filename for file in status.files}
        for each in bundles_of(self._pool, bundle.session):
            for other in each.index.entries():
                earlier = other.rank < entry.rank
                committed = earlier or other.acceptance is not None
                if other.rank == entry.rank:
                    continue
                if other.acceptance is not None and each.name != bundle.name:
                    yield _Reservation((each.name, other.bucket_id), other.files, other.size, committed)
                elif (found := each.index.status_of(other)) is not None:
                    files = (file for index, file in enumerate(found.files) if index not in other.removed)
                    stay = [
                        file
                        for file in files
                        if each.name != bundle.name or not earlier or file.filename not in replaced
                    ]
                    yield from _reservations(each, other, stay, committed=committed)

    def _refusal(self, bundle: Bundle, reservations: Iterable[_Reservation]) -> UploadError | None:
        """Return the error if *reservations* together exceed a quota, or None."""
        largest: dict[tuple[str, str], _Reservation] = {}
        for reservation in reservations:
            if reservation.target not in largest or largest[reservation.target].size < reservation.size:
                largest[reservation.target] = reservation
        in_bundle = [reservation for reservation in largest.values() if reservation.target[0] == bundle.name]
        limits = self._limits
        return _over("A bundle", in_bundle, limits.max_bundle_size, limits.max_bundle_files) or _over(
            "All bundles together", list(largest.values()), limits.max_session_size, limits.max_session_files
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
        """Remove what is left of an upload that was not accepted."""
        bucket_id = upload.claims.id

        def is_own(found: UploadStatus) -> bool:
            same = status is None or found.finished == status.finished
            return same and found.owner == upload.owner and not found.kept

        if status is not None or not given:
            self._pool.clear(bucket_id, condition=is_own)
        if given and status is not None and isinstance(error, UploadError):
            self._pool.record_refusal(bucket_id, upload.first_status().failed(error))
        elif given and not isinstance(error, (AlreadyDone, Superseded)):
            # The bucket keeps the status of the failed attempt for the client. This name lets expiry find the bucket.
            # A refusal, which began no attempt, needs none; and an upload that another application has begun in the
            # bucket meanwhile must not get one, or expiry would remove it.
            found = self._pool.bucket(bucket_id).get_status()
            if found.attempt and found.state is not State.DONE and is_own(found):
                self._pool.index.put((SESSIONS, bundle.session), entry.name)
        bundle.index.forget(entry)


def _await_preconditions(
    bundle: Bundle, entry: BundleEntry, status: UploadStatus, preconditions: Preconditions, deadline: float
) -> None:
    """Check the conditions of a finished upload, so that of several with the same condition at most one is accepted.

    The upload is done, so the others see it. It gives way to an earlier one that may replace the same file, and waits
    until a later one has given way, or is accepted, which then fails the condition.

    :raises PreconditionFailed: a condition does not hold.
    """
    names = {file.filename for file in status.files}
    while True:
        # First the uploads that are not accepted yet, then the accepted ones: none is missed in between.
        pending = [other for other in bundle.index.entries() if other.acceptance is None and other.rank != entry.rank]
        found = [(other, bundle.index.status_of(other)) for other in pending]
        rivals = [other for other, done in found if done is not None and names & {file.filename for file in done.files}]
        if any(other.rank < entry.rank for other in rivals):
            raise PreconditionFailed
        _check_preconditions(bundle, names, preconditions)
        if not rivals:
            return
        if time.monotonic() > deadline:
            raise PreconditionFailed
        time.sleep(_POLL_INTERVAL)


def _check_preconditions(bundle: Bundle, names: Iterable[str], preconditions: Preconditions) -> None:
    """Check the conditions for the current files with these *names*.

    :raises PreconditionFailed: a condition does not hold.
    """
    for name in names:
        attachment = bundle.get(name)
        if not preconditions.hold(attachment.etag if attachment else None):
            raise PreconditionFailed


def _declared(upload: UploadRequest) -> int:
    """Return the maximum size of the upload in bytes: its declared length, or the limit; 0 if there is neither."""
    limit, length = upload.policy.max_size, upload.body.length
    if upload.request.method == "PUT":  # the body is one file
        limit = least(limit, upload.policy.max_file_size)
    return min((size for size in (limit, length) if size is not None), default=0)


def _reservations(
    bundle: Bundle, entry: BundleEntry, files: Iterable[UploadedFile], *, committed: bool
) -> list[_Reservation]:
    last = {file.filename: file for file in files}
    return [_Reservation((bundle.name, name), 1, file.size, committed) for name, file in last.items()]


def _over(what: str, reservations: list[_Reservation], max_size: int | None, max_files: int) -> UploadError | None:
    if max_size is not None and sum(reservation.size for reservation in reservations) > max_size:
        return TooLarge(f"{what} may hold at most {format_size(max_size)}; nothing of this upload was kept.")
    if sum(reservation.files for reservation in reservations) > max_files:
        return LimitExceeded(f"{what} may hold at most {max_files} files; nothing of this upload was kept.")
    return None
