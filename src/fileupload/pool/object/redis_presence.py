"""Presence in Redis or Valkey: visible to all nodes at once, and without requests to the object store.

::

    <pool>:<id>:<token>         the last status of a running attempt
    <pool>:<id>                 the token of the attempt that owns the bucket; empty if it was cleared
    <pool>:<id>:<token>:next    a resume lease
    <pool>:known                exists since Redis was last found empty
    <pool>:new                  exists for a while after that

All keys but ``known`` expire. Redis may lose any of them, or hold old or foreign values, at any time. The store decides
everything, so the only consequence is that nodes learn something later:

- *Owner.* Each publication compares the note of the owner in the same round trip. If it names another attempt, the
  caller checks the store, and corrects the note if the store disagrees. A missing note means nothing.
- *Death.* A missing Redis key means "dead" only if Redis has been up, with its data, for at least ``dead_after``: while
  Redis does not answer, or within that time after it was found empty (``new``), attempts count as alive. A node that
  cannot reach Redis for longer, while other nodes can, takes their attempts for dead; since each attempt writes only
  its own keys, that costs an upload at worst, never its integrity.
- *Resume.* Of two nodes that resume an upload, the one that sets ``next`` goes on, and the other has written nothing.
  The lease expires after 10 s, in case its node has crashed.

While Redis does not answer, another presence (that in the object store) is used. One request in 10 s tries Redis again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fileupload.errors import SettingError
from fileupload.pool.fork_safety import PerProcess
from fileupload.pool.object.presence import PresenceStore

log = logging.getLogger("fileupload")

_RECORD_TTL = 30  # seconds after the last publication
_RESUME_LEASE_TTL = 10  # seconds; long enough for writing a marker to the store
_TIMEOUT = 1.0  # seconds that an upload waits for Redis
_RETRY_INTERVAL = 10.0  # seconds between two requests while Redis does not answer
_NEVER = float("-inf")

# One round trip: the record is always set; the note of the owner only if it does not name another attempt.
_PUBLISH = """
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3])
return 1
"""


class RedisPresence(PresenceStore):
    """Presence in Redis; while Redis does not answer, in another presence."""

    def __init__(self, url: str, pool: str, fallback: PresenceStore) -> None:
        """Use the server at *url*.

        :param pool: distinguishes the pool from others on the same server.
        :param fallback: used while Redis does not answer.
        :raises SettingError: the Redis client is not installed, or *url* is not valid.
        """
        try:
            import redis
        except ImportError:
            raise SettingError("setting 'progress' needs the client: pip install redis") from None
        self._clients: PerProcess[Any] = PerProcess(
            partial(
                redis.Redis.from_url,
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                decode_responses=True,
                encoding_errors="replace",  # a value that is not text is no record, and must not raise here
            )
        )
        try:
            self._publish_script = self._clients.get().register_script(_PUBLISH)
        except ValueError as error:
            raise SettingError(f"setting 'progress' is not a valid address: {error}") from None
        self._error = redis.RedisError
        self._prefix = "fileupload:" + hashlib.sha256(pool.encode()).hexdigest()[:16]
        self._fallback = fallback
        self._lost_at: float | None = None  # when Redis ceased to answer
        self._failed_at = _NEVER  # when the last request failed

    @property
    def interval(self) -> float:  # type: ignore[override]
        """Minimum seconds between two publications to the presence that is in use."""
        return 0.0 if self._is_usable() else self._fallback.interval

    def publish(self, bucket_id: str, token: str, record: bytes) -> bool:
        """Set a key that expires."""
        keys = [self._key(bucket_id, token), self._key(bucket_id)]
        arguments = [token, record, _RECORD_TTL]
        answer = self._ask(lambda redis: self._publish_script(keys=keys, args=arguments, client=redis))
        return self._fallback.publish(bucket_id, token, record) if answer is None else bool(answer)

    def get(self, bucket_id: str, token: str) -> str | None:
        """Return the value of the key, or what the fallback returns."""
        found = self._ask(lambda redis: redis.get(self._key(bucket_id, token)))
        return str(found) if found is not None else self._fallback.get(bucket_id, token)

    def withdraw(self, bucket_id: str, token: str) -> None:
        """Remove the key, and the record in the fallback."""
        self._ask(lambda redis: redis.delete(self._key(bucket_id, token)))
        self._fallback.withdraw(bucket_id, token)

    def is_alive(self, bucket_id: str, token: str, age: float, limit: float) -> bool:
        """Return whether the fallback knows a heartbeat, the key exists, or Redis may have lost it."""
        if self._fallback.is_alive(bucket_id, token, age, limit):
            return True
        answer = self._ask(lambda redis: redis.exists(self._key(bucket_id, token)))
        if answer is None:
            return self._lost_at is not None and time.monotonic() - self._lost_at < limit
        return bool(answer) or self._is_new(limit)

    def _is_new(self, limit: float) -> bool:
        """Return whether Redis was found empty, by any node, in the last *limit* seconds."""
        new = self._key("new")
        if self._ask(lambda redis: redis.set(self._key("known"), "", nx=True)):
            self._ask(lambda redis: redis.set(new, "", px=max(1, int(limit * 1000))))
            return True
        return bool(self._ask(lambda redis: redis.exists(new)))

    def acquire_resume_lease(self, bucket_id: str, token: str) -> bool:
        """Set a key if it does not exist; True if Redis does not answer, because then only the store decides."""
        key = self._key(bucket_id, token, "next")
        return bool(self._ask(lambda redis: redis.set(key, "", nx=True, ex=_RESUME_LEASE_TTL) or False, default=True))

    def cache_owner(self, bucket_id: str, token: str) -> None:
        """Set a key that expires."""
        self._ask(lambda redis: redis.set(self._key(bucket_id), token, ex=_RECORD_TTL))

    def _is_usable(self) -> bool:
        return time.monotonic() - self._failed_at >= _RETRY_INTERVAL

    def _ask(self, request: Callable[[Any], Any], default: Any = None) -> Any:
        """Return the answer to a *request*, which gets the client; *default* if Redis does not answer."""
        if not self._is_usable():
            return default
        if self._lost_at is not None:
            self._failed_at = time.monotonic()  # this request tries Redis; others meanwhile use the fallback
        try:
            answer = request(self._clients.get())
        except self._error as error:
            self._failed_at = time.monotonic()
            if self._lost_at is None:
                self._lost_at = self._failed_at
                log.warning("Redis does not answer (%s); progress is kept in the object store", type(error).__name__)
            return default
        if self._lost_at is not None:
            self._lost_at, self._failed_at = None, _NEVER
            log.warning("Redis answers again; progress is kept there")
        return answer

    def _key(self, *names: str) -> str:
        return ":".join((self._prefix, *names))
