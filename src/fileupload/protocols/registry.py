"""The registry of protocols: finds the protocol of a request, opens the upload in it, and receives it."""

from __future__ import annotations

from typing import Any

from fileupload.errors import InvalidIdentifier, UnsupportedRequest
from fileupload.manager import UploadManager
from fileupload.protocols.base import Protocol
from fileupload.protocols.multipart_form import FormProtocol
from fileupload.protocols.raw import RawProtocol
from fileupload.protocols.upload_request import FileFilter, UploadPolicy, UploadRequest
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.request_body import BodyReader

PROTOCOLS: tuple[Protocol, ...] = (FormProtocol(), RawProtocol())


def find_protocol(environ: dict[str, Any]) -> Protocol | None:
    """Return the protocol of a request to an upload address, with an identifier; None if it holds no upload."""
    return next((protocol for protocol in PROTOCOLS if protocol.matches(environ)), None)


def open_upload(
    environ: dict[str, Any],
    query: dict[str, str],
    manager: UploadManager,
    identifier: str,
    *,
    settings: Settings | None = None,
    file_filter: FileFilter | None = None,
    begun: bool = False,
    owner: str = "",
) -> UploadRequest:
    """Return the upload in a request; nothing of its body is read yet.

    :param settings: the limits, instead of the manager's.
    :param file_filter: accepts or rejects the files and fields.
    :param begun: whether an earlier request began the upload; an expired identifier is then accepted.
    :param owner: the application that begins the upload, recorded in its status.
    :raises UploadError: the body's declared length or coding is not valid, or the identifier is not.
    """
    settings = settings or manager.settings
    body = BodyReader(environ, settings)
    claims = manager.verify(identifier)
    body.trusted = True  # also with an expired identifier: only a drained body lets its client read the answer
    if claims.expired and not begun:
        raise InvalidIdentifier
    return UploadRequest(
        environ=environ,
        query=query,
        identifier=identifier,
        claims=claims,
        pool=manager.pool,
        settings=settings,
        body=body,
        policy=UploadPolicy.of(manager.pool, settings, claims, file_filter or FileFilter()),
        owner=owner,
    )


def receive(upload: UploadRequest) -> UploadStatus:
    """Store *upload* by the protocol of its request; return the status of the finished upload.

    :raises UploadError: the upload is refused, or failed.
    """
    protocol = find_protocol(upload.environ)
    if protocol is None:
        raise UnsupportedRequest("Send a form (multipart/form-data) by POST, or a plain file by PUT.")
    return protocol.receive(upload)
