"""Log lines with fields, of which a formatter can make text or JSON.

Every record of the logger ``fileupload`` is a readable sentence; those of :func:`log_event` also have ``event``, a
dictionary. No field may hold an identifier or a name of a file.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

log = logging.getLogger("fileupload")

_PLAIN = re.compile(r"[\w.:/+*@,-]+", re.ASCII)


def log_event(level: int, message: str, fields: Mapping[str, object], **details: object) -> None:
    """Log *message* with *fields*; those that are None or an empty text are left out.

    :param fields: written behind the message, as ``name=value``.
    :param details: fields that the message itself tells, for formatters only.
    """
    known = {name: value for name, value in fields.items() if value is not None and value != ""}
    text = " ".join([message, *(f"{name}={_text_of(value)}" for name, value in known.items())])
    log.log(level, "%s", text, extra={"event": {"message": message, **details, **known}})


def _text_of(value: object) -> str:
    """Return *value* as one printable word, or in quotes: text of a client can neither forge fields nor lines."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
