"""Bodies of requests that may write records: read in the one way that all parsers agree on, or refused.

What the app reads must be what was checked. WebOb and others decode by the charset that they find anywhere in
Content-Type; ``json.loads`` and Flask's ``get_json(force=True)`` detect UTF-16 and UTF-32 whatever it says; of two
equal keys some parsers take the first and some the last. So a body is UTF-8, with one meaning, or the answer is 400 or
415.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.types import WSGIEnvironment

from fileupload.apps.record_attachments.errors import AmbiguousRequest, RecordError, UnsupportedBody

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110, 5.6.2
# Neither spaces around "=" nor quoted pairs: parsers differ in both.
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
# Names as HTML forms, Django and document stores write paths: data[attachment], attachment__size, attachment.size.
_SEPARATORS = re.compile(r"[.\[\]/]|__")
_MAX_FIELDS = 10_000
_MAX_DEPTH = 100  # of nested arrays and objects: less than any parser, and any walk through the value, can take

# Fields of forms by which frameworks take another method, content or charset than those of the request.
METHOD_FIELD = "_method"
_CHARSET_FIELD = "_charset_"


@dataclass(frozen=True)
class FormField:
    """A field of a form or of a query.

    :ivar value: the JSON object or array that its text is; None if it is neither.
    """

    name: str
    text: str
    value: Any = None


@dataclass(frozen=True)
class RecordBody:
    """The content of a body.

    :ivar value: JSON; None if there is none.
    :ivar fields: of a form.
    """

    value: Any = None
    fields: tuple[FormField, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods that the content names as those by which the request is meant, in upper case."""
        named = [field.text for field in self.fields if field.name == METHOD_FIELD]
        if isinstance(self.value, dict) and isinstance(self.value.get(METHOD_FIELD), str):
            named.append(self.value[METHOD_FIELD])
        return [name.strip().upper() for name in named]


def parse_content_type(header: str) -> tuple[str, dict[str, str]]:
    """Return the media type, in lower case, and the parameters of a Content-Type; an empty type for none.

    :raises UnsupportedBody: parsers may read it in different ways, or its charset is not UTF-8.
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
    # WebOb looks for "charset=" anywhere, Werkzeug continues "charset*0".
    if header.lower().count("charset") > ("charset" in parameters):
        raise UnsupportedBody("The header Content-Type may give the charset only as the parameter charset=utf-8.")
    if (charset := parameters.get("charset", "utf-8")).lower() not in _CHARSETS:
        raise UnsupportedBody(f"The body must be UTF-8 (RFC 8259, 8.1), not {charset[:40]!r}.")
    return match[1].lower(), parameters


def read_body(data: bytes, content_type: str, *, is_batch: bool = False) -> RecordBody:
    """Return the content of a body.

    :param is_batch: it holds several requests, of which each is to be refused for itself if it is no text.
    :raises RecordError: it is not what its type says, or can be read in more than one way.
    """
    if not data:
        return RecordBody()
    kind, parameters = parse_content_type(content_type)
    if kind == "multipart/form-data":
        return RecordBody(fields=_parts(data, parameters.get("boundary", "")))
    text = _decode(data)
    is_form = kind in {"", "application/x-www-form-urlencoded"}  # WebOb takes a body without a type for a form
    # Whatever the type says, some apps take a body for JSON.
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


def parse_json(text: str) -> Any:
    """Return what *text* says as JSON.

    :raises json.JSONDecodeError: it is not JSON.
    :raises ValueError, RecursionError: it is JSON that other parsers read in another way, or refuse.
    """
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deeper(value, _MAX_DEPTH):
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
    return value


def require_text(value: Any) -> None:
    """Refuse strings that are no Unicode text, which some parsers refuse, and others change (RFC 8259, 8.2).

    :raises RecordError: a string in *value* has half of a surrogate pair.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordError("Invalid JSON: half of a surrogate pair stands alone.", location="body") from None


def read_fields(text: str) -> tuple[FormField, ...]:
    """Return the fields of a urlencoded form or query.

    :raises RecordError: there are too many, or the value of one can be read in more than one way.
    """
    if text.count("&") + text.count(";") >= _MAX_FIELDS:
        raise RecordError(f"A form may have at most {_MAX_FIELDS} fields.", location="body")
    return tuple(_field(name, value) for name, value in sorted(read_pairs(text)))


def read_pairs(text: str) -> set[tuple[str, str]]:
    """Return the names and values that any parser may find in a urlencoded form or query."""
    # Python's own parser once took the semicolon for a separator too, and WebOb does.
    parts = {part for separator in "&;" for part in text.split(separator)}
    return {pair for part in parts for pair in parse_qsl(part, keep_blank_values=True, errors="replace")}


def query_of(environ: WSGIEnvironment) -> str:
    """Return the query of a request, whose bytes WSGI gives as Latin-1."""
    return str(environ.get("QUERY_STRING", "")).encode("latin-1", "replace").decode("utf-8", "replace")


def words_of(name: str) -> list[str]:
    """Return the words of a name that may be a path."""
    return [word.strip() for word in _SEPARATORS.split(unquote(name)) if word.strip()]


def _decode(data: bytes) -> str:
    """Return the text of a body that can be taken for UTF-8 only.

    :raises UnsupportedBody: it is something else, or may be.
    """
    if b"\0" not in data and not data.startswith(b"\xef\xbb\xbf"):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
    raise UnsupportedBody("The body must be UTF-8 without a byte order mark (RFC 8259, 8.1).")


def _find_json(text: str) -> tuple[bool, Any]:
    """Return whether *text* is JSON, and what it says, or what is wrong.

    :raises RecordError: it is JSON that can be read in more than one way.
    """
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        return False, error
    except (ValueError, RecursionError) as error:
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two equal keys (RFC 8259, 4)")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _field(name: str, text: str) -> FormField:
    name = name.strip()
    if name == _CHARSET_FIELD:
        raise UnsupportedBody("A form may not name its charset in a field; it must be UTF-8.")
    json_text = text.lstrip("\ufeff \t\r\n")
    is_json, value = _find_json(json_text) if json_text[:1] in {"{", "["} else (False, None)
    return FormField(name, text, value if is_json else None)


def _parts(data: bytes, boundary: str) -> tuple[FormField, ...]:
    """Return the parts of a multipart form (RFC 7578) in which no parser can find others.

    :raises RecordError: one could: some find a delimiter within a line, others a blank line of bare line feeds.
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
        text = ""  # a file that is no text
    return _field(match[1], text)


def _malformed_form() -> RecordError:
    return AmbiguousRequest("The form is malformed, or can be read in more than one way.", location="body")
