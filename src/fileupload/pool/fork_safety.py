"""Resets objects after a fork, for servers that load the app before they fork their workers.

A child process has only the thread that forked. A thread pool, a heartbeat thread or a lock that the parent's other
threads held is useless there, and a connection that two processes share mixes their requests up. So each object with
such state registers itself here, and is reset in the child before any other code runs.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Resettable(Protocol):
    """An object with state that a child process must not use."""

    def reset_after_fork(self) -> None:
        """Replace that state. Called in the child, while it has one thread; must not wait for a lock."""


_resettable: weakref.WeakSet[Resettable] = weakref.WeakSet()


def register(instance: Resettable) -> None:
    """Call the ``reset_after_fork`` of *instance* in each child process, as long as *instance* exists."""
    _resettable.add(instance)


def _reset_all() -> None:
    for instance in list(_resettable):
        instance.reset_after_fork()


with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_all)


class ForkGate:
    """Delays the forks of this process while a thread is in the ``with`` block of the gate.

    ::

        with gate:
            descriptors.add(os.open(...))

    Without it, a child that is forked between the two calls would have a descriptor that it knows nothing of.
    """

    _TIMEOUT = 5.0  # seconds; a thread may hang in a call to a network file system, and a fork must not

    def __init__(self) -> None:
        self.reset_after_fork()
        register(self)
        with suppress(AttributeError):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def reset_after_fork(self) -> None:
        """Open the gate. The threads that were in it do not exist in the child."""
        # The lock of a condition is reentrant: a signal handler may fork while its thread is in one of these methods.
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._forks:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._forks:
                self._changed.notify_all()

    def _before_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, self._TIMEOUT)

    def _after_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


class PerProcess(Generic[T]):
    """A value that each process makes for itself when it first needs it, such as a client with connections."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value: T | None = None
        self._lock = threading.Lock()
        self._inherited: list[T] = []
        register(self)

    def get(self) -> T:
        """Return the value of this process."""
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._value = self._make()
        return self._value

    def reset_after_fork(self) -> None:
        """Make a new value on the next call of :meth:`get`."""
        self._lock = threading.Lock()
        if self._value is not None:
            # Its finalizer may wait for a lock that another thread of the parent held during the fork.
            self._inherited.append(self._value)
            self._value = None


class ForkSafeExecutor(Executor):
    """A :class:`ThreadPoolExecutor` that works in child processes too.

    The standard one counts the threads of the parent as its own, and so would queue work that no thread takes.
    """

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        self._executor = PerProcess(lambda: ThreadPoolExecutor(max_workers, thread_name_prefix=thread_name_prefix))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a thread."""
        return self._executor.get().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads of this process."""
        self._executor.get().shutdown(wait, cancel_futures=cancel_futures)
