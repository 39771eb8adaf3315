"""The protocols, and how an application opens the upload in a request and receives it by the one that matches."""

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
    """Return the protocol of a request to an upload address, with an identifier; None if it brings no upload."""
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

    :param settings: limits in the place of the manager's.
    :param file_filter: accepts or rejects its files and fields.
    :param begun: whether the upload has begun with an earlier request; its identifier may be too old by now.
    :param owner: the application that begins the upload, as its status records it.
    :raises UploadError: its body cannot be read as it is declared, or the identifier is not valid.
    """
    settings = settings or manager.settings
    body = BodyReader(environ, settings)
    claims = manager.verify(identifier)
    body.trusted = True  # also with an expired identifier: its client must be able to read the answer
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
    """Store *upload* by the protocol that matches; return the status of the finished upload.

    :raises UploadError: it is refused, or failed.
    """
    protocol = find_protocol(upload.environ)
    if protocol is None:
        raise UnsupportedRequest("Send a form (multipart/form-data) by POST, or a plain file by PUT.")
    return protocol.receive(upload)
