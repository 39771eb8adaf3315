"""The attribute ``attachment`` in bodies of requests: the value that a request would set, in any notation."""

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
CHANGED = object()  # a value that differs from any current one

_OPERATIONS = frozenset({"add", "remove", "replace", "move", "copy", "test"})
_OVERLOADED_CONTENT = "_content"  # and _content_type: a body within a form field, which older REST frameworks accept


class AttributeReader:
    """Finds the attribute in bodies of requests."""

    def __init__(self, envelope: tuple[str, ...]) -> None:
        """Find the attribute inside of *envelope*.

        :param envelope: the keys under which a body contains the attributes of a record; empty if the body is the
            record itself.
        """
        self._envelope = envelope

    def in_json(self, body: Any) -> Any:
        """Return the value that *body* would set; ABSENT if it does not set the attribute.

        :raises RecordError: the body is neither a record nor a valid change of one.
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

        :raises RecordError: a field contains JSON that is not a valid change of a record.
        """
        return CHANGED if any(self._sets(field) for field in fields) else ABSENT

    def _sets(self, field: FormField) -> bool:
        words = words_of(field.name)
        if words[:1] in ([FIELD], list(self._envelope)) or field.name.startswith(_OVERLOADED_CONTENT):
            return True
        # Some apps accept the record, or its attributes, as JSON in a field.
        return isinstance(field.value, dict) and (FIELD in field.value or self.in_json(field.value) is not ABSENT)

    def _in_list(self, items: list[Any]) -> Any:
        """Return CHANGED if a JSON Patch (RFC 6902), or a list of records, may set the attribute, else ABSENT."""
        for item in items:
            if isinstance(item, list):
                raise RecordError("A list within a list is neither a record nor an operation.", location="body")
            if not isinstance(item, dict):
                continue
            if "op" in item and self._patches(item):
                return CHANGED
            # A list of records, one of which has the attribute; or a mixture of records and operations.
            if FIELD in item or ("op" not in item and self.in_json(item) is not ABSENT):
                return CHANGED
        return ABSENT

    def _patches(self, operation: dict[str, Any]) -> bool:
        """Return whether an operation of a JSON Patch may change the attribute.

        :raises RecordError: the operation is not valid (RFC 6902).
        """
        op = operation["op"]
        if not isinstance(op, str) or op not in _OPERATIONS:
            raise RecordError("The 'op' of an operation must be one of those of RFC 6902.", location="body")
        pointers = [_pointer(operation.get("path"))]
        if op in {"move", "copy"}:
            source = _pointer(operation.get("from"))
            pointers += [source] if op == "move" else []
        target = [*self._envelope, FIELD]
        # The attribute itself, a value inside of it, or an object that contains it.
        return op != "test" and any(words[: len(target)] == target[: len(words)] for words in pointers)


def is_same_json(one: Any, other: Any) -> bool:
    """Return whether two values have the same JSON text: ``True``, ``1`` and ``1.0`` are equal in Python only."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _pointer(pointer: Any) -> list[str]:
    """Return the tokens of a JSON Pointer (RFC 6901), without the empty ones, which lenient parsers skip.

    :raises RecordError: it is not a JSON Pointer.
    """
    if (
        not isinstance(pointer, str)
        or not (pointer == "" or pointer.startswith("/"))
        or re.search("~(?![01])", pointer)
    ):
        raise RecordError("The 'path' and 'from' of an operation must be JSON Pointers (RFC 6901).", location="body")
    # Some implementations also decode percent-encoding.
    words = [word.replace("~1", "/").replace("~0", "~") for word in unquote(pointer).split("/")]
    return [word for word in words if word]
