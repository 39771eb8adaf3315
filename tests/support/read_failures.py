"""How a body can end before its end."""

from __future__ import annotations


class Stop(BaseException):
    """What ends a request from outside: a worker's timeout, a greenlet killed, Ctrl-C."""


def silence() -> None:
    return


def broken() -> None:
    raise ConnectionResetError


def killed() -> None:
    raise Stop


def exhausted() -> None:
    raise MemoryError
