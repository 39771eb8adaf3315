"""The keys that sign identifiers, addresses and cookies: always those in force, though a pool's may change.

A pool keeps its key where all processes find it. Should its place be removed while they run, or its key be replaced,
they must go on sharing one: each looks again before it signs or verifies, and what was removed is put back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from itsdangerous import BadData

log = logging.getLogger("fileupload")

_INTERVAL = 60.0  # seconds after which keys are read again whose changes nothing tells of
_FAILURE_INTERVAL = 5.0  # the same after a signature was not valid
_WARNING_INTERVAL = 60.0

_Signer = TypeVar("_Signer")
_Result = TypeVar("_Result")


class KeyStore(Protocol):
    """Keeps keys for several processes; a pool is one."""

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys, newest first; where there are none, *held* become them, or a new one is made."""

    def key_stamp(self) -> Hashable | None:
        """Return what changes with the keys, at little cost; None where nothing tells of that."""


class KeyRing:
    """The keys in force: fixed ones, or those of a store."""

    def __init__(self, source: KeyStore | Sequence[str]) -> None:
        """Take keys, newest first, or where they are kept.

        :raises ValueError: there are none, or one of them is empty.
        """
        self._store = None if isinstance(source, Sequence) else source
        self._stamp: Hashable | None = None
        self._read = time.monotonic()
        self._warned = -_WARNING_INTERVAL
        if isinstance(source, Sequence):
            self._keys = tuple(source)
        else:
            # Before the keys: what changes between the two is seen at the next look.
            self._stamp = source.key_stamp()
            self._keys = source.signing_keys()
        if not self._keys or not all(self._keys):
            raise ValueError("at least one key is needed, and none may be empty")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, newest first; the first one signs."""
        if self._store is not None:
            try:
                stamp = self._store.key_stamp()
            except OSError:
                return self._keys  # what is in force cannot be known; most likely those that were
            expired = stamp is None and time.monotonic() - self._read >= _INTERVAL
            if expired or stamp != self._stamp:
                self._reread(self._store, stamp)
        return self._keys

    def refresh(self) -> bool:
        """Look for newer keys after a signature was not valid; tell whether there are."""
        if self._store is None or self._stamp is not None or time.monotonic() - self._read < _FAILURE_INTERVAL:
            return False
        before = self._keys
        self._reread(self._store, None)
        return self._keys != before

    def _reread(self, store: KeyStore, stamp: Hashable | None) -> None:
        # No lock: threads that do so at the same time all find the same.
        self._read = time.monotonic()
        try:
            found = store.signing_keys(self._keys)
        except (OSError, ValueError):
            found = ()
        if found:
            # In this order: a thread that sees the stamp finds the keys.
            self._keys = found
            self._stamp = stamp
        elif self._read - self._warned >= _WARNING_INTERVAL:
            self._warned = self._read
            log.warning("the pool's signing key cannot be read; the last one is used on")


class CurrentSigner(Generic[_Signer]):
    """What signs and verifies with the keys in force, made once for each set of them."""

    def __init__(self, keys: KeyRing | Sequence[str], make: Callable[[list[bytes]], _Signer]) -> None:
        """Take the *keys*, newest first.

        :param make: makes it of keys, the newest last, as itsdangerous has them.
        :raises ValueError: there are no keys, or one of them is empty.
        """
        self._ring = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._make = make
        self._made: tuple[tuple[str, ...], _Signer] | None = None

    @property
    def current(self) -> _Signer:
        """The one for the keys in force."""
        keys, made = self._ring.keys, self._made
        if made is None or made[0] != keys:
            made = self._made = (keys, self._make([key.encode() for key in reversed(keys)]))
        return made[1]

    def verify(self, use: Callable[[_Signer], _Result]) -> _Result:
        """Return what *use* reads with the current one; where it cannot, once more with newer keys, if there are.

        :raises BadData: the signature is not valid.
        """
        try:
            return use(self.current)
        except BadData:
            if not self._ring.refresh():
                raise
            return use(self.current)
