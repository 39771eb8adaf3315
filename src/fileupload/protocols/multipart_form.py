"""The protocol of forms, multipart/form-data (RFC 7578): browsers, ``FormData``, ``curl -F``, ``requests``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from fileupload.errors import FieldTooLarge, Incomplete, LimitExceeded, MalformedForm, UnsupportedRequest
from fileupload.formatting import format_size
from fileupload.protocols.base import Transfer, WholeBodyProtocol
from fileupload.protocols.boundary_search import Delimiter
from fileupload.protocols.receiver import Receiver
from fileupload.protocols.upload_request import UploadPolicy, UploadRequest
from fileupload.protocols.whole_file import FORM_TYPE, PieceMarkers, refuse_part_piece
from fileupload.settings import Settings
from fileupload.wsgi.charsets import PAGE_CHARSETS, decode_extended, decode_words
from fileupload.wsgi.headers import clean_filename, media_type, parse_parameters, type_of
from fileupload.wsgi.request_body import BodyReader

# RFC 2046, 5.1.1: 1 to 70 characters, the last no space. Its set of characters is smaller; clients send others too.
_BOUNDARY = re.compile(r"[ -~]{0,69}[!-~]", re.ASCII)
# The form that browsers send, which is unambiguous; any other is parsed strictly in _names_of.
_PLAIN_DISPOSITION = re.compile(r'form-data; name="[^"]*"(?:; filename="[^"]*")?', re.ASCII)
# Charsets that clients declare for text fields, and Python's codec of each; Apache HttpClient 4 sends ISO-8859-1.
_CHARSETS = {
    **dict.fromkeys(("", "utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "latin-1"), "latin-1"),
}
_CHARSET_FIELD = "_charset_"  # RFC 7578, 4.6: the field whose value is the charset of the form
_MAX_SHOWN = 60  # characters of a client's text in an error sentence
_PART_OVERHEAD = 1024  # bytes that the boundary and the headers of one part are expected to take


class FormProtocol(WholeBodyProtocol):
    """Stores the files of a form as the files of the bucket, and its text fields in the descriptor."""

    name = "form"
    # A POST to the upload address that is no form is answered with an error, not passed on to the app.
    methods = ("POST", "PUT")

    def matches(self, upload: UploadRequest) -> bool:
        """Return whether the request is a POST, or a PUT of a form to an address that does not name its file."""
        request = upload.request
        is_form = type_of(request.environ.get("CONTENT_TYPE")) == FORM_TYPE
        return request.method == "POST" or (request.method == "PUT" and is_form and not upload.filename)

    def prepare(self, request: UploadRequest) -> Transfer:
        """Check type, boundary and length; return the function that stores the form."""
        content_type = request.environ.get("CONTENT_TYPE", "")
        return prepare_form(request.body, content_type, request.settings, request.policy)


def prepare_form(body: BodyReader, content_type: str, settings: Settings, policy: UploadPolicy) -> Transfer:
    """Return the function that reads and stores the form in *body*.

    :raises UploadError: its *content_type* or its declared length suffices to refuse it.
    """
    boundary = _parse_boundary(content_type)
    # The declared length includes fields and part headers. Only a length that no valid form can have is refused here.
    policy.check_size(None if body.length is None else max(0, body.length - _overhead(settings)))
    return partial(_transfer, body, boundary, settings, policy)


def _transfer(body: BodyReader, boundary: str, settings: Settings, policy: UploadPolicy, receiver: Receiver) -> None:
    form = _Form(boundary, settings, policy, receiver)
    ceiling = None if policy.max_size is None else policy.max_size + _overhead(settings)
    try:
        for chunk in body.chunks(ceiling):
            form.feed(chunk)
            receiver.publish_if_due()
    except ParserLimitReached as error:
        raise LimitExceeded(f"The form passes a limit: {error}.") from None
    except MultipartError as error:
        if isinstance(error.args[-1], UnicodeDecodeError):
            raise form.undecodable("A name in the form") from None
        raise MalformedForm(f"The form cannot be read: {error.args[0]}.") from None
    form.require_end()


class _Form:
    """Feeds a form's bytes to the parser, and passes its files and fields to a receiver."""

    def __init__(self, boundary: str, settings: Settings, policy: UploadPolicy, receiver: Receiver) -> None:
        self._policy = policy
        self._settings = settings
        self._receiver = receiver
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=settings.max_header_size,
            max_header_count=settings.max_headers,
            max_segment_count=settings.max_files + settings.max_fields,
        )
        self._holds_no_delimiter = Delimiter(boundary).is_absent
        self._in_content = False  # whether the last chunk was only content of a file, to its last byte
        self._files = 0
        self._fields = 0
        self._fields_size = 0
        self._field: bytearray | None = None  # the bytes of the current text field; None in a file
        self._name = ""
        self._page_charset = "utf-8"  # the charset of names, and of fields that do not declare one, for people
        self._page_codec = "utf-8"
        self._charset = "utf-8"  # the codec of the current text field
        self._piece_markers = PieceMarkers()
        self._declared = False  # whether the part has a Content-Length, with which the parser compares its bytes
        self._unnamed: str | None = None  # the type of a file without a name and, so far, without content

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body.

        :raises UploadError, MultipartError: the form is malformed, or passes a limit.
        """
        # Nearly all chunks of a large file hold only content, and need not go through the parser.
        if self._in_content and self._holds_no_delimiter(chunk):
            self._receiver.write(chunk)
            return
        event = None
        for event in self._parser.parse(chunk):
            self._handle(event)
        # If the parser's last event is the chunk object itself, then its buffer is empty, and the next chunk may go
        # past it. (CPython shares bytes objects of length 1, so identity proves nothing there.) A part with a
        # Content-Length must go through the parser, which counts its bytes.
        returned_whole = event is chunk and len(chunk) > 1 and self._field is None
        self._in_content = returned_whole and self._unnamed is None and not self._declared

    def require_end(self) -> None:
        """Refuse a form without its closing boundary: with several servers, a broken connection looks like the end.

        :raises Incomplete: the closing boundary is missing.
        """
        try:
            self._parser.close()
        except MultipartError:
            raise Incomplete("The form ended before its closing boundary.") from None

    def _handle(self, event: MultipartSegment | bytes | None) -> None:
        """Handle one event of the parser: the headers of a part, bytes of its content, or None at its end."""
        if event is None:
            self._end()
        elif isinstance(event, MultipartSegment):
            self._begin(event)
        elif self._field is None:
            if self._unnamed is not None:
                self._policy.check_type(self._unnamed, "")
                self._unnamed = None
            self._receiver.write(event)
        else:
            self._add_text(event)

    def undecodable(self, what: str) -> MalformedForm:
        """Return the error for a name or a text that is not in the charset of the form."""
        return MalformedForm(
            f"{what} is not in {self._page_charset}. Save and serve the page of the form in UTF-8, give the form the"
            ' attribute accept-charset="utf-8", or let its first field be <input type="hidden" name="_charset_">.'
        )

    def _begin(self, part: MultipartSegment) -> None:
        self._name, given_filename = _names_of(part)
        refuse_part_piece(part.header("Content-Range"))
        self._declared = part.header("Content-Length") is not None
        if given_filename is None:
            self._fields += 1
            if self._fields > self._settings.max_fields:
                raise LimitExceeded(f"The form has more than {self._settings.max_fields} text fields.")
            self._field = bytearray()
            self._charset = _CHARSETS[part.charset.lower()] if part.charset else self._page_codec
            return
        self._files += 1
        if self._files > self._settings.max_files:
            raise LimitExceeded(f"The form has more than {self._settings.max_files} files.")
        filename = clean_filename(given_filename)
        content_type = media_type(part.content_type, filename)
        # Browsers send an empty file without a name for an empty file input. Its type matters only if content comes.
        self._unnamed = None if filename else content_type
        if filename:
            self._policy.check_file(self._name, filename, content_type)
        else:
            self._policy.file_filter.check_file(self._name, filename, content_type)
        self._receiver.begin_file(self._name, filename, content_type)

    def _add_text(self, data: bytes) -> None:
        assert self._field is not None
        self._fields_size += len(data)
        self._field += data
        if len(self._field) > self._settings.max_field_size:
            raise FieldTooLarge(
                f"The text field {_shown(self._name)} has more than {format_size(self._settings.max_field_size)};"
                " a file must be sent with a filename."
            )
        if self._fields_size > self._settings.max_fields_size:
            raise FieldTooLarge(f"The text fields have more than {format_size(self._settings.max_fields_size)}.")

    def _end(self) -> None:
        if self._field is None:
            self._receiver.end_file()
            return
        try:
            text = self._field.decode(self._charset)
        except UnicodeDecodeError:
            raise self.undecodable(f"The text field {_shown(self._name)}") from None
        if self._name == _CHARSET_FIELD and text and (self._fields, self._files) == (1, 0):
            self._set_page_charset(text)
        self._piece_markers.add(self._name, text)
        self._policy.file_filter.check_field(self._name)
        self._receiver.add_field(self._name, text)
        self._field = None

    def _set_page_charset(self, name: str) -> None:
        """Read names and text fields in the charset *name* from now on.

        :raises MalformedForm: it is not supported.
        """
        codec = PAGE_CHARSETS.get(name.strip().lower())
        if codec is None:
            raise MalformedForm(
                f"The field _charset_ names the charset {_shown(name)}, which is not supported. Send the form in UTF-8,"
                ' for example with the attribute accept-charset="utf-8".'
            )
        self._page_charset, self._page_codec = name.strip(), codec
        self._parser.header_charset = codec


def _shown(text: str) -> str:
    """Return a text of the client, quoted and at most _MAX_SHOWN characters long, for an error sentence."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")


