"""A replacement in memory for the memcached of a Swift proxy, which reduces the requests to the other servers."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable
from typing import Any

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Cache:
    """The part of Swift's client for memcached that its proxy uses."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_: Any) -> Any:
        """Return the value, if it has not expired."""
        value, end = self._values.get(key, (None, 0.0))
        return value if clock.monotonic() < end else None

    def set(self, key: str, value: Any, *, time: float = 0, **_: Any) -> None:
        """Keep a value for this number of seconds; 0: without expiry."""
        self._values[key] = value, clock.monotonic() + time if time else float("inf")

    def delete(self, key: str, **_: Any) -> None:
        """Remove a value."""
        self._values.pop(key, None)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[App], App]:
    """Return a function that puts the cache in front of a proxy."""
    cache = Cache()

    def add_cache(app: App) -> App:
        def with_cache(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return with_cache

    return add_cache
