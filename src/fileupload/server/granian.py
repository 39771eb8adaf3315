"""``fileupload serve``: an upload server on granian, which streams bodies best of the WSGI servers."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from fileupload.errors import SettingError
from fileupload.server.connection_reaper import ConnectionReaper, ReaperOptions
from fileupload.settings import Settings
from fileupload.wsgi.connection import HAS_COUNTERS

HEADER_TIMEOUT = 10.0  # seconds for the head of a request, from the connection or the last answer on
_RESERVE = 64  # threads
_SHUTDOWN_GRACE = 30  # seconds that running uploads have to end after SIGTERM


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to listen.

    :ivar port: 0 takes a free one.
    :ivar workers: processes; 0 for one on each processor, but at most four.
    :ivar threads: requests that each process serves at once; a slow client occupies one. They are made as
        they are needed.
    :ivar idle_timeout: seconds after which a connection ends whose client sends nothing more of a body, or takes
        nothing more of an answer; 0: never.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 0
    threads: int = 1024
    idle_timeout: float = 60.0


def serve(make_app: Callable[[], WSGIApplication], options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Serve the app that *make_app* returns in each worker, until SIGINT or SIGTERM.

    :param make_app: picklable, called once in each process.
    :param announce: called with the address once connections are accepted.
    :raises SettingError: granian is not installed, or the address cannot be used.
    """
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ImportError:
        raise SettingError("the server needs granian: pip install 'fileupload[server]'") from None
    _allow_many_files()
    with _reserved(options.host, options.port) as port:
        server = Granian(
            "fileupload",
            address=options.host,
            port=port,
            interface=Interfaces.WSGI,
            workers=options.workers or min(4, len(os.sched_getaffinity(0))),
            # Over HTTP/2, a read never returns once its stream was reset or its connection was closed, and one
            # connection has as many streams as it likes. Over HTTP/1.1 a connection has one request at a time.
            http=HTTPModes.http1,
            # Holds for the whole head and for the time before it: without a byte, and between two requests.
            http1_settings=HTTP1Settings(header_read_timeout=int(HEADER_TIMEOUT * 1000)),
            # No connection waits for a thread: the threads in reserve are for what is drained behind an answer,
            # while the next request of the connection begins. Connections beyond that wait in the kernel.
            blocking_threads=options.threads + _RESERVE,
            backpressure=options.threads,
            backlog=max(4096, options.threads),
            log_level=LogLevels.error,  # it warns of many threads, which is what slow clients need
            log_access=False,  # addresses hold identifiers, and identifiers are secrets
            respawn_failed_workers=True,
            workers_kill_timeout=_SHUTDOWN_GRACE,
        )
        threading.Thread(target=_announce_when_listening, args=(options.host, port, announce), daemon=True).start()
        server.serve(target_loader=partial(_load, make_app, port, options), wrap_loader=False)


def _load(make_app: Callable[[], WSGIApplication], port: int, options: ServerOptions) -> WSGIApplication:
    """Return the app, in a worker process that ends when its parent does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    app = make_app()
    if not HAS_COUNTERS or not os.path.isdir("/proc/self/fd"):
        return app
    # Of an app from a Paste file the settings are known only if its first part is ours.
    settings = getattr(getattr(app, "manager", None), "settings", None) or Settings()
    return ConnectionReaper(
        app,
        ReaperOptions(
            port=port,
            capacity=options.threads,
            idle_timeout=options.idle_timeout or math.inf,
            min_rate=settings.min_rate,
            grace=settings.min_rate_grace,
        ),
    )


def _end_with(parent: Any) -> None:
    # A worker that outlives a killed parent would keep the port, and answer with a configuration of the past.
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Any:
    """Keep the address free of others until the workers listen there; gives the port.

    The workers bind with SO_REUSEPORT, which would let a second server share the port of a first one unnoticed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        with socket.socket(family, kind) as reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(address)
            yield reserved.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from None


def _announce_when_listening(host: str, port: int, announce: Callable[[str], None]) -> None:
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    while True:
        with contextlib.suppress(OSError), socket.create_connection((own, port), timeout=1):
            break
        time.sleep(0.02)
    announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/")


def _allow_many_files() -> None:
    """Raise the limit of open files as far as it goes: an upload needs five, its socket included."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configure_logging() -> None:
    """Write this package's log to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("fileupload").setLevel(logging.INFO)
