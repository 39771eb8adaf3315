"""The attribute ``attachment`` in bodies: what a request would make of it, however it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from fileupload.apps.record_attachments.bodies import FormField, words_of
from fileupload.apps.record_attachments.errors import RecordError
from fileupload.apps.record_attachments.form import FIELD

ABSENT = object()
CHANGED = object()  # something that the attribute cannot be already

_OPERATIONS = frozenset({"add", "remove", "replace", "move", "copy", "test"})
_OVERLOADED_CONTENT = "_content"  # and _content_type: a body within a form, as older REST frameworks take it


class AttributeReader:
    """Reads what bodies say of the attribute.

    :ivar envelope: the names under which the attributes of a record are in a body; none where the body is the record.
    """

    def __init__(self, envelope: tuple[str, ...]) -> None:
        self._envelope = envelope

    def in_json(self, body: Any) -> Any:
        """Return what *body* would make of the attribute; ABSENT if it leaves it as it is.

        :raises RecordError: it is no record, and no change of one that could be understood.
        """
        if isinstance(body, list):
            return self._in_list(body)
        if not isinstance(body, dict):
            return ABSENT
        attributes: Any = body
        for name in self._envelope:
            if any(key != name and words_of(key)[:1] == [name] for key in attributes):
                return CHANGED
            attributes = attributes.get(name)
            if attributes is None:
                return ABSENT
            if not isinstance(attributes, dict):
                raise RecordError(f"{name!r} must be a JSON object.", location="body")
        if any(key != FIELD and words_of(key)[:1] == [FIELD] for key in attributes):
            return CHANGED
        return attributes.get(FIELD, ABSENT)

    def in_fields(self, fields: Iterable[FormField]) -> Any:
        """Return CHANGED if one of *fields* may set the attribute, else ABSENT.

        :raises RecordError: one holds JSON that could not be understood.
        """
        return CHANGED if any(self._sets(field) for field in fields) else ABSENT

    def _sets(self, field: FormField) -> bool:
        words = words_of(field.name)
        if words[:1] in ([FIELD], list(self._envelope)) or field.name.startswith(_OVERLOADED_CONTENT):
            return True
        # Some apps take the record, or its attributes, as JSON in a field.
        return isinstance(field.value, dict) and (FIELD in field.value or self.in_json(field.value) is not ABSENT)

    def _in_list(self, items: list[Any]) -> Any:
        """Return what a JSON Patch (RFC 6902), or a list of records, would make of the attribute."""
        for item in items:
            if isinstance(item, list):
                raise RecordError("A list within a list is neither a record nor an operation.", location="body")
            if not isinstance(item, dict):
                continue
            if "op" in item and self._patches(item):
                return CHANGED
            # A list of records, each of which would bring the attribute; or something between both.
            if FIELD in item or ("op" not in item and self.in_json(item) is not ABSENT):
                return CHANGED
        return ABSENT

    def _patches(self, operation: dict[str, Any]) -> bool:
        """Tell whether an operation of a JSON Patch concerns the attribute.

        :raises RecordError: it is not as RFC 6902 has it.
        """
        op = operation["op"]
        if not isinstance(op, str) or op not in _OPERATIONS:
            raise RecordError("The 'op' of an operation must be one of those of RFC 6902.", location="body")
        pointers = [_pointer(operation.get("path"))]
        if op in {"move", "copy"}:
            source = _pointer(operation.get("from"))
            pointers += [source] if op == "move" else []
        place = [*self._envelope, FIELD]
        # The attribute itself, something in it, or the whole of what it is in.
        return op != "test" and any(words[: len(place)] == place[: len(words)] for words in pointers)


def is_same_json(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: in Python, ``True``, ``1`` and ``1.0`` are equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _pointer(pointer: Any) -> list[str]:
    """Return the words of a JSON Pointer (RFC 6901), without the empty ones, which lenient parsers pass over.

    :raises RecordError: it is none.
    """
    if (
        not isinstance(pointer, str)
        or not (pointer == "" or pointer.startswith("/"))
        or re.search("~(?![01])", pointer)
    ):
        raise RecordError("The 'path' and 'from' of an operation must be JSON Pointers (RFC 6901).", location="body")
    # Some implementations decode percent-encoding too.
    words = [word.replace("~1", "/").replace("~0", "~") for word in unquote(pointer).split("/")]
    return [word for word in words if word]
