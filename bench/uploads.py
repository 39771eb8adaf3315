"""The manager and request targets for uploads to a contestant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from bench.contestants import Contestant
from bench.servers import Server
from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.settings import Settings


def manager_of(server: Server) -> UploadManager:
    """Return the manager of the pool of one of our contestants, as an app in another process would have it."""
    return make_manager(Settings.parse({"directory": str(server.place.directory)}))


def targets(server: Server) -> Iterator[str]:
    """Yield the request targets of consecutive uploads, all different."""
    return map(_target_maker(server.contestant, server), itertools.count())


def _target_maker(contestant: Contestant, server: Server) -> Callable[[int], str]:
    if contestant.ours:
        manager = manager_of(server)
        return lambda number: f"/upload?X-Progress-ID={manager.create_identifier()}"
    if contestant.method == "PUT":
        return lambda number: f"/{number}.bin"
    return lambda number: "/"
