"""Completion in the background of uploads whose client has sent the file, and does not return to complete it.

The clients of django-s3fileup only send their file to the presigned URL, and a store does not report that to the app.
So each upload of one file is noted in the index when it begins. As long as there are notes, a thread in the processes
of the app looks for the files at intervals, and completes the uploads. A lease lets one process of all do that. The
thread starts with a request, and ends when there are no more notes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from fileupload.apps.s3fileup.webhook import OWNER
from fileupload.pool.base import Pool
from fileupload.pool.fork_safety import register
from fileupload.status import RUNNING, State, seconds_of

log = logging.getLogger("fileupload")

_NOTES = ("s3fileup", "open")  # key of the index: the bucket ids of begun uploads, with their begin and identifier
_INTERVAL = 15.0  # seconds between two searches for files that were sent
_LATE_INTERVAL = 3600.0  # the same for uploads whose URL has expired, of which most are abandoned
_SETTLING_TIME = 5.0  # seconds since the file was sent, or the upload was completed
_LATE_AFTER = 600.0  # seconds since the URL has expired; a transfer that began before may take longer
_MAX_TRANSFER_TIME = 86400.0  # seconds after which nothing is expected any more


class BackgroundCompletion:
    """The uploads that were begun, and the thread that completes those whose file was sent."""

    def __init__(self, pool: Pool, finish: Callable[[str, str], bool], *, url_ttl: float) -> None:
        """Complete uploads of *pool*.

        :param finish: finishes the upload of a bucket id and an identifier; returns whether nothing is left to do.
        :param url_ttl: seconds for which clients can begin to send.
        """
        self._pool = pool
        self._finish = finish
        self._url_ttl = url_ttl
        self.reset_after_fork()
        register(self)

    def reset_after_fork(self) -> None:
        """Forget the thread, which a child process does not have."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_start = 0.0  # by time.monotonic()
        self._has_news = False

    def note(self, bucket_id: str, identifier: str) -> None:
        """Note that an upload was begun, and see to it that a thread looks for its file."""
        self._pool.index.put(_NOTES, bucket_id, f"{time.time():.0f} {identifier}")
        with self._lock:
            self._has_news = True
            self._start()

    def start_if_due(self) -> None:
        """Start the thread, if none runs and the last one has not ended a moment ago."""
        if self._thread is None and time.monotonic() >= self._next_start:
            with self._lock:
                self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fileupload-completion", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._has_news = False
            if self._search() and self._end():
                return
            time.sleep(_INTERVAL)

    def _end(self) -> bool:
        """End the thread, unless an upload was begun since its last search."""
        with self._lock:
            if self._has_news:
                return False
            self._thread = None
            self._next_start = time.monotonic() + _INTERVAL
            return True

    def _search(self) -> bool:
        """Complete the uploads whose file was sent, if this process has the lease; return whether no note is left."""
        try:
            if not self._pool.acquire_interval_lease(_INTERVAL, "open"):
                return False
            late = self._pool.acquire_interval_lease(_LATE_INTERVAL, "late")
            names = self._pool.index.names(_NOTES)
            return not [bucket_id for bucket_id in names if not self._settle(bucket_id, late=late)]
        except OSError:
            log.exception("uploads could not be completed in the background")
            return False

    def _settle(self, bucket_id: str, *, late: bool) -> bool:
        """Complete an upload if its file was sent; return whether its note was removed, since nothing is left to do."""
        begun, _, identifier = (self._pool.index.get(_NOTES, bucket_id) or "0 ").partition(" ")
        age = time.time() - int(begun) - self._url_ttl
        if age >= _LATE_AFTER and not late:
            return False
        try:
            if age < _MAX_TRANSFER_TIME and not self._complete(bucket_id, identifier):
                return False
        except OSError:  # the note of this upload must not keep the others from being completed
            log.exception("an upload could not be completed in the background")
            return False
        self._pool.index.remove(_NOTES, bucket_id)
        return True

    def _complete(self, bucket_id: str, identifier: str) -> bool:
        status = self._pool.bucket(bucket_id).get_status()
        if status.owner != OWNER or status.state not in {*RUNNING, State.DONE}:
            return True  # it has failed, or was removed, or the bucket has another upload
        sent = status.state is State.DONE or (
            not status.running and bool(self._pool.direct(bucket_id, status.attempt).parts())
        )
        # A client that has sent the file a moment ago may complete the upload itself, and waits for the delivery; and
        # one whose connection broke at the end sends the file again.
        settled = status.updated is None or time.time() - seconds_of(status.updated) >= _SETTLING_TIME
        if not sent or not settled:
            return False
        return self._finish(bucket_id, identifier)
