"""An S3-compatible object store, through boto3: Ceph, OpenStack Swift, Amazon S3, Google Cloud Storage.

The object pool needs one guarantee: of several processes that write a key with If-None-Match: * at the same time, one
succeeds. Stores differ in that, so :meth:`S3Store.checked` probes the store at the start:

- *Most stores* check the condition when the write ends. Nothing more is needed.
- *OpenStack Swift* checks it when the write begins, so two simultaneous writes may both succeed, and the later one
  remains. Each conditional write has a random id in its metadata. A writer waits for CONDITIONAL_WRITE_DELAY, in which
  all simultaneous writes end, and then reads the id: the writer that finds its own has succeeded.
- *A store that ignores the condition* is treated like that, with a longer delay, after a check that the key does not
  exist. The delay then bounds how much slower one writer may be than another.

A write whose response was lost is repeated by boto3, and then refused because the first one succeeded. So a writer that
is refused compares the id too.

Each process has its own boto3 client, because two processes must not share connections.
"""

from __future__ import annotations

import copy
import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fileupload.identifiers import new_id
from fileupload.pool.fork_safety import PerProcess
from fileupload.pool.object.pool import ObjectPool
from fileupload.pool.object.presence import ObjectPresence, PresenceStore
from fileupload.pool.object.redis_presence import RedisPresence
from fileupload.pool.object.store import ObjectStore, StoredObject
from fileupload.pool.parts import Part
from fileupload.pool.s3.client import make_client, translate_errors, translate_startup_errors
from fileupload.pool.s3.presigned_urls import PresignedUrls
from fileupload.pool.s3.server_side_copy import copy_object
from fileupload.settings import Settings

__all__ = ["S3Store", "StoreTraits", "make_client", "open_pool", "open_store"]

log = logging.getLogger("fileupload")

CONDITIONAL_WRITE_DELAY = 0.25  # seconds; simultaneous writes have ended after that
UNCONDITIONAL_WRITE_DELAY = 1.0  # seconds, in a store that ignores the condition
_SWIFT = "x-openstack-request-id"  # a response header of OpenStack Swift
_MAX_DELETED = 1000  # keys in one request


@dataclass(frozen=True)
class StoreTraits:
    """The differences between stores that matter here.

    :ivar checks_conditions: whether the store refuses a write with If-None-Match: * for a key that exists.
    :ivar conditional_write_delay: seconds after which it is certain which of several conditional writes remains.
    :ivar rejects_late_parts: whether the store refuses a part for a complete multipart upload.
    :ivar supports_post_policy: whether the store supports POST policies.
    """

    checks_conditions: bool = True
    conditional_write_delay: float = 0.0
    rejects_late_parts: bool = True
    supports_post_policy: bool = True


def open_pool(settings: Settings, *, read_only: bool = False) -> ObjectPool:
    """Return the pool that the setting ``pool`` names, in a store that was checked.

    :param read_only: check that the store can be read, and write nothing.
    :raises SettingError: the store cannot be used.
    """
    unchecked, prefix = open_store(settings, settings.pool)
    store = unchecked.checked_for_reading(prefix) if read_only else unchecked.checked(prefix)
    presence: PresenceStore = ObjectPresence(store, prefix)
    if settings.progress:
        presence = RedisPresence(settings.progress, f"{settings.s3_endpoint_url} {settings.pool}", presence)
    return ObjectPool(store, prefix, presence=presence, read_only=read_only)


def open_store(settings: Settings, address: str) -> tuple[S3Store, str]:
    """Return the store of the settings, not checked, and the key prefix in *address*: ``s3://s3_bucket/prefix``."""
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
        partial(make, endpoint_url=settings.s3_public_url) if settings.s3_public_url else None,
    )
    prefix = parts.path.strip("/")
    return store, prefix + "/" if prefix else ""


