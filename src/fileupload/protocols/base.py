"""The contract of protocols, and the course of those in which one request is one upload."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from fileupload.errors import (
    AlreadyDone,
    Incomplete,
    ServerBusy,
    StorageFailed,
    Superseded,
    UploadError,
    storage_error,
)
from fileupload.pool.base import Attempt
from fileupload.protocols.receiver import Receiver, with_expiry
from fileupload.protocols.upload_request import UploadRequest
from fileupload.status import UploadStatus

log = logging.getLogger("fileupload")


# Reads the body of a request to its end, and gives the receiver what is in it; raises UploadError where it is wrong.
Transfer = Callable[[Receiver], None]


class Protocol(ABC):
    """One way in. A new protocol is a class like this, named in ``registry.PROTOCOLS``.

    :cvar methods: those of its requests to the upload address.
    """

    methods: ClassVar[tuple[str, ...]]

    def matches(self, environ: dict[str, Any]) -> bool:
        """Tell whether a request with one of the methods, and an identifier, is of this protocol."""
        return environ["REQUEST_METHOD"] in self.methods

    @abstractmethod
    def receive(self, request: UploadRequest) -> UploadStatus:
        """Store the upload in *request*; return the status of the finished upload.

        :raises UploadError: the upload failed; its bucket holds nothing but the status that says so.
        """


class WholeBodyProtocol(Protocol):
    """A protocol in which one request is one upload.

    :cvar may_be_empty: whether a body without a byte is a whole upload.
    """

    may_be_empty: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, request: UploadRequest) -> Transfer:
        """Return what reads the body, by what its headers say.

        :raises UploadError: the upload can be refused before its first byte.
        """

    def receive(self, request: UploadRequest) -> UploadStatus:
        """Store the whole body, or nothing of it."""
        try:
            transfer = self.prepare(request)
            self._await_body(request)
            status = request.first_status()
            request.policy.file_filter.begin(request)
            attempt = request.pool.begin(request.claims.id, status)
        except (AlreadyDone, ServerBusy):  # the second says nothing of this upload, and would ask for descriptors
            raise
        except UploadError as error:
            self._keep_refusal(request, request.first_status().failed(error))
            raise
        except OSError as error:
            log.exception("an upload could not begin")
            raise storage_error(error) from error
        return self._fill(request, attempt, status, transfer)

    def _await_body(self, request: UploadRequest) -> None:
        """Wait for the first byte, before anything is stored: until then an identifier costs nothing.

        :raises AlreadyDone: the upload is finished; the client need not send it to learn that.
        :raises Incomplete: the body ended without a byte.
        """
        if request.pool.is_done(request.claims.id):
            raise AlreadyDone
        if not request.body.wait_for_first_byte() and not self.may_be_empty:
            raise Incomplete("The body ended before its first byte.")

    def _fill(self, request: UploadRequest, attempt: Attempt, status: UploadStatus, transfer: Transfer) -> UploadStatus:
        settings = request.settings
        receiver = Receiver(
            attempt,
            request.policy,
            request.body,
            status,
            hashes=settings.checksum == "sha256",
            progress_interval=settings.progress_interval,
        )
        try:
            transfer(receiver)
            done = with_expiry(receiver.complete(), settings)
            attempt.finish(done)
            return done
        except UploadError as error:
            self._fail(attempt, receiver, error)
            raise
        except OSError as error:
            log.exception("an upload could not be stored")
            failure = storage_error(error)
            self._fail(attempt, receiver, failure)
            raise failure from error
        except BaseException:
            self._fail(attempt, receiver, StorageFailed())
            raise

    @staticmethod
    def _fail(attempt: Attempt, receiver: Receiver, error: UploadError) -> None:
        # On a full disk not even this may be possible; what is left then reads as interrupted.
        with suppress(OSError, Superseded):
            attempt.fail(receiver.failed(error))

    @staticmethod
    def _keep_refusal(request: UploadRequest, status: UploadStatus) -> None:
        with suppress(OSError):
            request.pool.record_refusal(request.claims.id, status)
