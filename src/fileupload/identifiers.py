"""Create, sign and verify upload identifiers. All other modules trust only identifiers verified here.

An identifier is ``<id>[~<claims>].<timestamp>.<signature>``: a random id of 128 bits in hex, claims as URL-safe
base64 of JSON, and an HMAC-SHA256 by itsdangerous. Only the id becomes a path or an object key.
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

from fileupload import clocks
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
    """Return whether *text* has the form of a bucket id; every pool checks this before it builds a path."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """Return a random bucket id (128 bits)."""
    return secrets.token_hex(16)


def new_key() -> str:
    """Return a random signing key (256 bits, URL-safe text)."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Claims of a verified identifier.

    :ivar id: the id of its bucket.
    :ivar max_size: maximum total size in bytes of the files of the upload; None: no limit of its own.
    :ivar content_types: accepted media ranges; empty: all.
    :ivar expires: time after which it can no longer start an upload (seconds since the epoch); None: never. It is in
        the past if the identifier was signed too far ahead of this host's clock (see :mod:`fileupload.clocks`).
    """

    id: str
    max_size: int | None = None
    content_types: tuple[str, ...] = ()
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """True if the identifier can no longer start an upload."""
        return self.expires is not None and time.time() > self.expires


class Identifiers:
    """Signer of identifiers.

    >>> identifiers = Identifiers(["a key that is long enough"])
    >>> identifiers.verify(identifiers.create(max_size=1024)).max_size
    1024
    """

    def __init__(self, keys: KeyRing | Sequence[str], *, max_age: float | None = None) -> None:
        """Use *keys*, newest first.

        :param max_age: seconds after which an identifier can no longer start an upload; None: no limit.
        """
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

        :param bucket_id: id of an existing bucket; empty: a new random id.
        :param max_size: maximum total size of the files in bytes.
        :param content_types: accepted media ranges, such as ``image/*``; empty: all.
        :param max_age: seconds in which an upload must start; None: the value of the constructor.
        :raises ValueError: the claims are too long for a URL.
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
        """Return the claims of *identifier*; the caller checks whether it has expired.

        :raises InvalidIdentifier: its form or its signature is invalid.
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
        max_age = claims.get("a", self._max_age)
        return Claims(
            id=bucket_id,
            max_size=claims.get("s"),
            content_types=tuple(claims.get("t", ())),
            expires=None if max_age is None else clocks.expiry_of(signed, max_age),
        )


def _make_signer(keys: list[bytes]) -> TimestampSigner:
    return TimestampSigner(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _is_canonical(signature: str) -> bool:
    """Return whether *signature* is the canonical base64 form of its bytes.

    The last of its 43 characters has two unused bits: without this check three other texts would verify.
    """
    return base64_encode(base64_decode(signature)).decode() == signature
