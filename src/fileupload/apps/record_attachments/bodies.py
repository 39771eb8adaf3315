"""Bodies of requests that may write records: parsed in the one way in which all parsers agree, or refused.

The app must read the same content that was checked. WebOb and others decode by a charset that they find anywhere in
Content-Type; ``json.loads`` and Flask's ``get_json(force=True)`` detect UTF-16 and UTF-32, whatever the charset is; of
two equal keys some parsers use the first and some the last. So a body must be unambiguous UTF-8; any other is answered
with 400 or 415.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.types import WSGIEnvironment

from fileupload.apps.record_attachments.errors import AmbiguousRequest, RecordError, UnsupportedBody
from fileupload.wsgi.json_body import parse_json
from fileupload.wsgi.paths import from_wsgi_path

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2
# No spaces around "=", and no quoted pairs: parsers differ in both.
_PARAMETER = rf'[ \t]*;[ \t]*({_TOKEN})=(?:"([^"\\\x00-\x1f\x7f-\uffff]*)"|({_TOKEN}))'
_CONTENT_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})((?:{_PARAMETER})*)[ \t]*;?[ \t]*")
_PARAMETERS = re.compile(_PARAMETER)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
_PART_HEAD = re.compile(
    r'Content-Disposition: form-data; name="([^"\\\x00-\x1f]+)"(?:; filename="[^"\\\x00-\x1f]*")?'
    r"(?:\r\nContent-Type: [!-:<-~]+(?:; ?charset=\"?(?:utf-8|us-ascii)\"?)?)?",
    re.IGNORECASE,
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Separators of paths in names, in HTML forms, Django and document stores: data[attachment], attachment__size,
# attachment.size.
_SEPARATORS = re.compile(r"[.\[\]/]|__")
_MAX_FIELDS = 10_000
_MAX_DEPTH = 100  # levels of nested arrays and objects; any parser and any recursion can handle that

# Form fields by which frameworks override the method or the charset of a request.
METHOD_FIELD = "_method"
_CHARSET_FIELD = "_charset_"


@dataclass(frozen=True)
class FormField:
    """A field of a form or of a query.

    :ivar value: its text parsed as a JSON object or array; None if it is neither.
    """

    name: str
    text: str
    value: Any = None


@dataclass(frozen=True)
class RecordBody:
    """The content of a body.

    :ivar value: its JSON value, or None.
    :ivar fields: the fields of a form.
    """

    value: Any = None
    fields: tuple[FormField, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods by which the content overrides that of the request, in upper case."""
        named = [field.text for field in self.fields if field.name == METHOD_FIELD]
        if isinstance(self.value, dict) and isinstance(self.value.get(METHOD_FIELD), str):
            named.append(self.value[METHOD_FIELD])
        return [name.strip().upper() for name in named]


def parse_content_type(header: str) -> tuple[str, dict[str, str]]:
    """Return the media type, in lower case, and the parameters of a Content-Type; an empty type for an empty header.

    :raises UnsupportedBody: the header is ambiguous, or its charset is not UTF-8.
    """
    if not header.strip():
        return "", {}
    match = _CONTENT_TYPE.fullmatch(header)
    if match is None:
        raise UnsupportedBody("The header Content-Type is malformed; send the record as application/json.")
    found = [(name.lower(), quoted or plain) for name, quoted, plain in _PARAMETERS.findall(match[2])]
    parameters = dict(found)
    if len(parameters) != len(found):
        raise UnsupportedBody("A parameter of the header Content-Type is given twice.")
    # WebOb searches for "charset=" anywhere; Werkzeug joins continuations such as "charset*0" (RFC 2231).
    if header.lower().count("charset") > ("charset" in parameters):
        raise UnsupportedBody("The header Content-Type may give the charset only as the parameter charset=utf-8.")
    if (charset := parameters.get("charset", "utf-8")).lower() not in _CHARSETS:
        raise UnsupportedBody(f"The body must be UTF-8 (RFC 8259, 8.1), not {charset[:40]!r}.")
    return match[1].lower(), parameters


def read_body(data: bytes, content_type: str, *, is_batch: bool = False) -> RecordBody:
    """Return the content of a body.

    :param is_batch: whether it is a batch, whose requests are checked for valid Unicode one by one.
    :raises RecordError: the body does not match its type, or is ambiguous.
    """
    if not data:
        return RecordBody()
    kind, parameters = parse_content_type(content_type)
    if kind == "multipart/form-data":
        return RecordBody(fields=_parts(data, parameters.get("boundary", "")))
    text = _decode(data)
    is_form = kind in {"", "application/x-www-form-urlencoded"}  # WebOb parses a body without a type as a form
    # Some apps parse any body as JSON, whatever its type is.
    is_json, value = _find_json(text)
    if not is_json and (not kind or kind.endswith(("/json", "+json"))):
        raise RecordError(f"Invalid JSON: {value}", location="body")
    if not is_json and not is_form:
        raise UnsupportedBody("Send the record as JSON (Content-Type: application/json).")
    if isinstance(value, str) and is_json:
        raise RecordError("A record is a JSON object, not a text.", location="body")
    if is_json and not is_batch and _SURROGATE.search(text):
        require_text(value)
    return RecordBody(value if is_json else None, read_fields(text) if is_form else ())


