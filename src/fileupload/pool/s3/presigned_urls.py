"""Presigned URLs and POST policies of an S3-compatible store (AWS Signature Version 4).

A presigned URL carries its own authorisation: a client that has it may send that one request until it expires.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from fileupload.pool.direct import ACL_HEADER
from fileupload.pool.object.store import ObjectStore
from fileupload.pool.parts import Form, PresignedPut
from fileupload.wsgi.headers import extended_filename

MAX_URL_TTL = 7 * 86400  # seconds; stores refuse a longer one


class PresignedUrls(ObjectStore):
    """The methods of a store that sign. They send no request."""

    s3_bucket: str

    @property
    @abstractmethod
    def signer(self) -> Any:
        """The boto3 client that signs, for the address at which clients reach the store."""

    @property
    @abstractmethod
    def supports_post_policy(self) -> bool:
        """Return whether the store supports POST policies."""

    def presigned_get_url(self, key: str, expires: float, *, filename: str = "", content_type: str = "") -> str:
        """Return a URL for GET."""
        options = {}
        if filename:
            options["ResponseContentDisposition"] = f"attachment; {extended_filename(filename)}"
        if content_type:
            options["ResponseContentType"] = content_type
        return self._sign("get_object", key, expires, options)

    def public_url(self, key: str) -> str:
        """Return a URL without a signature."""
        return self.presigned_get_url(key, 1).partition("?")[0]

    def part_url(self, key: str, upload: str, number: int, size: int | None, expires: float) -> str:
        """Return a URL for PUT; the length is signed, so the store refuses any other."""
        options: dict[str, Any] = {"UploadId": upload, "PartNumber": number}
        if size is not None:
            options["ContentLength"] = size
        return self._sign("upload_part", key, expires, options)

    def presigned_put(self, key: str, size: int | None, expires: float, *, acl: str = "") -> PresignedPut:
        """Return a URL for PUT; the length and the header of the ACL are signed."""
        options: dict[str, Any] = {"ACL": acl} if acl else {}
        if size is not None:
            options["ContentLength"] = size
        url = self._sign("put_object", key, expires, options)
        return PresignedPut(url, {ACL_HEADER: acl} if acl else {})

    def presigned_post(self, key: str, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return a form with a POST policy, which limits size and media type."""
        if not self.supports_post_policy:
            return None
        fields = {"Content-Type": content_type, "success_action_status": "201"}
        conditions = [*({name: value} for name, value in fields.items()), ["content-length-range", min_size, max_size]]
        signed = self.signer.generate_presigned_post(
            self.s3_bucket, key, Fields=fields, Conditions=conditions, ExpiresIn=_seconds(expires)
        )
        return Form(str(signed["url"]), signed["fields"])

    def _sign(self, operation: str, key: str, expires: float, options: dict[str, Any]) -> str:
        parameters = {"Bucket": self.s3_bucket, "Key": key, **options}
        return str(self.signer.generate_presigned_url(operation, Params=parameters, ExpiresIn=_seconds(expires)))


def _seconds(expires: float) -> int:
    return max(1, min(int(expires), MAX_URL_TTL))
