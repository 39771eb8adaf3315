"""Take an upload out of a request, by whichever protocol brings it: what the middleware and the attachments share."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from fileupload.errors import UploadError
from fileupload.manager import UploadManager
from fileupload.protocols.base import Protocol
from fileupload.protocols.body import BodyReader
from fileupload.protocols.form import FormProtocol
from fileupload.protocols.raw import RawProtocol
from fileupload.protocols.receiver import Gate, UploadRequest
from fileupload.settings import Settings
from fileupload.status import UploadStatus

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
    gate: Gate | None = None,
    begun: bool = False,
    owner: str = "",
) -> UploadRequest:
    """Return the upload in a request, of which nothing is read yet.

    :param settings: limits in the place of the manager's.
    :param gate: what else must hold of its files and fields.
    :param begun: it goes on with one, for which the identifier may be too old by now.
    :param owner: the application that begins the upload, as its status records it.
    :raises UploadError: its body cannot be read as it is declared, or the identifier is not valid; in the second case
        what the client sends has been drained.
    """
    settings = settings or manager.settings
    body = BodyReader(environ, settings)
    try:
        claims = manager.claims_of(identifier) if begun else manager.claims_to_begin(identifier)
    except UploadError:
        body.drain()
        raise
    return UploadRequest(
        environ=environ,
        query=query,
        identifier=identifier,
        claims=claims,
        pool=manager.pool,
        settings=settings,
        body=body,
        gate=gate or Gate(),
        owner=owner,
    )


def drain(environ: dict[str, Any], settings: Settings) -> None:
    """Read, within bounds, a body that nobody wants, so that the client sees the answer."""
    with suppress(UploadError):
        BodyReader(environ, settings).drain()


def receive(upload: UploadRequest) -> UploadStatus:
    """Take *upload* into its bucket; return the status of the finished upload.

    :raises UploadError: it is refused, or failed; what the client still sends has been drained.
    """
    protocol = next(protocol for protocol in PROTOCOLS if protocol.matches(upload.environ))
    try:
        return protocol.receive(upload)
    except UploadError:
        upload.body.drain()
        raise
