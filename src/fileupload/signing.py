"""Signing keys of identifiers, upload tokens and session cookies, with key rotation at run time.

A pool stores its key where all processes can read it. If the key is replaced, or removed together with the pool's
directory, while processes run, they must continue with one common key: each process checks the stored key before it
signs or verifies, and the first one that misses it stores it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from itsdangerous import BadData

log = logging.getLogger("fileupload")

_INTERVAL = 60.0  # seconds after which keys without a stamp are read again
_FAILURE_INTERVAL = 5.0  # the same after an invalid signature
_WARNING_INTERVAL = 60.0

_Signer = TypeVar("_Signer")
_Result = TypeVar("_Result")


class KeyStore(Protocol):
    """Storage of keys that several processes share; every pool is one."""

    def signing_keys(self, held: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the keys, newest first. If none are stored, store *held*, or a new key if *held* is empty."""

    def key_stamp(self) -> Hashable | None:
        """Return a value that changes with the keys, at little cost; None if the store has no such value."""


class KeyRing:
    """Current signing keys: fixed ones, or those of a store."""

    def __init__(self, source: KeyStore | Sequence[str]) -> None:
        """Use the keys in *source*, newest first, or those that it stores.

        :raises ValueError: there are no keys, or one of them is empty.
        """
        self._store = None if isinstance(source, Sequence) else source
        self._stamp: Hashable | None = None
        self._read = time.monotonic()
        self._warned = -_WARNING_INTERVAL
        if isinstance(source, Sequence):
            self._keys = tuple(source)
        else:
            # The stamp is read before the keys: a change between the two reads is noticed at the next check.
            self._stamp = source.key_stamp()
            self._keys = source.signing_keys()
        if not self._keys or not all(self._keys):
            raise ValueError("at least one key is needed, and none may be empty")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, newest first. The first one signs; all of them verify."""
        if self._store is not None:
            try:
                stamp = self._store.key_stamp()
            except OSError:
                return self._keys  # the store is unreachable: continue with the last known keys
            expired = stamp is None and time.monotonic() - self._read >= _INTERVAL
            if expired or stamp != self._stamp:
                self._reread(self._store, stamp)
        return self._keys

    def refresh(self) -> bool:
        """Read the keys again after an invalid signature; return whether they have changed."""
        if self._store is None or self._stamp is not None or time.monotonic() - self._read < _FAILURE_INTERVAL:
            return False
        before = self._keys
        self._reread(self._store, None)
        return self._keys != before

    def _reread(self, store: KeyStore, stamp: Hashable | None) -> None:
        # No lock: threads that do this at the same time all read the same keys.
        self._read = time.monotonic()
        try:
            found = store.signing_keys(self._keys)
        except (OSError, ValueError):
            found = ()
        if found:
            # Keys before stamp: a thread that sees the new stamp also sees the new keys.
            self._keys = found
            self._stamp = stamp
        elif self._read - self._warned >= _WARNING_INTERVAL:
            self._warned = self._read
            log.warning("the signing key of the pool cannot be read; the last known one remains in use")


class CurrentSigner(Generic[_Signer]):
    """Signer with the current keys; it is built once for each set of keys.

    ::

        signer = CurrentSigner(key_ring, lambda keys: TimestampSigner(keys, salt=b"fileupload.example"))
        signed = signer.current.sign("text")
        text = signer.verify(lambda current: current.unsign(signed))
    """

    def __init__(self, keys: KeyRing | Sequence[str], make: Callable[[list[bytes]], _Signer]) -> None:
        """Use *keys*, newest first.

        :param make: builds a signer from encoded keys, newest last, which is the order of itsdangerous.
        :raises ValueError: there are no keys, or one of them is empty.
        """
        self._ring = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._make = make
        self._made: tuple[tuple[str, ...], _Signer] | None = None

    @property
    def current(self) -> _Signer:
        """The signer with the current keys."""
        keys, made = self._ring.keys, self._made
        if made is None or made[0] != keys:
            made = self._made = (keys, self._make([key.encode() for key in reversed(keys)]))
        return made[1]

    def verify(self, use: Callable[[_Signer], _Result]) -> _Result:
        """Return the result of *use* with the current signer; after BadData, try once more if there are newer keys.

        :raises BadData: the signature is not valid.
        """
        try:
            return use(self.current)
        except BadData:
            if not self._ring.refresh():
                raise
            return use(self.current)
