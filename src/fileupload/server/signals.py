"""Signals that stop ``fileupload serve``: Ctrl-C in a terminal, SIGTERM, and their effect on the worker processes.

A terminal sends SIGINT to all processes of its foreground group, and systemd sends SIGTERM to all processes of a
service. A worker of granian deadlocks if a second signal interrupts its handler for the first one, which calls
``threading.Event.set``. So only the main process decides:

- In the main process the signals are blocked, and a thread waits for them. The first one ends the workers, a SIGINT
  after that kills them. No signal is lost while a worker is forked: it inherits the blocked signals.
- A worker ignores SIGINT, and ends at the first SIGTERM, which the main process sends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 130  # exit status of a process that SIGINT has ended, as shells report it


def wait_for_stop(stopping: Callable[[], None]) -> None:
    """Handle the signals of the main process from now on; call this in its main thread, before the workers start.

    :param stopping: called when the first signal has come, before the workers are told to end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=_wait, args=(stopping,), name="fileupload-signals", daemon=True).start()


def _wait(stopping: Callable[[], None]) -> None:
    number = signal.sigwait(STOP_SIGNALS)
    stopping()
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler):  # granian has not started yet, and there are no workers
        os._exit(128 + number)
    handler(number, None)
    signal.sigwait({signal.SIGINT})  # not SIGTERM: make passes it on, so that it may come twice
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(_INTERRUPTED)


def prepare_worker() -> None:
    """Set the signal handlers of a worker; call this in its main thread, before granian sets its own.

    The worker also ends when the main process has died: it would keep the port, and serve an outdated configuration.
    """
    from granian import _signals

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # granian has no public way to choose the signals of its workers.
    if hasattr(_signals, "set_main_signals"):
        _signals.set_main_signals = _set_handlers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until granian sets its handler there are no requests
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_end_with, args=(parent,), name="fileupload-parent", daemon=True).start()


def _set_handlers(handler: Callable[..., None], reload_handler: Any = None) -> None:
    """Have a thread call granian's *handler* of a worker at the first SIGTERM.

    Not the main thread: it may hold the lock of the event that the handler sets; and if it is about to wait for that
    event when the signal comes, Python calls no handler before the wait has ended.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait_for_end, args=(reading, handler), name="fileupload-signals", daemon=True).start()
    for number in STOP_SIGNALS:
        signal.signal(number, _ignore)


def _wait_for_end(signals: int, handler: Callable[..., None]) -> None:
    while signal.SIGTERM not in os.read(signals, 1):
        pass
    handler(signal.SIGTERM, None)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. Unlike with SIG_IGN, programs that the worker executes do not ignore the signal, too."""


def _end_with(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