def _parse_boundary(content_type: str) -> str:
    """Return the boundary in the Content-Type of a form (RFC 7578, 4.1).

    :raises UnsupportedRequest: the type is not multipart/form-data.
    :raises MalformedForm: the boundary is missing or malformed.
    """
    try:
        value, parameters = parse_parameters(content_type)
    except ValueError as error:
        raise UnsupportedRequest(f"The header Content-Type cannot be read: {error}.") from None
    if value != FORM_TYPE:
        raise UnsupportedRequest(
            'Send a form as multipart/form-data (in HTML: enctype="multipart/form-data"), or a plain file with PUT.'
        )
    boundary = parameters.get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise MalformedForm("The boundary in Content-Type must be 1 to 70 characters of ASCII (RFC 2046).")
    return boundary


def _overhead(settings: Settings) -> int:
    """Return how many bytes a valid form may have beside those of its files."""
    return settings.max_fields_size + (settings.max_files + settings.max_fields) * _PART_OVERHEAD


def _names_of(part: MultipartSegment) -> tuple[str, str | None]:
    """Return the name of a part, and its filename; None for a text field.

    ``name*`` and ``filename*`` have no meaning in a form (RFC 7578, 4.2), but some clients write a name that is not
    ASCII in this way only. Beside ``name`` and ``filename`` they are ignored.

    :raises MalformedForm: two parsers could find different names in it, or its charset is not supported.
    """
    dispositions = [value for name, value in part.headerlist if name == "Content-Disposition"]
    if len(dispositions) != 1:
        raise MalformedForm("A part of the form has two Content-Disposition headers.")
    name, filename = part.name, part.filename
    if _PLAIN_DISPOSITION.fullmatch(dispositions[0]) is None:
        try:
            _, parameters = parse_parameters(dispositions[0], strict=True)
        except ValueError as error:
            raise MalformedForm(f"The Content-Disposition of a part cannot be read: {error}.") from None
        # The parser is more lenient than the grammar; both must have found the same parameters.
        if ("name" in parameters) != bool(part.name) or ("filename" in parameters) != (part.filename is not None):
            raise MalformedForm("The Content-Disposition of a part is ambiguous.")
        name, filename = name or _extended(parameters, "name"), _extended(parameters, "filename", filename)
    if not name:
        raise MalformedForm("A part of the form has no name.")
    name = decode_words(name)
    if filename is None and (part.charset or "").lower() not in _CHARSETS:
        raise MalformedForm(f"The text field {_shown(name)} must be UTF-8, not {_shown(part.charset or '')}.")
    return name, filename if filename is None else decode_words(filename)


def _extended(parameters: Mapping[str, str], name: str, plain: str | None = None) -> str | None:
    """Return the *plain* value of a parameter, or else that of its extended form; None if there is neither.

    :raises MalformedForm: the extended form cannot be read.
    """
    if plain is not None or (value := parameters.get(f"{name}*")) is None:
        return plain
    text = decode_extended(value)
    if text is None:
        raise MalformedForm(
            f"The parameter {name + '*'!r} of a part cannot be read. Send {name!r}, in UTF-8, in its place."
        )
    return text