class S3Store(PresignedUrls):
    """Objects in an ``s3_bucket``."""

    def __init__(self, make: Callable[[], Any], s3_bucket: str, make_signer: Callable[[], Any] | None = None) -> None:
        """Use the clients that *make* returns, one in each process.

        The traits of the store are not known before :meth:`checked`. Until then conditional writes, and the properties
        that are traits, raise RuntimeError.

        :param make_signer: returns a client for the address at which clients reach the store, if that is another one.
        """
        self.s3_bucket = s3_bucket
        self._clients = PerProcess(make)
        self._signers = PerProcess(make_signer) if make_signer else self._clients
        self._headers: dict[str, str] = {}  # parameters of boto3 for the headers of the objects that are written
        self._traits: StoreTraits | None = None

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        return self._clients.get()

    @property
    def signer(self) -> Any:
        """The boto3 client that signs; it has no connections."""
        return self._signers.get()

    @property
    def traits(self) -> StoreTraits:
        """The traits that :meth:`checked` has found.

        :raises RuntimeError: the store was not checked.
        """
        if self._traits is None:
            raise RuntimeError("the object store was not checked")
        return self._traits

    @property
    def rejects_late_parts(self) -> bool:
        """Return whether the store refuses a part for a complete multipart upload."""
        return self.traits.rejects_late_parts

    @property
    def supports_post_policy(self) -> bool:
        """Return whether the store supports POST policies."""
        return self.traits.supports_post_policy

    def checked(self, prefix: str) -> S3Store:
        """List, write and remove below *prefix*, as a pool does, and return the store with the traits found.

        :raises SettingError: one of these is not possible; with the store's own message.
        """
        with self._probe_object(prefix, "pool") as (key, headers):
            return self._with(_traits=self._probe_traits(key, headers))

    def checked_for_reading(self, prefix: str) -> S3Store:
        """List below *prefix*, and return a store that must not be written: its traits are unknown.

        :raises SettingError: the store cannot be listed; with its own message.
        """
        with translate_startup_errors("pool", f"s3://{self.s3_bucket}"):
            self.client.list_objects_v2(Bucket=self.s3_bucket, Prefix=prefix, MaxKeys=1)
        return self

    def check_writing(self, prefix: str, setting: str) -> None:
        """List, write and remove below *prefix*, for the setting of that name.

        :raises SettingError: one of these is not possible; with the store's own message.
        """
        with self._probe_object(prefix, setting):
            pass

    @contextmanager
    def _probe_object(self, prefix: str, setting: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Write an object that exists in the ``with`` block; gives its key and the headers of the store's response."""
        key = f"{prefix}.check-{new_id()}"
        target = {"Bucket": self.s3_bucket, "Key": key}
        with translate_startup_errors(setting, f"s3://{self.s3_bucket}"):
            self.client.list_objects_v2(Bucket=self.s3_bucket, Prefix=key, MaxKeys=1)
            answer = self.client.put_object(**target, Body=b"", **self._headers)
            try:
                yield key, answer["ResponseMetadata"]["HTTPHeaders"]
            finally:
                self.client.delete_object(**target)

    def _probe_traits(self, key: str, headers: Mapping[str, str]) -> StoreTraits:
        """Find out how the store handles conditions; the object *key* exists, so the write must be refused."""
        is_swift = _SWIFT in headers
        checks_conditions = not self._put(key, b"", {"IfNoneMatch": "*"})
        delay = CONDITIONAL_WRITE_DELAY if is_swift else 0.0
        if not checks_conditions:
            delay = UNCONDITIONAL_WRITE_DELAY
            log.warning("this object store ignores If-None-Match; each upload waits %g s before it is finished", delay)
        return StoreTraits(
            checks_conditions=checks_conditions,
            conditional_write_delay=delay,
            # Swift accepts a part for a complete multipart upload, which breaks the object.
            rejects_late_parts=not is_swift,
            supports_post_policy=not is_swift,
        )

    def put(self, key: str, data: bytes | bytearray, *, new: bool = False) -> bool:
        """Store an object."""
        if not new:
            return self._put(key, bytes(data), {})
        traits = self.traits
        if not traits.checks_conditions and any(each.key == key for each in self.list(key)):
            return False
        writer = new_id()
        if not self._put(key, bytes(data), {"IfNoneMatch": "*", "Metadata": {"writer": writer}}):
            # Perhaps by our own first request, whose response was lost, so that boto3 has repeated it.
            return self._writer(key) == writer
        if traits.conditional_write_delay:
            # The last of several simultaneous writes remains; after the delay all of them have ended.
            time.sleep(traits.conditional_write_delay)
            return self._writer(key) == writer
        return True

    def _writer(self, key: str) -> str | None:
        """Return the id of the conditional write that the object is from; None if the object does not exist."""
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
        """Return the content of a small object."""
        with translate_errors(key):
            body: bytes = self.client.get_object(Bucket=self.s3_bucket, Key=key)["Body"].read()
            return body

    def open(self, key: str, start: int = 0) -> BinaryIO:
        """Return a stream of an object's bytes from offset *start*."""
        options = {"Range": f"bytes={start}-"} if start else {}
        with translate_errors(key):
            return cast(BinaryIO, self.client.get_object(Bucket=self.s3_bucket, Key=key, **options)["Body"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, up to 1000 in a request."""
        names = [{"Key": key} for key in keys]
        for at in range(0, len(names), _MAX_DELETED):
            some = names[at : at + _MAX_DELETED]
            with translate_errors(some[0]["Key"]):
                if len(some) == 1:
                    self.client.delete_object(Bucket=self.s3_bucket, Key=some[0]["Key"])
                    continue
                answer = self.client.delete_objects(Bucket=self.s3_bucket, Delete={"Objects": some, "Quiet": True})
            for failed in answer.get("Errors", ()):
                raise OSError(errno.EIO, f"the object store answered {failed.get('Code')}", failed.get("Key"))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix*."""
        for page, now in self._pages("list_objects_v2", Prefix=prefix):
            for each in page.get("Contents", ()):
                age = max(0.0, (now - each["LastModified"]).total_seconds())
                yield StoredObject(each["Key"], each["Size"], age)

    def common_prefixes(self, prefix: str) -> Iterator[str]:
        """Yield each text between *prefix* and the next slash in a key."""
        for page, _ in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"].removeprefix(prefix).rstrip("/")

    def create_multipart_upload(self, key: str, content_type: str) -> str:
        """Create a multipart upload; return its upload id."""
        headers = {"ContentType": content_type, **self._headers}
        with translate_errors(key):
            answer = self.client.create_multipart_upload(Bucket=self.s3_bucket, Key=key, **headers)
        return str(answer["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> Part:
        """Store a part."""
        with translate_errors(key):
            answer = self.client.upload_part(
                Bucket=self.s3_bucket, Key=key, UploadId=upload, PartNumber=number, Body=data
            )  # fmt: skip
        return Part(number, answer["ETag"], len(data))

    def stat(self, key: str) -> Part:
        """Return size, ETag and age of an object."""
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
        """Let the store copy an object of another ``s3_bucket`` at the same endpoint."""
        if not isinstance(origin, S3Store) or origin.client.meta.endpoint_url != self.client.meta.endpoint_url:
            return False
        target = {"Bucket": self.s3_bucket, "Key": key}
        copy_object(self.client, {"Bucket": origin.s3_bucket, "Key": source}, target, self._headers)
        return True

    def with_object_headers(
        self, content_type: str, *, disposition: str = "", acl: str = "", cache_control: str = ""
    ) -> S3Store:
        """Return the same store, which sends these headers with each object it writes."""
        headers = {
            "ContentType": content_type,
            "ContentDisposition": disposition,
            "ACL": acl,
            "CacheControl": cache_control,
        }
        return self._with(_headers={name: value for name, value in headers.items() if value})

    def _with(self, **attributes: Any) -> S3Store:
        """Return a copy with other *attributes*, which shares the clients."""
        other = copy.copy(self)
        vars(other).update(attributes)
        return other

    def parts(self, key: str, upload: str) -> Sequence[Part]:
        """Return the stored parts."""
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
        """Yield the multipart uploads whose keys begin with *prefix*."""
        for page, now in self._pages("list_multipart_uploads", Prefix=prefix):
            for each in page.get("Uploads", ()):
                yield each["Key"], each["UploadId"], max(0.0, (now - each["Initiated"]).total_seconds())

    def _pages(self, operation: str, **options: Any) -> Iterator[tuple[dict[str, Any], datetime]]:
        """Yield the pages of a listing, each with the time of the response by the store's clock."""
        pages = iter(self.client.get_paginator(operation).paginate(Bucket=self.s3_bucket, **options))
        while True:
            with translate_errors(options.get("Prefix") or options.get("Key", "")):
                page = next(pages, None)
            if page is None:
                return
            yield page, _time_of(page)


def _time_of(answer: dict[str, Any]) -> datetime:
    """Return the time of a response by the store's clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
