"""Sends, lists, reads and deletes attachments at random; several such processes race on one bundle.

``python race.py POOL COOKIE SEED ACTIONS`` prints a line for each violation.
"""

from __future__ import annotations

import hashlib
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.session_client import SessionClient, SessionSite

NAMES = ("a", "b", "c", "d")


def content(chance: random.Random) -> bytes:
    """Return bytes that begin with a hash of the rest, so that their integrity can be checked."""
    data = chance.randbytes(chance.choice((0, 10, 30_000)))
    return hashlib.sha256(data).digest() + data


def send(client: SessionClient, chance: random.Random) -> None:
    """Send one file or several."""
    names = chance.sample(NAMES, chance.choice((1, 1, 2, 3)))
    answer = client.post("b", *((name, content(chance)) for name in names))
    if answer.status != 200:
        print(f"an upload was answered {answer.status}: {answer.body!r}")


def look(client: SessionClient, chance: random.Random) -> None:
    """Read the list, and report inconsistencies."""
    names = client.get("b").names
    if len(set(names)) != len(names):
        print(f"a name is listed twice: {names}")


def read(client: SessionClient, chance: random.Random) -> None:
    """Read a file, and report content that was never sent."""
    answer = client.get("b", chance.choice(NAMES))
    if answer.status == 200 and answer.body[:32] != hashlib.sha256(answer.body[32:]).digest():
        print("a file is not what was sent")
    if answer.status not in {200, 404}:
        print(f"a download was answered {answer.status}: {answer.body!r}")


def delete(client: SessionClient, chance: random.Random) -> None:
    """Delete one attachment, or rarely all of them."""
    answer = client.delete("b") if chance.random() < 0.1 else client.delete("b", chance.choice(NAMES))
    if answer.status != 200:
        print(f"a deletion was answered {answer.status}: {answer.body!r}")


def main(directory: str, cookie: str, seed: int, actions: int) -> None:
    """Perform random operations."""
    client, chance = SessionSite(Path(directory)).client(), random.Random(seed)
    client.cookies["fileupload_session"] = cookie
    choices: tuple[Callable[[SessionClient, random.Random], None], ...] = (send, send, send, look, read, read, delete)
    for _ in range(actions):
        chance.choice(choices)(client, chance)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # such as the one that the simulated server does not expose its connections
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
