"""What client and server agree on of a file that is sent straight to the pool, and whether it was kept."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fileupload.errors import Incomplete, MalformedRequest, TooLarge
from fileupload.formatting import format_size
from fileupload.pool.parts import MAX_PARTS, MIN_PART_SIZE, Part
from fileupload.status import UploadStatus
from fileupload.wsgi.headers import clean_filename, media_type

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_SIZE = 10**19 - 1
_MAX_NAME_LENGTH = 4096  # characters; more than a form or an address can hold
_NAMED = 5  # missing parts in a sentence
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DirectUploadRequest:
    """What a client wants to send.

    :ivar size: its bytes; None where the client does not tell, and cuts it into parts as it likes.
    :ivar sha256: the hex digest that it will have, or None.
    :ivar form: the client would post it as a form.
    :ivar single_part: not in parts, whatever their size may be.
    :ivar pool_options: options for the pool (see :mod:`fileupload.pool.direct`).
    """

    filename: str
    content_type: str
    size: int | None
    sha256: str | None = None
    form: bool = False
    single_part: bool = False
    pool_options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Any) -> DirectUploadRequest:
        """Read ``{"filename", "content-type", "size"}``, with ``sha256`` and ``method`` if they are given.

        :raises MalformedRequest: it is something else.
        """
        if not isinstance(data, dict) or not isinstance(filename := data.get("filename"), str):
            raise MalformedRequest('Send JSON such as {"filename": "a.iso", "content-type": "…", "size": 1234}.')
        if len(filename) > _MAX_NAME_LENGTH:
            raise MalformedRequest(f"'filename' must have {_MAX_NAME_LENGTH} characters at most.")
        size, given, sha256 = data.get("size"), data.get("content-type", ""), data.get("sha256")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
            raise MalformedRequest("'size' must be the bytes of the file, a whole number from 0.")
        if not isinstance(given, str):
            raise MalformedRequest("'content-type' must be a media type, such as image/png.")
        if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise MalformedRequest("'sha256' must be the SHA-256 of the file, as 64 hex digits in lower case.")
        if (method := data.get("method", "PUT")) not in ("PUT", "POST"):
            raise MalformedRequest("'method' must be PUT, or POST for a form.")
        name = clean_filename(filename)
        return cls(filename=name, content_type=media_type(given, name), size=size, sha256=sha256, form=method == "POST")


def part_size(size: int | None, wanted: int) -> int:
    """Return the bytes of a part, so that *size* bytes fit into as many as stores take."""
    return max(wanted, math.ceil((size or 0) / MAX_PARTS / _MIB) * _MIB)


def part_sizes(size: int, part_size: int) -> Sequence[int]:
    """Return the bytes of each part; of an empty file there is one, which is empty too."""
    whole, rest = divmod(size, part_size)
    return [part_size] * whole + ([rest] if rest or not whole else [])


def check_parts(status: UploadStatus, parts: Sequence[Part], etags: Mapping[int, str] | None) -> None:
    """Compare what was sent with what was agreed.

    :param etags: of the parts by their numbers, where the client tells them.
    :raises Incomplete, TooLarge, MalformedRequest: it differs.
    """
    assert status.direct is not None
    total = sum(part.size for part in parts)
    max_size = min((limit for limit in (status.size, status.direct.max_size) if limit is not None), default=total)
    if not parts:
        raise Incomplete("Nothing was sent. Ask for an address again, send the file there, and then complete it.")
    if total > max_size:
        raise TooLarge(f"{total} bytes were sent, and at most {max_size} can be; nothing was kept.")
    assembled = parts[0].number == 0
    if total < (status.size or 0) or (parts[-1].number != len(parts) and not assembled):
        raise Incomplete(f"Of the file only {total} bytes were sent{_missing(parts)}; nothing was kept.")
    if small := next((part for part in parts[:-1] if part.size < MIN_PART_SIZE), None):
        raise MalformedRequest(f"Part {small.number} is too small: all but the last have {format_size(MIN_PART_SIZE)}.")
    if etags is not None and not assembled and etags != {part.number: part.etag.strip('"') for part in parts}:
        raise Incomplete("The parts that are stored are not those that were named; nothing was kept.")


def _missing(parts: Sequence[Part]) -> str:
    there = {part.number for part in parts}
    numbers = list(islice((number for number in range(1, parts[-1].number) if number not in there), _NAMED))
    return f" (without part {', '.join(map(str, numbers))})" if numbers else ""
