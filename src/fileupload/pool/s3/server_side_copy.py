"""Server-side copies: an S3-compatible store copies an object by itself, and no byte passes through this process.

boto3's managed copy is not used: it does not return the ETag that the check for Ceph needs, so it costs two more
requests, and what it raises for an unmet condition, and does with headers, depends on the version of s3transfer.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from fileupload.pool.parts import MAX_PARTS
from fileupload.pool.s3.client import translate_errors

# Stores copy up to 5 GiB in one request, but some send no byte of the response before the end, and the read times out.
_MAX_AT_ONCE = 1 << 30
_MIN_COPY_PART_SIZE = 512 << 20
_PARALLEL_PARTS = 4  # of one object


def copy_object(
    client: Any, source: Mapping[str, str], target: Mapping[str, str], headers: Mapping[str, str], *, etag: str = ""
) -> None:
    """Copy an object completely, or not at all.

    :param source: its ``Bucket`` and ``Key``; *target* likewise.
    :param headers: parameters of boto3 for the headers of the copy; empty: those of the source.
    :param etag: copy only if the source has this ETag; empty: any.
    :raises FileNotFoundError: there is no source, it has another ETag, or it changes during the copy.
    """
    with translate_errors(source["Key"]):
        found = client.head_object(**source)
    if etag and found["ETag"] != etag:
        raise _changed(source)
    condition = {"CopySource": dict(source), "CopySourceIfMatch": found["ETag"]}
    size: int = found["ContentLength"]
    try:
        if size > _MAX_AT_ONCE:
            made = _copy_parts(client, condition, target, {"ContentType": found["ContentType"], **headers}, size)
        else:
            made = _copy_at_once(client, condition, target, headers)
    except FileExistsError:
        raise _changed(source) from None
    # Ceph ignores the condition. If source and copy have the same ETag, they have the same bytes. Otherwise (a copy in
    # parts has an ETag of its own) the source must still be the one that was found.
    if made.strip('"') != found["ETag"].strip('"') and not _is_unchanged(client, source, found["ETag"]):
        with translate_errors(target["Key"]):
            client.delete_object(**target)
        raise _changed(source)


def _copy_at_once(
    client: Any, condition: Mapping[str, Any], target: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Copy in one request; return the ETag of the copy."""
    replaced = {"MetadataDirective": "REPLACE", **headers} if headers else {}
    with translate_errors(target["Key"]):
        return str(client.copy_object(**condition, **target, **replaced)["CopyObjectResult"]["ETag"])


def _copy_parts(
    client: Any, condition: Mapping[str, Any], target: Mapping[str, str], headers: Mapping[str, str], size: int
) -> str:
    """Copy in several requests; return the ETag of the copy."""
    step = max(_MIN_COPY_PART_SIZE, math.ceil(size / MAX_PARTS))
    with translate_errors(target["Key"]):
        upload = client.create_multipart_upload(**target, **headers)["UploadId"]

    def copy_part(number: int) -> dict[str, Any]:
        start = (number - 1) * step
        span = f"bytes={start}-{min(start + step, size) - 1}"
        with translate_errors(target["Key"]):
            answer = client.upload_part_copy(
                **condition, **target, UploadId=upload, PartNumber=number, CopySourceRange=span
            )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    try:
        with ThreadPoolExecutor(_PARALLEL_PARTS, thread_name_prefix="fileupload-copy") as executor:
            parts = list(executor.map(copy_part, range(1, math.ceil(size / step) + 1)))
        with translate_errors(target["Key"]):
            listed = {"Parts": parts}
            return str(client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=listed)["ETag"])
    except BaseException:
        with suppress(OSError), translate_errors(target["Key"]):
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def _is_unchanged(client: Any, source: Mapping[str, str], etag: str) -> bool:
    try:
        with translate_errors(source["Key"]):
            return bool(client.head_object(**source)["ETag"] == etag)
    except FileNotFoundError:
        return False


def _changed(source: Mapping[str, str]) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "the object has changed", source["Key"])
