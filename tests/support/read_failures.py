"""Failures of reading a body before its end."""

from __future__ import annotations


class Stop(BaseException):
    """An exception that ends a request from outside, like a worker's timeout, a killed greenlet, or Ctrl-C."""


def silence() -> None:
    return


def broken() -> None:
    raise ConnectionResetError


def killed() -> None:
    raise Stop


def exhausted() -> None:
    raise MemoryError