def parse_record_json(text: str) -> Any:
    """Return the JSON value in *text*, if all parsers read the same value.

    :raises ValueError: *text* is refused, with the reason as part of a sentence; :class:`json.JSONDecodeError` if it is
        not JSON at all.
    """
    value = parse_json(text, unique_keys=True)
    if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deeper(value, _MAX_DEPTH):
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
    return value


def require_text(value: Any) -> None:
    """Refuse strings that are not valid Unicode: parsers differ in what they do with them (RFC 8259, 8.2).

    :raises RecordError: a string in *value* has an unpaired surrogate.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordError("Invalid JSON: a string has an unpaired surrogate.", location="body") from None


def read_fields(text: str) -> tuple[FormField, ...]:
    """Return the fields of a urlencoded form or query.

    :raises RecordError: there are too many, or the value of one is ambiguous.
    """
    if text.count("&") + text.count(";") >= _MAX_FIELDS:
        raise RecordError(f"A form may have at most {_MAX_FIELDS} fields.", location="body")
    return tuple(_field(name, value) for name, value in sorted(read_pairs(text)))


def read_pairs(text: str) -> set[tuple[str, str]]:
    """Return all names and values that some parser may find in a urlencoded form or query."""
    # WebOb, and Python's parser before 3.10, treat the semicolon as a separator, too.
    parts = {part for separator in "&;" for part in text.split(separator)}
    return {pair for part in parts for pair in parse_qsl(part, keep_blank_values=True, errors="replace")}


def query_of(environ: WSGIEnvironment) -> str:
    """Return the query of a request as text."""
    return from_wsgi_path(str(environ.get("QUERY_STRING", "")), "replace")


def words_of(name: str) -> list[str]:
    """Return the components of a name that may be a path, such as ``data[attachment]``."""
    return [word.strip() for word in _SEPARATORS.split(unquote(name)) if word.strip()]


def _decode(data: bytes) -> str:
    """Return the text of a body in UTF-8.

    :raises UnsupportedBody: the body is not in UTF-8, or a parser could detect another encoding.
    """
    if b"\0" not in data and not data.startswith(b"\xef\xbb\xbf"):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
    raise UnsupportedBody("The body must be UTF-8 without a byte order mark (RFC 8259, 8.1).")


def _find_json(text: str) -> tuple[bool, Any]:
    """Return True and the value if *text* is JSON, otherwise False and the error.

    :raises RecordError: it is JSON that parsers may read differently.
    """
    try:
        value = parse_record_json(text)
    except json.JSONDecodeError as error:
        return False, error
    except ValueError as error:
        raise RecordError(f"Invalid JSON: {error}", location="body") from None
    return True, value


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, dict | list) for each in level)


def _field(name: str, text: str) -> FormField:
    name = name.strip()
    if name == _CHARSET_FIELD:
        raise UnsupportedBody("A form may not name its charset in a field; it must be UTF-8.")
    json_text = text.lstrip("\ufeff \t\r\n")
    is_json, value = _find_json(json_text) if json_text[:1] in {"{", "["} else (False, None)
    return FormField(name, text, value if is_json else None)


def _parts(data: bytes, boundary: str) -> tuple[FormField, ...]:
    """Return the parts of a multipart form (RFC 7578), if all parsers find the same ones.

    :raises RecordError: they may not: some parsers accept a delimiter inside of a line, others bare line feeds as the
        blank line.
    """
    if _BOUNDARY.fullmatch(boundary) is None:
        raise UnsupportedBody("The boundary in Content-Type must be 1 to 70 letters, digits or '()+_,./:=?-.")
    first, *parts = data.split(b"--" + boundary.encode())
    if first or len(parts) > _MAX_FIELDS or not parts or parts.pop() not in {b"--", b"--\r\n"}:
        raise _malformed_form()
    return tuple(map(_part, parts))


def _part(data: bytes) -> FormField:
    head, blank, content = data.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    try:
        match = _PART_HEAD.fullmatch(head.decode("utf-8"))
    except UnicodeDecodeError:
        match = None
    if not data.startswith(b"\r\n") or not blank or not content.endswith(b"\r\n") or match is None:
        raise _malformed_form()
    content = content[:-2]
    try:
        text = content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        text = ""  # a binary file
    return _field(match[1], text)


def _malformed_form() -> RecordError:
    return AmbiguousRequest("The form is malformed or ambiguous.", location="body")
