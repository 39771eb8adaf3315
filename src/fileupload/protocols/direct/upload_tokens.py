"""Signed tokens in the URLs to which clients send the parts of direct uploads, where this server stores them itself.

They take the place of presigned URLs in pools that have none, such as a directory.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial

from itsdangerous import BadData, URLSafeSerializer

from fileupload.errors import AddressExpired
from fileupload.signing import CurrentSigner, KeyRing

_SALT = b"fileupload.ticket."
_MAX_LENGTH = 1000  # characters


@dataclass(frozen=True)
class UploadToken:
    """The permission to send one part to one attempt.

    :ivar attempt: the id of the bucket's attempt, as the pool names it.
    :ivar number: the part's number, or 0 for the file of a form.
    :ivar min_size: the minimum size, in bytes.
    :ivar max_size: the maximum size, in bytes, or None for no limit.
    :ivar expires: when the token expires, in seconds since the epoch.
    """

    bucket_id: str
    attempt: str
    number: int
    min_size: int
    max_size: int | None
    expires: int


class TokenSigner:
    """Signs and verifies upload tokens."""

    def __init__(self, keys: KeyRing | Sequence[str], purpose: bytes = b"part") -> None:
        """Sign with *keys*, newest first.

        :param purpose: a salt; a token that was signed for one purpose does not verify for another.
        """
        self._signer = CurrentSigner(keys, partial(_make_serializer, purpose))

    @property
    def _serializer(self) -> URLSafeSerializer:
        return self._signer.current

    def sign(self, token: UploadToken) -> str:
        """Return *token*, signed, as URL-safe text."""
        return str(self._serializer.dumps(astuple(token)))

    def read(self, text: str) -> UploadToken:
        """Return the token in *text*, after its signature was verified.

        :raises AddressExpired: the token was not signed here, or has expired; the answer does not say which.
        """
        try:
            token = UploadToken(*self._signer.verify(lambda serializer: serializer.loads(text[:_MAX_LENGTH])))
        except (BadData, TypeError):
            raise AddressExpired from None
        if time.time() > token.expires:
            raise AddressExpired
        return token


def _make_serializer(purpose: bytes, keys: list[bytes]) -> URLSafeSerializer:
    kwargs = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(keys, salt=_SALT + purpose, signer_kwargs=kwargs)
