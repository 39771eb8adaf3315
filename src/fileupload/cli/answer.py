"""Results of commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class CommandError(Exception):
    """Failure of a command; the message says why."""


@dataclass(frozen=True)
class Answer:
    """Result of a command.

    :ivar data: JSON form, printed with ``--json``.
    :ivar text: form for people.
    :ivar failed: True if a part of the work failed; the exit status is then 1.
    """

    data: Any
    text: str
    failed: bool = False
