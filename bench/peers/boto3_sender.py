"""Sending a stream to an object store with boto3 alone; a peer of our object pool.

``boto3_sender.py WAY ENDPOINT ACCESS_KEY SECRET S3_BUCKET KEY SIZE``: the way is ``parts``, explicit multipart calls by
two threads, or ``fileobj``, boto3's own ``upload_fileobj`` with four. Prints the seconds that it took.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

_PART = 8 << 20
_BLOCK = os.urandom(1 << 20)


class _Stream(io.RawIOBase):
    """A stream of *size* bytes, like an arriving body."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), len(_BLOCK), self._left)
        buffer[:count] = memoryview(_BLOCK)[:count]
        self._left -= count
        return count


def _send_parts(client: Any, s3_bucket: str, key: str, stream: io.BufferedIOBase) -> None:
    upload = client.create_multipart_upload(Bucket=s3_bucket, Key=key)["UploadId"]
    sending: deque[Future[Any]] = deque()
    parts: list[dict[str, Any]] = []

    def send(number: int, data: bytes) -> dict[str, Any]:
        answer = client.upload_part(Bucket=s3_bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(2) as threads:
        number = 0
        while data := stream.read(_PART):
            number += 1
            if len(sending) == 2:
                parts.append(sending.popleft().result())
            sending.append(threads.submit(send, number, data))
        parts += [future.result() for future in sending]
    client.complete_multipart_upload(Bucket=s3_bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def main(way: str, endpoint: str, access_key: str, secret: str, s3_bucket: str, key: str, size: str) -> None:
    """Send, and print the seconds."""
    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    )
    client.head_bucket(Bucket=s3_bucket)
    stream = io.BufferedReader(_Stream(int(size)), 1 << 20)
    begun = time.perf_counter()
    if way == "parts":
        _send_parts(client, s3_bucket, key, stream)
    else:
        transfer = TransferConfig(max_concurrency=4, multipart_chunksize=_PART, preferred_transfer_client="classic")
        client.upload_fileobj(stream, s3_bucket, key, Config=transfer)
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
