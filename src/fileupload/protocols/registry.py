"""Take an upload out of a request, by whichever protocol brings it: what the middleware and the attachments share."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from fileupload.errors import InvalidIdentifier, UploadError
from fileupload.manager import UploadManager
from fileupload.protocols.base import Protocol
from fileupload.protocols.multipart_form import FormProtocol
from fileupload.protocols.raw import RawProtocol
from fileupload.protocols.receiver import FileFilter, UploadRequest
from fileupload.settings import Settings
from fileupload.status import UploadStatus
from fileupload.wsgi.request_body import BODY_KEY, BodyReader

PROTOCOLS: tuple[Protocol, ...] = (FormProtocol(), RawProtocol())


def parse_query(environ: dict[str, Any]) -> dict[str, str]:
    """Return the query, of each name the first value; one that cannot be read is as if it were not there."""
    text = environ.get("QUERY_STRING", "")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100, errors="replace")
    except ValueError:
        return {}
    return dict(reversed(pairs))


def identifier_of(environ: dict[str, Any], query: dict[str, str]) -> str:
    """Return the identifier that the request gives, in its query or in a header; empty if it gives none."""
    return query.get("X-Progress-ID") or str(environ.get("HTTP_X_PROGRESS_ID", ""))


def brings_upload(environ: dict[str, Any]) -> bool:
    """Tell whether one of the protocols takes this request, sent to an upload address with an identifier."""
    return any(protocol.matches(environ) for protocol in PROTOCOLS)


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
    """Return the upload in a request, of which nothing is read yet.

    :param settings: limits in the place of the manager's.
    :param file_filter: what else must hold of its files and fields.
    :param begun: it goes on with one, for which the identifier may be too old by now.
    :param owner: the application that begins the upload, as its status records it.
    :raises UploadError: its body cannot be read as it is declared, or the identifier is not valid.
    """
    settings = settings or manager.settings
    body = BodyReader(environ, settings)
    claims = manager.verify(identifier)
    body.trusted = True  # also with an identifier that is too old: a client of ours is to see the answer
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
        file_filter=file_filter or FileFilter(),
        owner=owner,
    )


def unread_body(environ: dict[str, Any], settings: Settings) -> BodyReader | None:
    """Return what reads the body of a request that was answered; None if nothing of it is left, or can be read."""
    readers: list[BodyReader] = environ.get(BODY_KEY) or []
    announced = environ.get("CONTENT_LENGTH") not in {None, "", "0"} or "HTTP_TRANSFER_ENCODING" in environ
    if announced and not any(reader.reads(environ["wsgi.input"]) for reader in readers):
        with suppress(UploadError):
            readers = [*readers, BodyReader(environ, settings, unwanted=True)]
    return next((reader for reader in readers if not reader.finished), None)


def receive(upload: UploadRequest) -> UploadStatus:
    """Take *upload* into its bucket; return the status of the finished upload.

    :raises UploadError: it is refused, or failed.
    """
    protocol = next(protocol for protocol in PROTOCOLS if protocol.matches(upload.environ))
    return protocol.receive(upload)
