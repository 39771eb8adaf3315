"""Names of files that were sent together: equal ones are numbered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count

_MAX_BYTES = 255  # of a name that common file systems can store


def numbered_names(names: Sequence[str]) -> list[str]:
    """Return *names* with a number in each name that an earlier one has, so that all differ; empty ones stay empty.

    A name that a client has sent itself is not given to another file. As in bundles, names are equal only if all their
    characters are.

    >>> numbered_names(["image.jpg", "image.jpg", "image (2).jpg"])
    ['image.jpg', 'image (3).jpg', 'image (2).jpg']
    """
    taken = set(names)
    numbers: dict[str, int] = {}  # the last number of each name that was given
    numbered = []
    for name in names:
        if name and name in numbers:
            for number in count(numbers[name] + 1):
                candidate = _with_number(name, number)
                if candidate not in taken:
                    break
            numbers[name] = number
            taken.add(candidate)
            numbered.append(candidate)
        else:
            numbers[name] = 1
            numbered.append(name)
    return numbered


def _with_number(name: str, number: int) -> str:
    """Return *name* with a number before its extension, shortened to what file systems can store."""
    stem, extension = os.path.splitext(name)
    tail = f" ({number}){extension}"
    room = max(_MAX_BYTES, len(name.encode())) - len(tail.encode())
    if room < 1:  # an "extension" as long as a name
        stem, tail = name, f" ({number})"
        room = max(_MAX_BYTES, len(name.encode())) - len(tail.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + tail
