"""A signed token is read with the key until it expires, and holds what was signed."""

from __future__ import annotations

import time

import pytest
from itsdangerous import URLSafeSerializer

from fileupload.errors import AddressExpired
from fileupload.identifiers import Identifiers, new_id, new_key
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken

OLD, NEW = new_key(), new_key()
TICKET = UploadToken(new_id(), "0" * 16, 7, 0, None, int(time.time()) + 86400)  # the tests may run long after this


def test_a_ticket_comes_back() -> None:
    """What was signed is read, also with a key that has become the older one; it fits into an address as it is."""
    text = TokenSigner([OLD]).sign(TICKET)
    assert TokenSigner([OLD]).read(text) == TokenSigner([NEW, OLD]).read(text) == TICKET
    assert text.replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_the_newest_key_signs() -> None:
    """With several keys the first of them signs."""
    text = TokenSigner([NEW, OLD]).sign(TICKET)
    assert TokenSigner([NEW]).read(text) == TICKET
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(text)


def test_an_old_ticket() -> None:
    """After its time a ticket is none."""
    old = UploadToken(TICKET.bucket_id, TICKET.attempt, 1, 0, None, int(time.time()) - 1)
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(TokenSigner([OLD]).sign(old))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "ü", "\0", "x" * 100_000, ".eJw." + "A" * 43])
def test_what_is_no_ticket(text: str) -> None:
    """Whatever else comes has one and the same answer."""
    with pytest.raises(AddressExpired):
        TokenSigner([OLD]).read(text)


def test_what_was_signed_for_something_else() -> None:
    """Neither an identifier nor another text that the same key has signed is a ticket, nor a ticket cut or bent."""
    text = TokenSigner([OLD]).sign(TICKET)
    others = [Identifiers([OLD]).create(), str(URLSafeSerializer(OLD).dumps(["a"])), text[:-1], text + "A", "." + text]
    others += [str(TokenSigner([OLD])._serializer.dumps(data)) for data in (None, 1, "a", ["a"], [1] * 7)]
    for other in others:
        with pytest.raises(AddressExpired):
            TokenSigner([OLD]).read(other)
