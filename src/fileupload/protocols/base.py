"""The interface of protocols, and the base of those in which one request is one upload."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

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
from fileupload.protocols.whole_file import refuse_piece
from fileupload.status import UploadStatus
from fileupload.wsgi.upload_log import note_begun

log = logging.getLogger("fileupload")


# Reads a request's body to its end, and passes its files and fields to the receiver. Raises UploadError.
Transfer = Callable[[Receiver], None]


class Protocol(ABC):
    """A way to send an upload to the upload address in one request; its subclasses are in ``registry.PROTOCOLS``.

    A protocol of several requests, such as direct uploads, has handlers instead: see ``routes``.

    :cvar name: its name in the log.
    :cvar methods: the HTTP methods of its requests to the upload address.
    """

    name: ClassVar[str]
    methods: ClassVar[tuple[str, ...]]

    def matches(self, upload: UploadRequest) -> bool:
        """Return whether a request to the upload address, with an identifier, uses this protocol."""
        return upload.request.method in self.methods

    @abstractmethod
    def receive(self, request: UploadRequest) -> UploadStatus:
        """Store the upload in *request*; return the status of the finished upload.

        :raises UploadError: the upload failed; its bucket keeps only a status with the error.
        """


class WholeBodyProtocol(Protocol):
    """A protocol in which one request is one upload.

    :cvar may_be_empty: whether an empty body is a valid upload.
    """

    may_be_empty: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, request: UploadRequest) -> Transfer:
        """Return the function that reads and stores the body; nothing is read yet.

        :raises UploadError: the headers alone suffice to refuse the upload.
        """

    def receive(self, request: UploadRequest) -> UploadStatus:
        """Store the whole body, or nothing of it; see :meth:`Protocol.receive`."""
        try:
            refuse_piece(request.request)
            transfer = self.prepare(request)
            self._await_body(request)
            status = request.first_status()
            request.policy.file_filter.begin(request)
            attempt = request.pool.begin(request.claims.id, status)
            note_begun()
        except (AlreadyDone, ServerBusy):  # ServerBusy: to record it, too, would need a file descriptor
            raise
        except UploadError as error:
            self._record_refusal(request, request.first_status().failed(error))
            raise
        except OSError as error:
            log.exception("an upload could not begin")
            raise storage_error(error) from error
        return self._fill(request, attempt, status, transfer)

    def _await_body(self, request: UploadRequest) -> None:
        """Wait for the first byte, before an attempt begins: a client that sends only headers uses no storage.

        :raises AlreadyDone: the upload is finished; the client learns it before it sends the body again.
        :raises Incomplete: the body is empty, and the protocol does not allow that.
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
            # No variable may refer to the error that is raised: its traceback refers to this frame, and such a cycle
            # would keep the body and its buffers until the next garbage collection.
            self._fail(attempt, receiver, storage_error(error))
            raise storage_error(error) from error
        except BaseException:
            self._fail(attempt, receiver, StorageFailed())
            raise

    @staticmethod
    def _fail(attempt: Attempt, receiver: Receiver, error: UploadError) -> None:
        # On a full disk even this write may fail. Readers then see the dead attempt's status as "interrupted".
        with suppress(OSError, Superseded):
            attempt.fail(receiver.failed(error))

    @staticmethod
    def _record_refusal(request: UploadRequest, status: UploadStatus) -> None:
        with suppress(OSError):
            request.pool.record_refusal(request.claims.id, status)
