"""What a protocol is, and the course of those that bring an upload in one request."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
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
from fileupload.protocols.receiver import Receiver, UploadRequest
from fileupload.status import UploadStatus

log = logging.getLogger("fileupload")


class Protocol(ABC):
    """One way in. A new protocol is a class like this, named in ``middleware``."""

    @abstractmethod
    def matches(self, environ: dict[str, Any]) -> bool:
        """Tell whether a request to the upload address, with an identifier, is of this protocol."""

    @abstractmethod
    def receive(self, request: UploadRequest) -> UploadStatus:
        """Take the bytes of *request* into its bucket; return the status of the finished upload.

        :raises UploadError: the upload failed; its bucket holds nothing but the status that says so.
        """


class WholeBodyProtocol(Protocol):
    """A protocol in which one request is one upload.

    :cvar may_be_empty: whether a body without a byte is a whole upload.
    """

    may_be_empty: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, request: UploadRequest) -> None:
        """Refuse what can be refused before the first byte is read."""

    @abstractmethod
    def fill(self, request: UploadRequest, receiver: Receiver) -> None:
        """Read the body to its end, and give the receiver what is in it."""

    def receive(self, request: UploadRequest) -> UploadStatus:
        """Take the body in: all of it, or nothing of it."""
        try:
            self.prepare(request)
            self._await_body(request)
            status = request.first_status()
            request.file_filter.begin(request)
            attempt = request.pool.begin(request.claims.id, status)
        except (AlreadyDone, ServerBusy):  # the second says nothing of this upload, and would ask for descriptors
            raise
        except UploadError as error:
            self._keep_refusal(request, request.first_status().failed(error))
            raise
        except OSError as error:
            log.exception("an upload could not begin")
            raise storage_error(error) from error
        return self._fill(request, attempt, status)

    def _await_body(self, request: UploadRequest) -> None:
        """Wait for the first byte, before anything is stored: until then an identifier costs nothing.

        :raises AlreadyDone: the upload is finished; the client need not send it to learn that.
        :raises Incomplete: the body ended without a byte.
        """
        if request.pool.is_done(request.claims.id):
            raise AlreadyDone
        if not request.body.wait_for_first_byte() and not self.may_be_empty:
            raise Incomplete("The body ended before its first byte.")

    def _fill(self, request: UploadRequest, attempt: Attempt, status: UploadStatus) -> UploadStatus:
        receiver = Receiver(request, attempt, status)
        try:
            self.fill(request, receiver)
            return receiver.finish()
        except UploadError as error:
            self._fail(attempt, receiver, error)
            raise
        except OSError as error:
            log.exception("an upload could not be stored")
            explained = storage_error(error)
            self._fail(attempt, receiver, explained)
            raise explained from error
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
