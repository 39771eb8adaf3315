"""Create, sign and verify identifiers: the only source of trusted ones.

An identifier is ``<id>[~<claims>].<timestamp>.<signature>``: a random id of 128 bits in hex, the claims as
URL-safe base64 of JSON, and an HMAC-SHA256 by itsdangerous. Only the id ever becomes a path or an object key.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, TimestampSigner
from itsdangerous.encoding import base64_decode, base64_encode

from fileupload.errors import InvalidIdentifier
from fileupload.signing import CurrentSigner, KeyRing

_SALT = b"fileupload.identifier"
IDENTIFIER_PATTERN = re.compile(
    r"(?P<id>[0-9a-f]{32})(?:~(?P<claims>[A-Za-z0-9_-]{2,1400}))?"
    r"\.[A-Za-z0-9_-]{1,12}\.(?P<signature>[A-Za-z0-9_-]{43})",
    re.ASCII,
)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def is_id(text: str) -> bool:
    """Tell whether *text* has the shape of a bucket's id; every pool asks this before it makes a path."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """Return a random id of a bucket."""
    return secrets.token_hex(16)


def new_key() -> str:
    """Return a new random signing key (256 bits, URL-safe text)."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a verified identifier says.

    :ivar id: the name of its bucket.
    :ivar max_size: the most bytes of files that may be sent with it, or None.
    :ivar content_types: the only media types that may be sent with it, or empty for any.
    :ivar expires: when no upload may be begun with it any more (seconds since the epoch), or None.
    """

    id: str
    max_size: int | None = None
    content_types: tuple[str, ...] = ()
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """True once no upload may be begun with the identifier."""
        return self.expires is not None and time.time() > self.expires


class Identifiers:
    """Creates and verifies identifiers with a set of keys."""

    def __init__(self, keys: KeyRing | Sequence[str], *, max_age: float = 0) -> None:
        """Take the *keys*, newest first, and the age in seconds at which identifiers end (0: never)."""
        self._max_age = max_age
        self._signer = CurrentSigner(keys, _make_signer)

    def create(
        self,
        *,
        max_size: int | None = None,
        content_types: Sequence[str] = (),
        max_age: float | None = None,
        bucket_id: str = "",
    ) -> str:
        """Return a new identifier.

        :param bucket_id: of a bucket that is there, for which it is to be; empty: for a new one.
        :param max_size: the most bytes of files that may be sent with it.
        :param content_types: the only media types that may be sent with it (``image/*`` is possible).
        :param max_age: seconds in which an upload must begin; the setting's value if None.
        :raises ValueError: the claims are too long for an address.
        """
        given = {"s": max_size, "t": list(content_types) or None, "a": max_age}
        claims = {name: value for name, value in given.items() if value is not None}
        value = bucket_id or new_id()
        if claims:
            value += "~" + base64_encode(json.dumps(claims, separators=(",", ":"))).decode()
        identifier = self._signer.current.sign(value).decode()
        if IDENTIFIER_PATTERN.fullmatch(identifier) is None:
            raise ValueError("the claims are too long for an identifier; name fewer content types")
        return identifier

    def verify(self, identifier: str) -> Claims:
        """Return the claims of *identifier*; whether it has expired is left to the caller.

        :raises InvalidIdentifier: its shape or its signature is wrong.
        """
        match = IDENTIFIER_PATTERN.fullmatch(identifier)
        if match is None or not _is_canonical(match["signature"]):
            raise InvalidIdentifier
        try:
            _, signed = self._signer.verify(lambda signer: signer.unsign(identifier, return_timestamp=True))
        except BadData:
            raise InvalidIdentifier from None
        claims = json.loads(base64_decode(match["claims"])) if match["claims"] else {}
        return self._claims(match["id"], claims, signed.timestamp())

    def _claims(self, bucket_id: str, claims: dict[str, Any], signed: float) -> Claims:
        max_age = claims.get("a", self._max_age or None)
        return Claims(
            id=bucket_id,
            max_size=claims.get("s"),
            content_types=tuple(claims.get("t", ())),
            expires=None if max_age is None else signed + max_age,
        )


def _make_signer(keys: list[bytes]) -> TimestampSigner:
    return TimestampSigner(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _is_canonical(signature: str) -> bool:
    """Tell whether *signature* is the one base64 form of its bytes.

    The last of its 43 characters has two bits to spare: without this check three other texts would verify.
    """
    return base64_encode(base64_decode(signature)).decode() == signature
