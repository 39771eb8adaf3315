"""Signed upload tokens: a token is verified with the key until it expires, and contains the signed values."""

from __future__ import annotations

import time

import pytest
from itsdangerous import URLSafeSerializer

from fileupload.errors import AddressExpired
from fileupload.identifiers import Identifiers, new_id, new_key
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken

OLD, NEW = new_key(), new_key()
TOKEN = UploadToken(new_id(), "0" * 16, 7, 0, None, int(time.time()) + 86400)  # the tests may run long after this


def test_a_token_round_trips() -> None:
    """A token is read back, also with a key that is no longer the newest, and is safe in a URL."""
    text = TokenSigner([OLD]).sign(TOKEN)
    assert TokenSigner([OLD]).read(text) == TokenSigner([NEW, OLD]).read(text) == TOKEN
    assert text.replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_the_newest_key_signs() -> None:
    """The first of several keys signs."""
    text = TokenSigner([NEW, OLD]).sign(TOKEN)
    assert TokenSigner([NEW]).read(text) == TOKEN
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(text)


def test_an_expired_token_is_refused() -> None:
    """An expired token is refused."""
    old = UploadToken(TOKEN.bucket_id, TOKEN.attempt, 1, 0, None, int(time.time()) - 1)
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(TokenSigner([OLD]).sign(old))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "ü", "\0", "x" * 100_000, ".eJw." + "A" * 43])
def test_every_invalid_token_gets_the_same_answer(text: str) -> None:
    """Every invalid token gets the same response."""
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(text)


def test_a_text_signed_for_another_purpose_is_refused() -> None:
    """An identifier, another signed text, or a truncated or modified token is refused."""
    text = TokenSigner([OLD]).sign(TOKEN)
    others = [Identifiers([OLD]).create(), str(URLSafeSerializer(OLD).dumps(["a"])), text[:-1], text + "A", "." + text]
    others += [str(TokenSigner([OLD])._serializer.dumps(data)) for data in (None, 1, "a", ["a"], [1] * 7)]
    for other in others:
        with pytest.raises(AddressExpired):
            TokenSigner([OLD]).read(other)
