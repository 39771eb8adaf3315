"""Direct uploads: the client sends its file to the pool, to presigned URLs, and then asks to complete the upload.

The terms (name, type, size, checksum) are stored in the status of an attempt, which is suspended while the client
sends. Completing resumes the attempt, compares the stored parts with the terms, and finishes it like any other upload.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fileupload.errors import (
    AlreadyDone,
    Busy,
    ChecksumMismatch,
    Incomplete,
    MalformedRequest,
    NotDirect,
    NotResumable,
    ServerBusy,
    StorageFailed,
    Superseded,
    TooLarge,
    UploadError,
    storage_error,
)
from fileupload.formatting import format_size
from fileupload.manager import UploadManager
from fileupload.pool.base import Attempt, Pool
from fileupload.pool.direct import ACL_HEADER, OBJECT_ACL, DirectFile
from fileupload.pool.parts import MAX_PART_SIZE, MAX_PARTS, Part
from fileupload.protocols.direct.terms import DirectUploadRequest, check_parts, part_size, part_sizes
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.protocols.receiver import with_expiry
from fileupload.protocols.upload_request import UploadPolicy, UploadRequest
from fileupload.settings import Settings, least
from fileupload.status import RUNNING, DirectUploadTerms, State, UploadedFile, UploadStatus, timestamp
from fileupload.wsgi.upload_log import note_begun, note_finished, note_upload

log = logging.getLogger("fileupload")

PROTOCOL = "direct"  # in the log of uploads
MAX_ADDRESSES = 1000  # presigned URLs in one answer


class DirectUploads:
    """The direct uploads of a pool: begin, sign URLs, complete."""

    def __init__(self, manager: UploadManager) -> None:
        self._pool: Pool = manager.pool
        self._settings: Settings = manager.settings
        self._token_signer = TokenSigner(manager.key_ring)

    def begin(self, upload: UploadRequest, wanted: DirectUploadRequest) -> UploadStatus:
        """Begin an upload of one file; return its status.

        :raises UploadError: the upload is refused. The refusal is recorded as the status of the bucket.
        """
        note_upload(PROTOCOL, bucket_id=upload.claims.id)
        first = replace(
            upload.first_status(),
            state=State.UPLOADING,
            filename=wanted.filename,
            content_type=wanted.content_type,
            size=wanted.size,
            buffered=False,  # the server may have buffered this request, which holds nothing of the file
            resumable=True,
        )
        try:
            status = replace(first, direct=self._terms(upload, wanted))
            attempt = self._pool.begin(upload.claims.id, status)
        except (AlreadyDone, ServerBusy):  # ServerBusy: to record it, too, would need a file descriptor
            raise
        except UploadError as error:
            with suppress(OSError):
                self._pool.record_refusal(upload.claims.id, first.failed(error))
            raise
        direct = self._pool.direct(upload.claims.id, attempt.token, status)
        try:
            direct.begin(form=wanted.form)
            attempt.suspend(status)
        except BaseException:
            with suppress(OSError):
                direct.abandon()
            with suppress(OSError, Superseded):
                attempt.fail(status.failed(StorageFailed()))
            raise
        return replace(status, attempt=attempt.token)

    def _terms(self, upload: UploadRequest, wanted: DirectUploadRequest) -> DirectUploadTerms:
        """Return the terms of an upload.

        :raises UploadError: the size or the type is not allowed.
        """
        upload.policy.check_type(wanted.content_type, wanted.filename)
        upload.policy.check_file_size(wanted.size)
        limit = least(upload.policy.max_size, upload.policy.max_file_size)
        size = part_size(
            wanted.size, max(wanted.size or 1, 1) if wanted.single_part else self._settings.direct_part_size
        )
        if size > MAX_PART_SIZE or (wanted.form and (wanted.size or 0) > MAX_PART_SIZE):
            raise TooLarge(f"A file of {format_size(wanted.size or 0)} is too large for this kind of upload.")
        if wanted.size is not None and not wanted.form and wanted.size > size:
            upload.policy.check_space(2 * wanted.size)  # the parts, and the file that is assembled from them
        return DirectUploadTerms(
            form=wanted.form,
            part_size=None if wanted.size is None else size,
            max_size=limit,
            sha256=wanted.sha256,
            pool_options=wanted.pool_options,
        )

    def find(self, bucket_id: str) -> UploadStatus:
        """Return the status of an unfinished direct upload.

        :raises AlreadyDone: the upload is finished.
        :raises NotDirect: the bucket has no direct upload.
        """
        status = self._pool.bucket(bucket_id).get_status()
        if status.state is State.DONE:
            raise AlreadyDone
        if status.state not in RUNNING or status.direct is None:
            raise NotDirect
        return status

    def describe(self, bucket_id: str, status: UploadStatus, base: str, first: int = 1) -> dict[str, Any]:
        """Return the method, the URLs and the sizes of the parts, and the ETags of those that are stored.

        :param base: the URL below which this server receives parts itself.
        :param first: the number of the first part that the answer describes.
        :raises NotDirect: the file's size is not declared; URLs of single parts come from :meth:`part_urls`.
        """
        terms, direct = status.direct, self._pool.direct(bucket_id, status.attempt)
        assert terms is not None
        expires = time.time() + self._settings.direct_expires
        answer: dict[str, Any] = {"size": status.size, "expires": timestamp(expires), "headers": {}}
        if terms.form:
            return {**answer, **self._form(bucket_id, status, direct, base)}
        if status.size is None or terms.part_size is None:
            raise NotDirect
        answer["method"] = "PUT"
        sizes = part_sizes(status.size, terms.part_size)
        if len(sizes) == 1:
            return {**answer, "url": self._url(direct, bucket_id, status, base, 1, sizes[0])}
        stored = {part.number: part for part in direct.parts()} if status.received else {}
        numbers = range(first, min(first + MAX_ADDRESSES, len(sizes) + 1))
        answer["part_size"] = terms.part_size
        answer["parts"] = [
            {
                "number": number,
                "offset": (number - 1) * terms.part_size,
                "size": sizes[number - 1],
                "url": self._url(direct, bucket_id, status, base, number, sizes[number - 1]),
                **({"etag": stored[number].etag} if number in stored else {}),
            }
            for number in numbers
        ]
        if numbers.stop <= len(sizes):
            answer["next"] = numbers.stop
        return answer

    def describe_put(self, bucket_id: str, status: UploadStatus, base: str) -> dict[str, Any]:
        """Return the method, the URL and the headers of the one request that sends the whole file.

        :param base: the URL below which this server receives the file itself.
        """
        terms, ttl = status.direct, self._settings.direct_expires
        assert terms is not None
        direct = self._pool.direct(bucket_id, status.attempt, status)
        signed = direct.put(status.size, ttl) if terms.form else None
        if signed is not None:
            url, headers = signed.url, dict(signed.headers)
        elif terms.form:  # our own server ignores the header; with it, requests are the same for all pools
            max_size = terms.max_size if status.size is None else status.size
            url = self._own_url(bucket_id, status, base, 1, status.size or 0, max_size)
            headers = {ACL_HEADER: terms.pool_options[OBJECT_ACL]} if OBJECT_ACL in terms.pool_options else {}
        else:
            url, headers = self._url(direct, bucket_id, status, base, 1, status.size), {}
        expires = timestamp(time.time() + ttl)
        return {"size": status.size, "expires": expires, "headers": headers, "method": "PUT", "url": url}

    def parts(self, bucket_id: str, status: UploadStatus) -> Sequence[Part]:
        """Return the stored parts of an upload with this *status*."""
        return self._pool.direct(bucket_id, status.attempt).parts()

    def part_urls(self, bucket_id: str, status: UploadStatus, base: str, numbers: Iterable[int]) -> dict[int, str]:
        """Return the URLs of the parts with these *numbers*.

        :raises MalformedRequest: the file has no such part, or the numbers are more than :data:`MAX_ADDRESSES`.
        """
        terms, direct = status.direct, self._pool.direct(bucket_id, status.attempt)
        assert terms is not None
        sizes = part_sizes(status.size, terms.part_size) if status.size is not None and terms.part_size else None
        unique = dict.fromkeys(numbers)  # the numbers come from a query, which can repeat one many thousand times
        if len(unique) > MAX_ADDRESSES:
            raise MalformedRequest(f"At most {MAX_ADDRESSES} parts can be named in one request.")
        for number in unique:
            if not 1 <= number <= (MAX_PARTS if sizes is None else len(sizes)):
                raise MalformedRequest(f"This file has no part {number}.")
        return {
            number: self._url(direct, bucket_id, status, base, number, None if sizes is None else sizes[number - 1])
            for number in unique
        }

    def _url(
        self, direct: DirectFile, bucket_id: str, status: UploadStatus, base: str, number: int, size: int | None
    ) -> str:
        url = direct.part_url(number, size, self._settings.direct_expires)
        if url is None:
            assert status.direct is not None
            max_size = status.direct.max_size if size is None else size
            url = self._own_url(bucket_id, status, base, number, size or 0, max_size)
        return url

    def _form(self, bucket_id: str, status: UploadStatus, direct: DirectFile, base: str) -> dict[str, Any]:
        assert status.direct is not None
        min_size = status.size or 0
        max_size = status.size if status.size is not None else status.direct.max_size
        ceiling = MAX_PART_SIZE if max_size is None else min(max_size, MAX_PART_SIZE)
        form = direct.form(min_size, ceiling, status.content_type, self._settings.direct_expires)
        if form is not None:
            return {"method": "POST", "url": form.url, "fields": dict(form.fields)}
        return {"method": "POST", "url": self._own_url(bucket_id, status, base, 0, min_size, max_size), "fields": {}}

    def _own_url(
        self, bucket_id: str, status: UploadStatus, base: str, number: int, min_size: int, max_size: int | None
    ) -> str:
        expires = int(time.time() + self._settings.direct_expires)
        token = self._token_signer.sign(UploadToken(bucket_id, status.attempt, number, min_size, max_size, expires))
        return f"{base}/part?ticket={token}"

    def complete(
        self, bucket_id: str, etags: Mapping[int, str] | None = None, *, keep_incomplete: bool = False
    ) -> UploadStatus:
        """Finish an upload whose parts are all stored; return its status.

        Two requests may complete one upload at the same time: the first resumes the attempt, the second is refused
        with :class:`Busy` or :class:`AlreadyDone`.

        :param etags: the ETags of the parts by number, if the client sent them.
        :param keep_incomplete: keep an upload of which something is missing: the client may still be sending it.
        :raises UploadError: the parts differ from the terms, and are removed; or the upload cannot be completed. After
            an error with a status of 500 or more the parts are kept, and the client may retry.
        """
        note_upload(PROTOCOL, bucket_id=bucket_id)
        attempt = self._resume(bucket_id)
        note_begun()
        direct = self._pool.direct(bucket_id, attempt.token, attempt.status)
        try:
            done = self._assemble(attempt, direct, etags)
            attempt.finish(done)
        except OSError as error:
            log.exception("a direct upload could not be completed")
            self._suspend(attempt)
            raise storage_error(error) from error
        except UploadError as error:
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or (keep_incomplete and isinstance(error, Incomplete)):
                self._suspend(attempt)
            else:
                self._fail(bucket_id, attempt, direct, error)
            raise
        except BaseException:
            self._suspend(attempt)
            raise
        note_finished(PROTOCOL, bucket_id, done)
        return done

    @staticmethod
    def _suspend(attempt: Attempt) -> None:
        """Keep the parts and the terms, so that the client can retry."""
        with suppress(OSError, Superseded, AlreadyDone):
            attempt.suspend(attempt.status)

    def _fail(self, bucket_id: str, attempt: Attempt, direct: DirectFile, error: UploadError) -> None:
        """Remove the parts, and store *error* as the status.

        :raises Superseded, AlreadyDone: another attempt has taken over the bucket, which is why this one failed. The
            parts of that attempt are not removed.
        """
        try:
            with suppress(OSError):
                status = self._pool.bucket(bucket_id).get_status()
                if status.state is State.DONE:
                    raise AlreadyDone
                if status.attempt != attempt.token:
                    raise Superseded
                direct.abandon()
        finally:
            with suppress(OSError, Superseded):
                attempt.fail(attempt.status.failed(error))

    def _resume(self, bucket_id: str) -> Attempt:
        """Resume the suspended attempt of a direct upload.

        :raises NotDirect: the bucket has no direct upload.
        :raises AlreadyDone: the upload is finished.
        :raises Busy: another request has resumed the attempt.
        """
        try:
            attempt = self._pool.resume(bucket_id)
        except NotResumable:
            self.find(bucket_id)
            raise Busy from None  # the upload is there: another request has resumed its attempt
        if attempt.status.direct is None:
            attempt.suspend(attempt.status)
            raise NotDirect
        return attempt

    def _assemble(self, attempt: Attempt, direct: DirectFile, etags: Mapping[int, str] | None) -> UploadStatus:
        status = attempt.status
        assert status.direct is not None
        parts = direct.parts()
        check_parts(status, parts, etags)
        self._check_space(parts)
        hashed = bool(status.direct.sha256) or (direct.streams_through_server and self._settings.checksum == "sha256")
        sha256 = direct.assemble(parts, hashed=hashed)
        if status.direct.sha256 and sha256 != status.direct.sha256:
            raise ChecksumMismatch
        file = UploadedFile(
            field="",
            filename=status.filename,
            content_type=status.content_type,
            size=sum(part.size for part in parts),
            sha256=sha256,
        )
        done = replace(status, resumable=False, suspended=False, direct=None).done((file,), {})
        return with_expiry(done, self._settings)

    def _check_space(self, parts: Sequence[Part]) -> None:
        """Check that the pool has space for the file beside its parts, if it is assembled from several.

        :raises PoolFull: less than ``min_free_space`` would stay free.
        """
        if len(parts) > 1:
            policy = UploadPolicy(pool=self._pool, min_free_space=self._settings.min_free_space)
            policy.check_space(sum(part.size for part in parts))
