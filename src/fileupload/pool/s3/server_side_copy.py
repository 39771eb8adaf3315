"""Copies that an S3-compatible store makes by itself: not a byte of them passes through us."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from fileupload.pool.direct import MAX_PARTS
from fileupload.pool.s3.client import translate_errors

# Stores copy up to 5 GiB in one request, but some say nothing until it is done, and no answer is awaited for so long.
_MAX_AT_ONCE = 1 << 30
_MIN_COPY_PART_SIZE = 512 << 20
_AT_A_TIME = 4  # parts of one object that the store copies side by side


def copy_object(
    client: Any, source: Mapping[str, str], target: Mapping[str, str], headers: Mapping[str, str], *, etag: str = ""
) -> None:
    """Copy an object, whole or not at all.

    :param source: ``Bucket`` and ``Key`` of it; so is *target*.
    :param headers: parameters of boto3 for what the copy is stored with; empty: with what the source is.
    :param etag: only if the source has that one.
    :raises FileNotFoundError: there is no source, or it has another ETag.
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
            made = _copy_whole(client, condition, target, headers)
    except FileExistsError:
        raise _changed(source) from None
    # Ceph ignores the condition. What has the same ETag has the same bytes; if not, the source is looked at again.
    if made.strip('"') != found["ETag"].strip('"') and not _is_still(client, source, found["ETag"]):
        with translate_errors(target["Key"]):
            client.delete_object(**target)
        raise _changed(source)


def _copy_whole(
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
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="fileupload-copy") as copiers:
            parts = list(copiers.map(copy_part, range(1, math.ceil(size / step) + 1)))
        with translate_errors(target["Key"]):
            listed = {"Parts": parts}
            return str(client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=listed)["ETag"])
    except BaseException:
        with suppress(OSError), translate_errors(target["Key"]):
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def _is_still(client: Any, source: Mapping[str, str], etag: str) -> bool:
    try:
        with translate_errors(source["Key"]):
            return bool(client.head_object(**source)["ETag"] == etag)
    except FileNotFoundError:
        return False


def _changed(source: Mapping[str, str]) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such object any more", source["Key"])
