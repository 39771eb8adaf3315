"""An S3-compatible object store: AWS S3, Ceph, OpenStack Swift, MinIO, GCS. boto3 is known here and next door alone."""

from __future__ import annotations

import copy
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fileupload.identifiers import new_id
from fileupload.pool.direct import Part
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.object.redis_presence import RedisPresence
from fileupload.pool.object.store import ObjectStore, StoredObject
from fileupload.pool.s3.client import make_client, translate_errors, translate_startup_errors
from fileupload.pool.s3.presigned_urls import S3Addresses
from fileupload.pool.s3.server_side_copy import copy_object
from fileupload.settings import Settings

__all__ = ["S3Store", "make_client", "open_pool", "open_store"]

log = logging.getLogger("fileupload")

_CONDITIONAL_WRITE_DELAY = 0.25  # seconds after which all who wrote in one moment have written
_DELAY_WITHOUT_CONDITIONS = 1.0
_SWIFT = "x-openstack-request-id"  # a header of OpenStack Swift's answers
_MAX_DELETED = 1000  # keys in one request


def open_pool(settings: Settings) -> ObjectPool:
    """Return the pool that the setting ``pool`` names.

    :raises SettingError: it cannot be used.
    """
    store, prefix = open_store(settings, settings.pool)
    pool = ObjectPool(store, prefix)
    store.check(pool.prefix)
    if settings.progress:
        pool.presence = RedisPresence(settings.progress, f"{settings.s3_endpoint_url} {settings.pool}", pool.presence)
    return pool


def open_store(settings: Settings, address: str) -> tuple[S3Store, str]:
    """Return the store of the settings, and the prefix that *address* names in it: ``s3://s3_bucket/prefix``."""
    parts = urlsplit(address)
    make = partial(
        make_client,
        region=settings.s3_region,
        key_id=settings.s3_access_key_id,
        secret=settings.s3_secret_access_key,
    )
    store = S3Store(
        partial(make, endpoint_url=settings.s3_endpoint_url),
        parts.netloc,
        partial(make, endpoint_url=settings.s3_public_url or settings.s3_endpoint_url),
    )
    prefix = parts.path.strip("/")
    return store, prefix + "/" if prefix else ""


