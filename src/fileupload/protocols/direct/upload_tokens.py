"""Addresses of our own server for the parts of direct uploads, signed like those of an object store."""

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
    """What may be sent to an address.

    :ivar attempt: of the bucket, by the pool's name.
    :ivar number: of the part; 0 for the file of a form.
    :ivar min_size: bytes at least.
    :ivar max_size: bytes at max_size, or None for any.
    :ivar expires: until when, in seconds since the epoch.
    """

    bucket_id: str
    attempt: str
    number: int
    min_size: int
    max_size: int | None
    expires: int


class TokenSigner:
    """Signs and reads tickets."""

    def __init__(self, keys: KeyRing | Sequence[str], purpose: bytes = b"part") -> None:
        """Take the *keys*, newest first.

        :param purpose: what a ticket is good for; it is good for nothing else.
        """
        self._signer = CurrentSigner(keys, partial(_make_serializer, purpose))

    @property
    def _serializer(self) -> URLSafeSerializer:
        return self._signer.current

    def sign(self, ticket: UploadToken) -> str:
        """Return *ticket* as text for an address."""
        return str(self._serializer.dumps(astuple(ticket)))

    def read(self, text: str) -> UploadToken:
        """Return the ticket that *text* is.

        :raises AddressExpired: it is none of ours, or too old; which of them is not told.
        """
        try:
            ticket = UploadToken(*self._signer.verify(lambda serializer: serializer.loads(text[:_MAX_LENGTH])))
        except (BadData, TypeError):
            raise AddressExpired from None
        if time.time() > ticket.expires:
            raise AddressExpired
        return ticket


def _make_serializer(purpose: bytes, keys: list[bytes]) -> URLSafeSerializer:
    kwargs = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(keys, salt=_SALT + purpose, signer_kwargs=kwargs)
