"""The registry of protocols: finds the protocol of a request, opens the upload in it, and receives it."""

from __future__ import annotations

from fileupload.errors import InvalidIdentifier, UnsupportedRequest
from fileupload.manager import UploadManager
from fileupload.protocols.base import Protocol
from fileupload.protocols.multipart_form import FormProtocol
from fileupload.protocols.raw import RawProtocol
from fileupload.protocols.upload_request import FileFilter, UploadPolicy, UploadRequest
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.request import Request
from fileupload.wsgi.request_body import BodyReader
from fileupload.wsgi.upload_log import note_finished, note_upload

PROTOCOLS: tuple[Protocol, ...] = (FormProtocol(), RawProtocol())


def open_upload(
    request: Request,
    manager: UploadManager,
    *,
    identifier: str = "",
    filename: str = "",
    settings: Settings | None = None,
    file_filter: FileFilter | None = None,
    begun: bool = False,
    body_required: bool = True,
    owner: str = "",
) -> UploadRequest:
    """Return the upload in a request; nothing of its body is read yet.

    :param identifier: the identifier of the upload, if it is not the one in the request.
    :param filename: the name of the file, if it is not the one in the request.
    :param settings: the limits, instead of the manager's.
    :param file_filter: accepts or rejects the files and fields.
    :param begun: whether an earlier request began the upload; an expired identifier is then accepted.
    :param body_required: whether a request that declares no body is refused with 411; otherwise its body is empty.
    :param owner: the application that begins the upload, recorded in its status.
    :raises UploadError: the body's declared length or coding is not valid, or the identifier is not.
    """
    settings = settings or manager.settings
    identifier = identifier or request.identifier
    body = BodyReader(request.environ, settings, required=body_required)
    claims = manager.verify(identifier)
    note_upload(bucket_id=claims.id, body=body)
    body.trusted = True  # also with an expired identifier: only a drained body lets its client read the answer
    if claims.expired and not begun:
        raise InvalidIdentifier
    return UploadRequest(
        request=request,
        filename=filename,
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
    protocol = next((protocol for protocol in PROTOCOLS if protocol.matches(upload)), None)
    if protocol is None:
        raise UnsupportedRequest("Send a form (multipart/form-data) by POST, or a plain file by PUT.")
    note_upload(protocol.name)
    status = protocol.receive(upload)
    note_finished(protocol.name, upload.claims.id, status)
    return status
