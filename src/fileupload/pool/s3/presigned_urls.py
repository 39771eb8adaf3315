"""Signed addresses of an S3-compatible store (AWS Signature Version 4): whoever has one may do that one thing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fileupload.pool.direct import Form
from fileupload.pool.object.store import ObjectStore

MAX_URL_TTL = 7 * 86400  # seconds; the stores refuse what is signed for longer


class S3Addresses(ObjectStore):
    """The part of a store that signs; nothing here is sent to it.

    :ivar supports_post_policy: whether the store knows POST policies.
    """

    s3_bucket: str
    supports_post_policy = True

    @property
    def signer(self) -> Any:
        """The client of boto3 that signs, for the address under which clients see the store."""
        raise NotImplementedError

    def presigned_get_url(self, key: str, expires: float, *, filename: str = "", content_type: str = "") -> str:
        """Return an address for GET."""
        options = {}
        if filename:
            options["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        if content_type:
            options["ResponseContentType"] = content_type
        return self._sign("get_object", key, expires, options)

    def public_url(self, key: str) -> str:
        """Return an address that is not signed."""
        return self.presigned_get_url(key, 1).partition("?")[0]

    def part_url(self, key: str, upload: str, number: int, size: int | None, expires: float) -> str:
        """Return an address for PUT; its length is signed, and so another one refused."""
        options: dict[str, Any] = {"UploadId": upload, "PartNumber": number}
        if size is not None:
            options["ContentLength"] = size
        return self._sign("upload_part", key, expires, options)

    def presigned_post(self, key: str, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return a form with a POST policy, which bounds length and type."""
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
