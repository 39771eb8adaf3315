"""A key ring always has the current keys, and reads them as rarely as possible."""

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
    """A store of keys, which counts its reads.

    :ivar stamped: whether it has a stamp that changes with the keys.
    :ivar error: an exception to raise instead.
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
    """Return a clock that only the test advances."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(signing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_keys_with_a_stamp_are_read_again_when_it_changes() -> None:
    """Keys with an unchanged stamp are not read again; a change is applied at the next use."""
    store = Store(stamped=True)
    ring = KeyRing(store)
    assert [ring.keys for _ in range(3)] == [OLD] * 3
    assert store.reads == 1
    store.kept = NEW
    assert [ring.keys for _ in range(3)] == [NEW] * 3
    assert store.reads == 2
    assert not ring.refresh()
    assert store.reads == 2


def test_keys_without_a_stamp_are_read_once_a_minute(clock: SimpleNamespace) -> None:
    """Keys without a stamp are read once a minute, however often they are used."""
    store = Store(stamped=False)
    ring = KeyRing(store)
    store.kept = NEW
    clock.now += 59
    assert ring.keys == OLD
    clock.now += 1
    assert [ring.keys for _ in range(3)] == [NEW] * 3
    assert store.reads == 2


def test_an_invalid_signature_causes_keys_to_be_read(clock: SimpleNamespace) -> None:
    """An invalid signature causes keys to be read, at most once every few seconds."""
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
def test_the_last_keys_stay_in_force_while_keys_cannot_be_read(
    clock: SimpleNamespace, stamped: bool, trouble: Exception | None
) -> None:
    """While keys cannot be read, or are missing, the last ones stay in force."""
    store = Store(stamped=stamped)
    ring = KeyRing(store)
    store.error, store.kept = trouble, ()
    clock.now += 60
    assert ring.keys == OLD
    store.error, store.kept = None, NEW
    clock.now += 60
    assert ring.keys == NEW


def test_everything_is_signed_with_the_current_keys(tmp_path: Path) -> None:
    """Identifiers, tokens and session cookies are signed and verified with the current keys."""
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
def test_signing_without_a_key_is_an_error(keys: list[str]) -> None:
    """Signing without a key is an error."""
    with pytest.raises(ValueError, match="at least one key"):
        KeyRing(keys)
