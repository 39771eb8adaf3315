"""``fileupload serve``: an upload server on granian, the measured WSGI server with the lowest cost per byte."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from fileupload.errors import SettingError
from fileupload.events import log_event
from fileupload.server.connection_reaper import ConnectionReaper, ReaperOptions
from fileupload.server.log_format import GRANIAN_LOGGING, configure_logging
from fileupload.server.signals import prepare_worker, wait_for_stop
from fileupload.settings import Settings
from fileupload.wsgi.connection import HAS_COUNTERS
from fileupload.wsgi.proxy import LOOPBACK, trusting_by_default

log = logging.getLogger("fileupload")

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
    :ivar log_format: format of the log: ``text`` or ``json``.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 0
    threads: int = 1024
    idle_timeout: float = 60.0
    log_format: str = "text"


def serve(
    make_app: Callable[[], WSGIApplication],
    options: ServerOptions,
    announce: Callable[[str], None],
    settings: Settings | None = None,
) -> None:
    """Run the server until SIGINT or SIGTERM.

    :param make_app: returns the WSGI app; picklable, called once in each worker process.
    :param settings: the settings of the app, for the log; None if they are not known.
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
    workers = options.workers or min(4, len(os.sched_getaffinity(0)))
    with _reserved(options.host, options.port) as port:
        server = Granian(
            "fileupload",
            address=options.host,
            port=port,
            interface=Interfaces.WSGI,
            workers=workers,
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
            log_dictconfig=GRANIAN_LOGGING,
            log_access=False,  # URLs contain identifiers, which are secrets
            respawn_failed_workers=True,
            workers_kill_timeout=_SHUTDOWN_GRACE,
        )
        wait_for_stop(_log_stop)  # before other threads, which would receive the signals
        threading.Thread(target=_announce_when_listening, args=(options.host, port, announce), daemon=True).start()
        log_event(
            logging.INFO,
            "the server starts",
            {
                "host": options.host,
                "port": port,
                "workers": workers,
                "threads": options.threads,
                **(_described(settings) if settings is not None else {}),
            },
        )
        try:
            server.serve(target_loader=partial(_load, make_app, port, options), wrap_loader=False)
        finally:
            log.info("the server has stopped")


def _described(settings: Settings) -> dict[str, object]:
    """Return the fields of the log for the pool, the limits, and the question whether any client may upload."""
    limits = {name: getattr(settings, name) for name in ("max_size", "max_file_size", "min_free_space")}
    return {
        "pool": settings.pool or os.path.abspath(settings.directory),
        "kind": "object-store" if settings.pool else "directory",
        **{name: "none" if limit is None else limit for name, limit in limits.items()},
        "expire_after": settings.expire_after or "never",
        "anonymous": settings.anonymous,
    }


def _log_stop() -> None:
    log.info("the server stops; running requests have %d s to finish, Ctrl-C ends them at once", _SHUTDOWN_GRACE)


def _load(make_app: Callable[[], WSGIApplication], port: int, options: ServerOptions) -> WSGIApplication:
    """Return the app of a worker process, behind the connection reaper."""
    prepare_worker()
    configure_logging(options.log_format)  # a worker that is not forked has no logging of its own yet
    app = make_app()
    trusting = trusting_by_default(app, LOOPBACK)  # a proxy on the same host, as in docs/deployment.txt
    if not HAS_COUNTERS or not os.path.isdir("/proc/self/fd"):
        return trusting
    settings = settings_of(app) or Settings()
    return ConnectionReaper(
        trusting,
        ReaperOptions(
            port=port,
            capacity=options.threads,
            idle_timeout=options.idle_timeout or math.inf,
            min_rate=settings.min_rate,
            grace=settings.min_rate_grace,
        ),
    )


def settings_of(app: WSGIApplication) -> Settings | None:
    """Return the settings of *app*, if its outermost component is one of this package."""
    settings = getattr(getattr(app, "manager", None), "settings", None)
    return settings if isinstance(settings, Settings) else None


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
        with _bound_socket(family, kind, address) as reserved:
            yield reserved.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from None


def _bound_socket(family: int, kind: int, address: Any) -> socket.socket:
    """Return a socket that is bound to *address*, where nothing listens, and that the workers share.

    For a minute after another server has ended, its closed connections (TIME_WAIT) still occupy the address, unless
    SO_REUSEADDR is set. With that option alone, a second server that starts at the same moment could share the port.
    """
    reserved = socket.socket(family, kind)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            reserved.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(address)
    except BaseException:
        reserved.close()
        raise
    return reserved


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
