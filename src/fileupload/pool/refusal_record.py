"""The record of a refusal: the content of one slot in a pool's register of refusals.

An upload that is refused before its first byte must cost next to nothing, because a client can cause thousands of
refusals in a second, above all when the disk is full. So a refusal creates no bucket. It is written to one of a fixed
number of slots, chosen by the bucket's id; of two refusals that share a slot the newer one is kept. Readers ignore a
refusal that is older than an hour.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace

from fileupload import clocks
from fileupload.status import UploadStatus, seconds_of

SLOT_SIZE = 1024  # bytes
REFUSAL_LIFETIME = 3600.0  # seconds

_HEADER = struct.Struct(">4sIH")  # magic, CRC-32 of the payload, its length
_MAGIC = b"FUR1"
_TEXT_LIMITS = (256, 64, 16, 0)  # characters of each text, tried in this order until the record fits


def slot_of(bucket_id: str, slots: int) -> int:
    """Return the number of a bucket's slot. Ids are random, so a part of one serves as a hash."""
    return int(bucket_id[:8], 16) % slots


def encode_refusal(bucket_id: str, status: UploadStatus) -> bytes:
    """Return the content of a slot, at most SLOT_SIZE bytes; texts that are too long are cut."""
    for limit in _TEXT_LIMITS:
        cut = replace(
            status,
            filename=status.filename[:limit],
            content_type=status.content_type[:limit],
            error=status.error[:limit] if status.error else status.error,
            direct=None,
        )
        payload = json.dumps({"id": bucket_id, "status": cut.to_record()}, separators=(",", ":")).encode()
        if _HEADER.size + len(payload) <= SLOT_SIZE:
            return _HEADER.pack(_MAGIC, zlib.crc32(payload), len(payload)) + payload
    return b""


def decode_refusal(data: bytes, bucket_id: str) -> UploadStatus | None:
    """Return the refusal of a bucket from the content of its slot.

    :return: None if the slot is empty or torn, or holds an old refusal or that of another bucket.
    """
    if len(data) < _HEADER.size:
        return None
    magic, checksum, length = _HEADER.unpack_from(data)
    payload = data[_HEADER.size : _HEADER.size + length]
    if magic != _MAGIC or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    try:
        record = json.loads(payload)
        status = UploadStatus.from_record(record["status"])
        finished = seconds_of(status.finished or "")
    except (ValueError, LookupError, TypeError):  # InvalidRecord is a ValueError
        return None
    return status if record["id"] == bucket_id and clocks.is_recent(finished, REFUSAL_LIFETIME) else None
