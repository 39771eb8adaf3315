"""A key ring always has the keys in force, and asks for them as seldom as it can."""

from __future__ import annotations

import errno
import time
from collections.abc import Hashable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fileupload import signing
from fileupload.apps.session_attachments.session_cookie import SessionCookieSigner
from fileupload.apps.session_attachments.settings import SessionSettings
from fileupload.errors import AddressExpired, InvalidIdentifier
from fileupload.identifiers import Identifiers, new_id, new_key
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from fileupload.signing import KeyRing

OLD, NEW = (new_key(),), (new_key(),)


class Store:
    """A place for keys, which counts how often it is read.

    :ivar stamped: whether it tells of changes.
    :ivar error: what it raises instead.
    """

    def __init__(self, *, stamped: bool) -> None:
        self.kept: tuple[str, ...] = OLD
        self.stamped = stamped
        self.reads = 0
        self.error: Exception | None = None

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.kept

    def key_stamp(self) -> Hashable | None:
        return self.kept if self.stamped else None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until a test sets it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(signing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_keys_that_tell_of_changes_are_read_when_they_change() -> None:
    """A stamp that is the same saves the reading; a change is seen at the next use."""
    store = Store(stamped=True)
    ring = KeyRing(store)
    assert [ring.keys for _ in range(3)] == [OLD] * 3
    assert store.reads == 1
    store.kept = NEW
    assert [ring.keys for _ in range(3)] == [NEW] * 3
    assert store.reads == 2
    assert not ring.refresh()
    assert store.reads == 2


def test_other_keys_are_read_once_a_minute(clock: SimpleNamespace) -> None:
    """Where nothing tells of changes, keys are read once a minute, however often they are used."""
    store = Store(stamped=False)
    ring = KeyRing(store)
    store.kept = NEW
    clock.now += 59
    assert ring.keys == OLD
    clock.now += 1
    assert [ring.keys for _ in range(3)] == [NEW] * 3
    assert store.reads == 2


def test_a_signature_that_fails_has_them_read(clock: SimpleNamespace) -> None:
    """A signature that is not valid has keys read at once, but not more often than every few seconds."""
    store = Store(stamped=False)
    ring = KeyRing(store)
    identifiers = Identifiers(ring)
    store.kept = NEW
    clock.now += 5
    assert identifiers.verify(Identifiers(NEW).create())
    for _ in range(10):
        with pytest.raises(InvalidIdentifier):
            identifiers.verify(Identifiers([new_key()]).create())
    assert store.reads == 2


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("trouble", [OSError(errno.EIO, "broken"), UnicodeDecodeError("utf-8", b"", 0, 1, ""), None])
def test_keys_that_cannot_be_read(clock: SimpleNamespace, stamped: bool, trouble: Exception | None) -> None:
    """While keys cannot be read, or none are there, the last ones are in force."""
    store = Store(stamped=stamped)
    ring = KeyRing(store)
    store.error, store.kept = trouble, ()
    clock.now += 60
    assert ring.keys == OLD
    store.error, store.kept = None, NEW
    clock.now += 60
    assert ring.keys == NEW


def test_all_that_is_signed_follows_the_ring(tmp_path: Path) -> None:
    """Identifiers, tickets and the cookies of sessions are signed and verified with the keys in force."""
    store = Store(stamped=True)
    ring = KeyRing(store)
    identifiers, tickets = Identifiers(ring), TokenSigner(ring)
    visitors = SessionCookieSigner(ring, SessionSettings.parse({"directory": str(tmp_path)}))
    ticket = UploadToken(new_id(), "0" * 16, 1, 0, None, int(time.time()) + 86400)
    signed = identifiers.create(), tickets.sign(ticket), visitors.sign("0" * 32)
    store.kept = (*NEW, *OLD)
    assert identifiers.verify(signed[0])
    assert tickets.read(signed[1]) == ticket
    assert visitors.read(signed[2])
    store.kept = NEW
    with pytest.raises(InvalidIdentifier):
        identifiers.verify(signed[0])
    with pytest.raises(AddressExpired):
        tickets.read(signed[1])
    assert visitors.read(signed[2]) is None
    assert Identifiers(NEW).verify(identifiers.create())
    assert TokenSigner(NEW).read(tickets.sign(ticket)) == ticket


@pytest.mark.parametrize("keys", [[], [""], ["a", ""]], ids=str)
def test_there_is_a_key(keys: list[str]) -> None:
    """Without a key nothing is signed."""
    with pytest.raises(ValueError, match="at least one key"):
        KeyRing(keys)