class S3Store(S3Addresses):
    """Objects in an ``s3_bucket``."""

    def __init__(self, make: Callable[[], Any], s3_bucket: str, make_signer: Callable[[], Any] | None = None) -> None:
        """Use the client of boto3 that *make* returns; each process has one of its own, since it has connections.

        :param make_signer: returns one for the address under which clients see the store, if that is another.
        """
        self._make = make
        self._clients: dict[int, Any] = {}  # by process
        self._make_signer = make_signer
        self.s3_bucket = s3_bucket
        self._headers: dict[str, str] = {}  # parameters of boto3 for what objects are stored with
        self.conditional_write_delay = (
            0.0  # seconds after which a conditional write is certain; :meth:`check` finds out
        )

    @property
    def client(self) -> Any:
        """The client of this process."""
        if (pid := os.getpid()) not in self._clients:
            self._clients[pid] = self._make()
        return self._clients[pid]

    @cached_property
    def signer(self) -> Any:
        """The client that signs; it has no connections."""
        return self._make_signer() if self._make_signer else self.client

    def check(self, prefix: str) -> None:
        """Try what the pool needs: to list, to write and to remove below *prefix*, and to write only what is new.

        :raises SettingError: it cannot be, with the store's own answer.
        """
        with self._probe_object(prefix, "pool") as (key, headers):
            self._probe_conditional_writes(key, headers)

    def check_writing(self, prefix: str, setting: str) -> None:
        """Try to list, to write and to remove below *prefix*, for a setting of that name.

        :raises SettingError: it cannot be, with the store's own answer.
        """
        with self._probe_object(prefix, setting):
            pass

    @contextmanager
    def _probe_object(self, prefix: str, setting: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Give the key of an object that is there for a while, and the headers of the answer to its writing."""
        key = f"{prefix}.check-{new_id()}"
        target = {"Bucket": self.s3_bucket, "Key": key}
        with translate_startup_errors(setting, f"s3://{self.s3_bucket}"):
            self.client.list_objects_v2(Bucket=self.s3_bucket, Prefix=key, MaxKeys=1)
            answer = self.client.put_object(**target, Body=b"", **self._headers)
            try:
                yield key, answer["ResponseMetadata"]["HTTPHeaders"]
            finally:
                self.client.delete_object(**target)

    def _probe_conditional_writes(self, key: str, headers: Mapping[str, str]) -> None:
        """Find out what a condition is worth here; *key* is there."""
        # Swift takes parts for an object that is complete already, which breaks it, and knows no POST policies.
        self.rejects_late_parts = self.supports_post_policy = _SWIFT not in headers
        if self._put(key, b"", {"IfNoneMatch": "*"}):
            self.conditional_write_delay = _DELAY_WITHOUT_CONDITIONS
            log.warning(
                "this object store ignores If-None-Match; each finished upload waits %g s", self.conditional_write_delay
            )
        elif _SWIFT in headers:
            # It looks whether there is an object when a write begins, and not again when it ends.
            self.conditional_write_delay = _CONDITIONAL_WRITE_DELAY

    def put(self, key: str, data: bytes | bytearray, *, new: bool = False) -> bool:
        """Store an object."""
        if not new:
            return self._put(key, bytes(data), {})
        if self.conditional_write_delay == _DELAY_WITHOUT_CONDITIONS and any(
            each.key == key for each in self.list(key)
        ):
            return False
        writer = new_id()
        if not self._put(key, bytes(data), {"IfNoneMatch": "*", "Metadata": {"writer": writer}}):
            # It may be ours, of which the answer was lost on the way, so that boto3 sent it again.
            return self._writer(key) == writer
        if self.conditional_write_delay:
            # The last of several who wrote in one moment is the one, and each looks when all of them have written.
            time.sleep(self.conditional_write_delay)
            return self._writer(key) == writer
        return True

    def _writer(self, key: str) -> str | None:
        """Return who has written what was new; None if it is gone."""
        try:
            with translate_errors(key):
                answer = self.client.head_object(Bucket=self.s3_bucket, Key=key)
        except FileNotFoundError:
            return None
        return str(answer["Metadata"].get("writer"))

    def _put(self, key: str, data: bytes, options: dict[str, Any]) -> bool:
        try:
            with translate_errors(key):
                self.client.put_object(Bucket=self.s3_bucket, Key=key, Body=data, **self._headers, **options)
        except FileExistsError:
            return False
        return True

    def get(self, key: str) -> bytes:
        """Return a small object."""
        with translate_errors(key):
            body: bytes = self.client.get_object(Bucket=self.s3_bucket, Key=key)["Body"].read()
            return body

    def open(self, key: str, start: int = 0) -> BinaryIO:
        """Return the bytes of an object from *start* on."""
        options = {"Range": f"bytes={start}-"} if start else {}
        with translate_errors(key):
            return cast(BinaryIO, self.client.get_object(Bucket=self.s3_bucket, Key=key, **options)["Body"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        names = [{"Key": key} for key in keys]
        for at in range(0, len(names), _MAX_DELETED):
            some = names[at : at + _MAX_DELETED]
            with translate_errors(some[0]["Key"]):
                if len(some) == 1:
                    self.client.delete_object(Bucket=self.s3_bucket, Key=some[0]["Key"])
                    continue
                answer = self.client.delete_objects(Bucket=self.s3_bucket, Delete={"Objects": some, "Quiet": True})
            for failed in answer.get("Errors", ()):
                raise OSError(errno.EIO, f"the store says {failed.get('Code')}", failed.get("Key"))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix*."""
        for page, now in self._pages("list_objects_v2", Prefix=prefix):
            for each in page.get("Contents", ()):
                age = max(0.0, (now - each["LastModified"]).total_seconds())
                yield StoredObject(each["Key"], each["Size"], age)

    def common_prefixes(self, prefix: str) -> Iterator[str]:
        """Yield what stands between *prefix* and the next slash."""
        for page, _ in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"].removeprefix(prefix).rstrip("/")

    def create_multipart_upload(self, key: str, content_type: str) -> str:
        """Begin a multipart upload."""
        headers = {"ContentType": content_type, **self._headers}
        with translate_errors(key):
            answer = self.client.create_multipart_upload(Bucket=self.s3_bucket, Key=key, **headers)
        return str(answer["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> Part:
        """Store one part."""
        with translate_errors(key):
            answer = self.client.upload_part(
                Bucket=self.s3_bucket, Key=key, UploadId=upload, PartNumber=number, Body=data
            )  # fmt: skip
        return Part(number, answer["ETag"], len(data))

    def stat(self, key: str) -> Part:
        """Return size and ETag of an object."""
        with translate_errors(key):
            answer = self.client.head_object(Bucket=self.s3_bucket, Key=key)
        age = (_time_of(answer) - answer["LastModified"]).total_seconds()
        return Part(1, answer["ETag"], answer["ContentLength"], max(0.0, age))

    def copy(self, source: str, key: str, *, etag: str = "", content_type: str = "") -> None:
        """Let the store copy an object."""
        headers = {"ContentType": content_type} if content_type else {}
        target = {"Bucket": self.s3_bucket, "Key": key}
        copy_object(self.client, {**target, "Key": source}, target, {**headers, **self._headers}, etag=etag)

    def copy_from(self, origin: ObjectStore, source: str, key: str) -> bool:
        """Let the store copy an object of any ``s3_bucket`` in it."""
        if not isinstance(origin, S3Store) or origin.client.meta.endpoint_url != self.client.meta.endpoint_url:
            return False
        target = {"Bucket": self.s3_bucket, "Key": key}
        copy_object(self.client, {"Bucket": origin.s3_bucket, "Key": source}, target, self._headers)
        return True

    def with_object_headers(self, content_type: str, *, disposition: str = "", acl: str = "") -> S3Store:
        """Return the same store, which sends these headers with what it writes."""
        headers = {"ContentType": content_type, "ContentDisposition": disposition, "ACL": acl}
        other = copy.copy(self)
        other._headers = {name: value for name, value in headers.items() if value}
        return other

    def parts(self, key: str, upload: str) -> Sequence[Part]:
        """Return the parts that are stored."""
        return [
            Part(each["PartNumber"], each["ETag"], each["Size"], max(0.0, (now - each["LastModified"]).total_seconds()))
            for page, now in self._pages("list_parts", Key=key, UploadId=upload)
            for each in page.get("Parts", ())
        ]

    def complete_multipart_upload(self, key: str, upload: str, parts: Iterable[Part]) -> None:
        """Complete the multipart upload."""
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        with translate_errors(key):
            self.client.complete_multipart_upload(
                Bucket=self.s3_bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed}
            )

    def abort_multipart_upload(self, key: str, upload: str) -> None:
        """Abort the multipart upload."""
        try:
            with translate_errors(key):
                self.client.abort_multipart_upload(Bucket=self.s3_bucket, Key=key, UploadId=upload)
        except FileNotFoundError:
            return

    def list_multipart_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Yield the multipart uploads below *prefix*."""
        for page, now in self._pages("list_multipart_uploads", Prefix=prefix):
            for each in page.get("Uploads", ()):
                yield each["Key"], each["UploadId"], max(0.0, (now - each["Initiated"]).total_seconds())

    def _pages(self, operation: str, **options: Any) -> Iterator[tuple[dict[str, Any], datetime]]:
        """Yield the pages of a listing, each with the store's time when it was made."""
        pages = iter(self.client.get_paginator(operation).paginate(Bucket=self.s3_bucket, **options))
        while True:
            with translate_errors(options.get("Prefix") or options.get("Key", "")):
                page = next(pages, None)
            if page is None:
                return
            yield page, _time_of(page)


def _time_of(answer: dict[str, Any]) -> datetime:
    """Return the store's time when it made an answer."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
