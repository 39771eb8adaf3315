"""The form of an attachment: one file, and the attributes and permissions of its record."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIEnvironment

from fileupload.apps.record_attachments.bodies import parse_record_json, words_of
from fileupload.apps.record_attachments.errors import INVALID_POSTED_DATA, RecordError
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.protocols.upload_request import FileFilter, UploadRequest
from fileupload.status import UploadedFile, UploadStatus
from fileupload.wsgi.headers import media_type, parse_parameters

FIELD = "attachment"
_TEXTS = ("data", "permissions")
_DEFAULT_TYPES = {".pem": "application/x-pem-file", ".geojson": "application/geojson"}


class AttachmentFilter(FileFilter):
    """Accepts one file in the field ``attachment``, and the text fields ``data`` and ``permissions``."""

    def __init__(self, rules: RecordSettings, on_begin: Callable[[str], None] = lambda _: None) -> None:
        """Filter by the *rules* of the record.

        :param on_begin: called with the id of the bucket before the attempt begins.
        """
        self._rules = rules
        self._on_begin = on_begin
        self._files = 0
        self._fields: set[str] = set()

    def begin(self, request: UploadRequest) -> None:
        """Call ``on_begin`` with the id of the bucket."""
        self._on_begin(request.claims.id)

    def check_file(self, field: str, filename: str, content_type: str) -> None:
        """Refuse a file by its field and its name."""
        if field in _TEXTS:
            raise _posted(f"{field!r} field should be passed as form data, not files")
        if field != FIELD:
            raise _posted(f"{field!r} not in {_TEXTS}") if self._files else attachment_missing()
        self._files += 1
        if self._files > 1:
            raise _posted("only one file can be attached to a record")
        if filename and not _is_allowed(filename, self._rules.extensions):
            raise RecordError("File extension is not allowed.", location="body")

    def check_field(self, name: str) -> None:
        """Refuse a text field by its name."""
        if name == FIELD:
            raise filename_required()
        if name not in _TEXTS:
            raise _posted(f"{name!r} not in {_TEXTS}")
        if name in self._fields:
            raise _posted(f"{name!r} is given twice")
        self._fields.add(name)


def attachment_missing() -> RecordError:
    """Return the error for a form without an attachment."""
    return RecordError("Attachment missing.", errno=INVALID_POSTED_DATA)


def filename_required() -> RecordError:
    """Return the error for an attachment without a name."""
    return RecordError("Filename is required.", location="body")


def size_exceeded(limit: int) -> RecordError:
    """Return the error for a file of more than *limit* bytes."""
    return RecordError(f"File size exceeds the limit ({limit} bytes).", location="body")


def require_form(environ: WSGIEnvironment) -> None:
    """Refuse a request whose Content-Type is not that of a form.

    :raises RecordError: the type is another one, or has no boundary.
    """
    try:
        value, parameters = parse_parameters(environ.get("CONTENT_TYPE", ""))
    except ValueError as error:
        raise RecordError(f"Content-Type cannot be read: {error}") from None
    if value != "multipart/form-data":
        raise RecordError("Content-Type should be multipart/form-data")
    if not parameters.get("boundary"):
        raise RecordError("Invalid boundary in multipart form: ''")


def read_texts(status: UploadStatus) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the attributes of the record, and its permissions or None, from the text fields of a form.

    :raises RecordError: a field is not a JSON object.
    """
    texts = {}
    for name in _TEXTS:
        for text in status.fields.get(name, ()):
            try:
                texts[name] = parse_record_json(text)
            except ValueError as error:
                raise _posted(f"{name} is not valid JSON ({error})") from None
            if not isinstance(texts[name], dict):
                raise _posted(f"{name} must be a JSON object")
    # Document stores treat a name such as "attachment.size" as a path into the attribute.
    if any(name != FIELD and words_of(name)[:1] == [FIELD] for name in texts.get("data", {})):
        raise _posted(f"data cannot set what is in {FIELD!r}")
    return texts.get("data", {}), texts.get("permissions")


def mimetype_of(file: UploadedFile, rules: RecordSettings) -> str:
    """Return the media type of *file*: by the setting ``mimetypes``, else the client's, else a guess by its name."""
    extension = os.path.splitext(file.filename)[1].lower()
    fixed = {**_DEFAULT_TYPES, **dict(rules.mimetypes)}.get(extension)
    return fixed or media_type(file.content_type, file.filename)


def _is_allowed(filename: str, extensions: tuple[str, ...]) -> bool:
    """Return whether *filename* has one of *extensions*; of ``a.txt.gz``, both ``txt`` and ``gz`` count."""
    stem, extension = os.path.splitext(filename.lower())
    names = {extension.removeprefix(".")}
    if extension == ".gz":
        names.add(os.path.splitext(stem)[1].removeprefix("."))
    return not extensions or not names.isdisjoint(extensions)


def _posted(detail: str) -> RecordError:
    return RecordError(detail, errno=INVALID_POSTED_DATA, location="body")
