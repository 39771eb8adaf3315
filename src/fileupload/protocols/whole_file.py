"""Checks that a request holds whole files: no piece of one, as uploaders in chunks send it, and no envelope around one.

A piece that is stored as a whole file corrupts it, and the client is told that all went well. Clients mark pieces by a
header, by parameters of the query or by fields of the form; the fields may follow the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from fileupload.errors import UnsupportedRequest
from fileupload.wsgi.headers import parse_parameters, type_of
from fileupload.wsgi.request import Request

FORM_TYPE = "multipart/form-data"

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_ADVICE = (
    "this address takes whole files. Switch chunking off in the client;"
    " to send a file in several requests, a client of the tus protocol is needed, and a server that supports it."
)


@dataclass(frozen=True)
class _Markers:
    """The names by which a client marks a piece of a file.

    :ivar index: the name of the number of the piece.
    :ivar total: the name of the number of pieces.
    :ivar first: the number of the first piece.
    :ivar generic: whether forms of other origin may have fields of these names, so that only both together count.
    """

    client: str
    index: str
    total: str
    first: int = 0
    generic: bool = False

    def is_piece(self, numbers: Mapping[str, int]) -> bool:
        """Return whether *numbers*, by name, mark one of several pieces."""
        index, total = numbers.get(self.index), numbers.get(self.total)
        if self.generic:
            return index is not None and total is not None and total > 1
        return (total is not None and total > 1) or (index is not None and index > self.first)


_MARKERS = (
    _Markers("Dropzone", "dzchunkindex", "dztotalchunkcount"),
    _Markers("Resumable.js", "resumableChunkNumber", "resumableTotalChunks", first=1),
    _Markers("flow.js", "flowChunkNumber", "flowTotalChunks", first=1),
    _Markers("Fine Uploader", "qqpartindex", "qqtotalparts"),
    _Markers("Plupload", "chunk", "chunks", generic=True),
    _Markers("simple-uploader.js", "chunkNumber", "totalChunks", first=1, generic=True),
)
_NAMES = frozenset(name for markers in _MARKERS for name in (markers.index, markers.total))


class PieceMarkers:
    """Collects the markers of pieces among the parameters of one request, which may come in any order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, name: str, value: str) -> None:
        """Note one parameter.

        :raises UnsupportedRequest: with those before it, it marks one of several pieces of a file.
        """
        if name not in _NAMES or _NUMBER.fullmatch(value) is None:
            return
        # Of a name that is given twice, the larger number counts: the query and the form may both have it.
        self._numbers[name] = max(int(value), self._numbers.get(name, 0))
        for markers in _MARKERS:
            if markers.is_piece(self._numbers):
                raise UnsupportedRequest(f"A piece of a file was sent, as {markers.client} does; {_ADVICE}")


def refuse_piece(request: Request) -> None:
    """Refuse a request whose headers or query say that its body is only a piece of a file.

    :raises UnsupportedRequest: it is.
    """
    environ = request.environ
    if "HTTP_CONTENT_RANGE" in environ:  # RFC 9110, 14.5: a partial PUT must not be stored as the whole
        raise UnsupportedRequest(f"A piece of a file was sent (Content-Range); {_ADVICE}")
    if header := _resumable_header(environ):
        raise UnsupportedRequest(f"A piece of a file was sent ({header}); {_ADVICE}")
    markers = PieceMarkers()
    for name, value in request.query.items():
        markers.add(name, value)


def refuse_part_piece(content_range: str | None) -> None:
    """Refuse a part of a form that has a Content-Range.

    :param content_range: the value of the header, or None.
    :raises UnsupportedRequest: the part has one.
    """
    if content_range is not None:
        raise UnsupportedRequest(f"A piece of a file was sent (Content-Range in a form); {_ADVICE}")


def _resumable_header(environ: WSGIEnvironment) -> str:
    """Return the header by which tus, FilePond or IETF resumable uploads mark a piece; empty if there is none.

    A client of IETF resumable uploads sends ``Upload-Complete: ?1`` with a whole file. FilePond announces a file by a
    form without it, with ``Upload-Length``, and sends the pieces afterwards.
    """
    if "HTTP_UPLOAD_OFFSET" in environ:
        return "Upload-Offset"
    if environ.get("HTTP_UPLOAD_COMPLETE", "").strip() == "?0":
        return "Upload-Complete: ?0"
    if environ.get("HTTP_UPLOAD_INCOMPLETE", "").strip() == "?1":  # the name in early drafts
        return "Upload-Incomplete: ?1"
    if (
        "HTTP_UPLOAD_LENGTH" in environ
        and "HTTP_UPLOAD_COMPLETE" not in environ
        and type_of(environ.get("CONTENT_TYPE")) == FORM_TYPE
    ):
        return "Upload-Length"
    return ""


def refuse_envelope(content_type: str) -> None:
    """Refuse a plain body that is an envelope around files, by its Content-Type.

    A type of the group ``message/`` is that of a file, such as a mail. So is multipart/related without a boundary:
    browsers name saved web pages (``.mhtml``) so.

    :raises UnsupportedRequest: the type is ``multipart/…``.
    """
    kind = type_of(content_type)
    if not kind.startswith("multipart/"):
        return
    if kind == "multipart/related":
        try:
            if "boundary" not in parse_parameters(content_type)[1]:
                return
        except ValueError:
            pass
    what = "A form" if kind == FORM_TYPE else f"A body of type {kind[:60]}"
    raise UnsupportedRequest(
        f"{what} was sent where the bytes of one file are expected: the boundaries would become a part of the file."
        " Send the file as it is."
    )
