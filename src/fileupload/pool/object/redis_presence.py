"""Progress in Redis or Valkey: live for all nodes, at no cost to the store. What Redis cannot do, the store does.

::

    <pool>:<id>:<token>         the last status of a running attempt
    <pool>:<id>                 the token of the attempt that owns the bucket; empty: it was cleared
    <pool>:<id>:<token>:next    somebody goes on with that attempt
    <pool>:known                there since Redis last knew nothing
    <pool>:new                  there for a while from then on

All but the last but one expire by themselves. Any of them may be missing, old or wrong at any time: then news comes
later, and nothing else changes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

from fileupload.errors import SettingError
from fileupload.pool.object.presence import PresenceStore

log = logging.getLogger("fileupload")

_EXPIRES = 30  # seconds after which what was shown, and not shown again, is forgotten
_CLAIM_EXPIRES = 10  # seconds in which who goes on with an attempt has written so into the store, or has died
_TIMEOUT = 1.0  # seconds: an upload does not wait longer for it
_RETRY_INTERVAL = 10.0  # seconds in which it is not asked again after it failed
_NEVER = float("-inf")

# In one round trip: the sign of life is given in any case, the note is renewed only where it is not another's.
_SHOW = """
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3])
return 1
"""


class RedisPresence(PresenceStore):
    """Shows progress in Redis; while that is away, on another presence."""

    def __init__(self, url: str, pool: str, otherwise: PresenceStore) -> None:
        """Use the server at *url*, for the pool of that name.

        :raises SettingError: the client is not installed, or the address is none.
        """
        try:
            import redis
        except ImportError:
            raise SettingError("setting 'progress' needs the client: pip install 'fileupload[redis]'") from None
        try:
            self._redis: Any = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                decode_responses=True,
                encoding_errors="replace",  # what is no text is no status either, and no error
            )
        except ValueError as error:
            raise SettingError(f"setting 'progress' is no such address: {error}") from None
        self._error = redis.RedisError
        self._show_script = self._redis.register_script(_SHOW)
        self._prefix = "fileupload:" + hashlib.sha256(pool.encode()).hexdigest()[:16]
        self._otherwise = otherwise
        self._lost: float | None = None  # when it ceased to answer
        self._failed = _NEVER  # when it was last asked without an answer

    @property
    def interval(self) -> float:  # type: ignore[override]
        """Seconds between two changes that the presence in use can take."""
        return 0.0 if self._is_usable() else self._otherwise.interval

    def publish(self, bucket_id: str, token: str, record: str) -> bool:
        """Set a key that expires."""
        keys = [self._key(bucket_id, token), self._key(bucket_id)]
        answer = self._ask(lambda: self._show_script(keys=keys, args=[token, record, _EXPIRES]))
        return self._otherwise.publish(bucket_id, token, record) if answer is None else bool(answer)

    def get(self, bucket_id: str, token: str) -> str | None:
        """Return what the key says, or what the other presence does."""
        found = self._ask(lambda: self._redis.get(self._key(bucket_id, token)))
        return str(found) if found is not None else self._otherwise.get(bucket_id, token)

    def withdraw(self, bucket_id: str, token: str) -> None:
        """Remove the key, and what the other presence may have."""
        self._ask(lambda: self._redis.delete(self._key(bucket_id, token)))
        self._otherwise.withdraw(bucket_id, token)

    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Tell as the other presence does, or by the key, which would have expired.

        Nobody is dead of whom nothing could be heard here for so long: Redis does not answer, or knew nothing.
        """
        if self._otherwise.is_alive(bucket_id, token, age, limit):
            return True
        answer = self._ask(lambda: self._redis.exists(self._key(bucket_id, token)))
        if answer is None:
            return self._lost is not None and time.monotonic() - self._lost < limit
        return bool(answer) or self._is_new(limit)

    def _is_new(self, limit: float) -> bool:
        """Tell whether it was seen in the last *limit* seconds that Redis had begun, or was emptied."""
        new = self._key("new")
        if self._ask(lambda: self._redis.set(self._key("known"), "", nx=True)):
            self._ask(lambda: self._redis.set(new, "", px=max(1, int(limit * 1000))))
            return True
        return bool(self._ask(lambda: self._redis.exists(new)))

    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Set a key if it is not there; without Redis the store decides alone."""
        key = self._key(bucket_id, token, "next")
        return bool(self._ask(lambda: self._redis.set(key, "", nx=True, ex=_CLAIM_EXPIRES) or False, otherwise=True))

    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Set a key that expires."""
        self._ask(lambda: self._redis.set(self._key(bucket_id), token, ex=_EXPIRES))

    def _is_usable(self) -> bool:
        return time.monotonic() - self._failed >= _RETRY_INTERVAL

    def _ask(self, request: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return the answer to a request, or *otherwise* where there is none."""
        if not self._is_usable():
            return otherwise
        if self._lost is not None:
            self._failed = time.monotonic()  # one tries whether it is back; the others do not wait with it
        try:
            answer = request()
        except self._error as error:
            self._failed = time.monotonic()
            if self._lost is None:
                self._lost = self._failed
                log.warning("progress is kept in the store: Redis does not answer (%s)", type(error).__name__)
            return otherwise
        if self._lost is not None:
            self._lost, self._failed = None, _NEVER
            log.warning("progress is in Redis again")
        return answer

    def _key(self, *words: str) -> str:
        return ":".join((self._prefix, *words))
