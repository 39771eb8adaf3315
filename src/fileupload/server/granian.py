"""``fileupload serve``: an upload server on granian, the measured WSGI server with the lowest cost per byte."""

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

HEADER_TIMEOUT = 10.0  # seconds for the head of a request, counted from the connection or from the last answer
_RESERVE = 64  # threads beyond the number of connections
_SHUTDOWN_GRACE = 30  # seconds for running uploads to finish after SIGTERM


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of the server.

    :ivar port: port to listen on; 0: any free port.
    :ivar workers: number of worker processes; 0: one per processor, at most four.
    :ivar threads: concurrent requests per worker process; a slow client occupies one thread. Threads are started on
        demand.
    :ivar idle_timeout: seconds without a byte of a body, or of an answer, after which a connection is closed; 0: no
        timeout.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 0
    threads: int = 1024
    idle_timeout: float = 60.0


def serve(make_app: Callable[[], WSGIApplication], options: ServerOptions, announce: Callable[[str], None]) -> None:
    """Run the server until SIGINT or SIGTERM.

    :param make_app: returns the WSGI app; picklable, called once in each worker process.
    :param announce: called with the URL of the server once it accepts connections.
    :raises SettingError: granian is not installed, or the host and port cannot be used.
    """
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ImportError:
        raise SettingError("the server needs granian: pip install granian") from None
    _allow_many_files()
    with _reserved(options.host, options.port) as port:
        server = Granian(
            "fileupload",
            address=options.host,
            port=port,
            interface=Interfaces.WSGI,
            workers=options.workers or min(4, len(os.sched_getaffinity(0))),
            # Over HTTP/2, a read never returns once its stream is reset or its connection is closed, and the number of
            # streams of a connection is not limited. Over HTTP/1.1 a connection has one request at a time.
            http=HTTPModes.http1,
            # The timeout covers the whole head, and the idle time before it on a new or a kept-alive connection.
            http1_settings=HTTP1Settings(header_read_timeout=int(HEADER_TIMEOUT * 1000)),
            # No connection waits for a thread: a thread that drains a body after the answer uses one of the reserve
            # while the next request of its connection starts. Connections beyond the limit wait in the kernel.
            blocking_threads=options.threads + _RESERVE,
            backpressure=options.threads,
            backlog=max(4096, options.threads),
            log_level=LogLevels.error,  # it warns about many threads, which slow clients need
            log_access=False,  # URLs contain identifiers, which are secrets
            respawn_failed_workers=True,
            workers_kill_timeout=_SHUTDOWN_GRACE,
        )
        threading.Thread(target=_announce_when_listening, args=(options.host, port, announce), daemon=True).start()
        server.serve(target_loader=partial(_load, make_app, port, options), wrap_loader=False)


def _load(make_app: Callable[[], WSGIApplication], port: int, options: ServerOptions) -> WSGIApplication:
    """Return the app of a worker process, behind the connection reaper; the process ends when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    app = make_app()
    if not HAS_COUNTERS or not os.path.isdir("/proc/self/fd"):
        return app
    # The settings of an app from a Paste file are known only if its outermost component is one of this package.
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
    # A worker that survives a killed parent would keep the port, and serve an outdated configuration.
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Any:
    """Reserve the host and port until the workers listen there; the context value is the port.

    The workers bind with SO_REUSEPORT, so that without this check a second server could silently share the port.
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
    """Raise the soft limit of open files to the hard limit: an upload needs five descriptors, with its socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configure_logging() -> None:
    """Write the log of this package to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("fileupload").setLevel(logging.INFO)
