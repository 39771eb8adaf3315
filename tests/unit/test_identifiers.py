"""Signed identifiers: only identifiers of the own keys are valid, and all others get the same error."""

import time

import pytest

from fileupload.errors import InvalidIdentifier
from fileupload.identifiers import Identifiers, is_id, new_key

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"


@pytest.fixture
def identifiers() -> Identifiers:
    return Identifiers(["a key of some length"])


def test_a_created_identifier_verifies(identifiers: Identifiers) -> None:
    """A created identifier verifies and returns its claims."""
    identifier = identifiers.create(max_size=5, content_types=["image/*", "text/plain"], max_age=60)
    claims = identifiers.verify(identifier)
    assert is_id(claims.id)
    assert identifier.startswith(claims.id)
    assert claims.max_size == 5
    assert claims.content_types == ("image/*", "text/plain")
    assert claims.expires == pytest.approx(time.time() + 60, abs=2)


def test_identifiers_without_claims_have_no_limits(identifiers: Identifiers) -> None:
    """An identifier without claims has no limits and no expiry."""
    claims = identifiers.verify(identifiers.create())
    assert (claims.max_size, claims.content_types, claims.expires, claims.expired) == (None, (), None, False)


def test_identifiers_differ(identifiers: Identifiers) -> None:
    """No two identifiers are the same."""
    assert len({identifiers.verify(identifiers.create()).id for _ in range(1000)}) == 1000


@pytest.mark.parametrize("claims", [{}, {"max_size": 3}])
def test_any_changed_character_is_refused(identifiers: Identifiers, claims: dict[str, int]) -> None:
    """Changing a character at any position to any other of the alphabet invalidates the identifier."""
    identifier = identifiers.create(max_size=claims.get("max_size"))
    for place, character in enumerate(identifier):
        for other in ALPHABET:
            if other != character:
                with pytest.raises(InvalidIdentifier):
                    identifiers.verify(identifier[:place] + other + identifier[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../../etc",
        "a" * 32,
        "a" * 32 + ".a.",
        "\0",
        "é",
        "a" * 5000,
        "0" * 32 + "." + "A" * 6 + "." + "A" * 43,
    ],
)
def test_other_texts_are_refused(identifiers: Identifiers, text: str) -> None:
    """A text that is not an identifier is refused with the same error."""
    with pytest.raises(InvalidIdentifier):
        identifiers.verify(text)
    with pytest.raises(InvalidIdentifier):
        identifiers.verify(identifiers.create() + text + "\n")


def test_keys_rotate() -> None:
    """The newest key signs and all keys verify; a removed key no longer does."""
    old, new = new_key(), new_key()
    by_old, by_new = Identifiers([old]).create(), Identifiers([new]).create()
    both = Identifiers([new, old])
    both.verify(by_old)
    both.verify(by_new)
    Identifiers([new]).verify(both.create())
    with pytest.raises(InvalidIdentifier):
        Identifiers([new]).verify(by_old)


def test_identifiers_expire_after_the_age_in_the_settings() -> None:
    """An identifier expires after the age in the settings, unless its own claim sets another age."""
    aged = Identifiers(["key"], max_age=0.001)
    short, long = aged.create(), aged.create(max_age=1000)
    time.sleep(0.01)
    assert aged.verify(short).expired or aged.verify(short).expires is not None
    assert not aged.verify(long).expired
    assert Identifiers(["key"], max_age=1000).verify(short).expired is False


def test_too_many_claims_are_refused(identifiers: Identifiers) -> None:
    """Claims too long for a URL raise an error in the app immediately."""
    with pytest.raises(ValueError, match="too long"):
        identifiers.create(content_types=[f"application/x-{n}" for n in range(200)])


@pytest.mark.parametrize("text", ["", "A" * 32, "g" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n", "٣" * 32])
def test_only_hex_of_the_right_length_is_an_id(text: str) -> None:
    """Only hex digits of the right length are an id."""
    assert not is_id(text)
