"""Forks: a child process works like its parent, also if it is forked while the parent's threads are busy.

Each test is a script of its own, because a fork in the process of the tests would inherit the threads of other tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State
from tests.support.stores.fixtures import Place
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.conftest import Redis

_COMMON = """
import json, os, sys, threading, time
from dataclasses import replace
from fileupload.status import State, UploadedFile, UploadStatus, timestamp

ONE, OTHER = "1" * 32, "2" * 32
MEBIBYTE = 1 << 20

def running(size=None, **more):
    now = timestamp()
    return UploadStatus(state=State.UPLOADING, filename="a", size=size, started=now, updated=now, **more)

def upload(pool, bucket_id, content):
    attempt = pool.begin(bucket_id, running(len(content)))
    writer = attempt.create_file()
    writer.write(content)
    writer.close()
    file = UploadedFile(field="", filename="a", content_type="a/b", size=len(content))
    attempt.finish(running(len(content)).done((file,), {}))

def wait_until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)

def in_child(work):
    # The child may hang, which is one of the errors that are looked for.
    if not (child := os.fork()):
        try:
            work()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 40
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            sys.exit("the child hangs")
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 0, "the child has failed"
"""


@pytest.fixture
def run() -> Callable[..., None]:
    """Run a script, and check that it succeeds."""

    def run(script: str, *arguments: str) -> None:
        code = _COMMON + textwrap.dedent(script)
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=2 * PATIENCE
        )
        assert ended.returncode == 0, ended.stderr

    return run


@pytest.fixture
def settings(place: Place) -> str:
    """Return the settings of a pool, as JSON."""
    return json.dumps({"pool": f"s3://{place.store.s3_bucket}/forks/{uuid.uuid4().hex}", **place.access})


def test_attempts_of_both_processes_send_heartbeats(run: Callable[..., None]) -> None:
    """Parent and child send heartbeats for each of their own attempts, and none for the other process."""
    run(
        """
        from fileupload.pool.object import heartbeat
        heartbeat._CHECK_INTERVAL = 0.01

        class Attempt:
            def __init__(self):
                self.heartbeat_lock = threading.Lock()
                self.beats = 0
            def beat(self):
                self.beats += 1
                return True

        heartbeats = heartbeat.HeartbeatThread()
        of_parent, of_child = Attempt(), Attempt()
        heartbeats.begin(of_parent)
        wait_until(lambda: of_parent.beats, "no heartbeat in the parent")
        of_parent.heartbeat_lock.acquire()  # the fork happens while a heartbeat is on its way
        heartbeats._lock.acquire()

        def child():
            before = of_parent.beats
            heartbeats.begin(of_child)
            wait_until(lambda: of_child.beats > 3, "no heartbeat in the child")
            assert of_parent.beats == before, "the child sends heartbeats for its parent"
            heartbeats.end(of_child)

        in_child(child)
        heartbeats._lock.release()
        of_parent.heartbeat_lock.release()
        before = of_parent.beats
        wait_until(lambda: of_parent.beats > before, "no heartbeat in the parent any more")
        """
    )


def test_a_child_of_an_uploading_parent_can_upload(run: Callable[..., None], settings: str) -> None:
    """A child of a parent that has uploaded in parts, and still runs an attempt, uploads too, with heartbeats."""
    run(
        """
        from fileupload.pool.s3.store import open_pool
        from fileupload.settings import Settings
        pool = open_pool(Settings.parse(json.loads(sys.argv[1])))
        content = bytes(range(256)) * 4096 * 17
        upload(pool, ONE, content)
        running_on = pool.begin(OTHER, running())
        wait_until(lambda: [k for k in pool.store.list(pool.prefix) if "/p/" in k.key], "no heartbeat in the parent")

        def child():
            upload(pool, "3" * 32, content)
            with pool.bucket("3" * 32).open() as file:
                assert file.read() == content
            attempt = pool.begin("4" * 32, running())
            key = pool.bucket_store("4" * 32).key("p", attempt.token)
            wait_until(lambda: list(pool.store.list(key)), "no heartbeat in the child")
            attempt.suspend(running(resumable=True))

        in_child(child)
        running_on.publish(running())
        upload(pool, "5" * 32, content)
        """,
        settings,
    )


def test_processes_share_no_connection_to_redis(run: Callable[..., None], redis_server: Redis) -> None:
    """Parent and child use Redis at the same time, and each gets the answers to its own requests."""
    run(
        """
        from fileupload.pool.object.presence import PresenceStore
        from fileupload.pool.object.redis_presence import RedisPresence

        class Nothing(PresenceStore):
            interval = 1.0
            def _fail(self, *arguments):
                raise AssertionError("Redis did not answer")
            publish = withdraw = acquire_resume_lease = cache_owner = _fail
            def get(self, bucket_id, token):
                return None
            def is_alive(self, bucket_id, token, age, limit):
                return False

        presence = RedisPresence(sys.argv[1], "forks", Nothing())

        def talk(name, count):
            for number in range(count):
                record = f"{name}-{number}"
                assert presence.publish(ONE, name, record.encode()) or True
                found = presence.get(ONE, name)
                assert found == record, (found, record)

        talk("parent", 3)
        pool = presence._clients.get().connection_pool
        in_use, forked = threading.Event(), threading.Event()

        def use():  # another thread uses the client during the fork; its locks are reentrant
            with pool._fork_lock, pool._lock:
                in_use.set()
                forked.wait(20)

        threading.Thread(target=use).start()
        in_use.wait(20)
        if not (child := os.fork()):
            try:
                talk("child", 300)
            except BaseException as error:
                print(f"in the child: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        forked.set()
        talk("parent", 300)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        redis_server.url,
    )


def test_a_child_does_not_keep_the_locks_of_its_parent(run: Callable[..., None], tmp_path: Path) -> None:
    """A child holds neither the lock of a bucket nor that of an attempt, if its parent had them during the fork."""
    run(
        """
        from fileupload.pool.directory.bucket_store import is_alive
        from fileupload.pool.directory.pool import DirectoryPool
        pool = DirectoryPool(sys.argv[1])
        attempt = pool.begin(ONE, running(resumable=True))
        locked, forked, done = (threading.Event() for _ in range(3))

        def hold():
            with pool.bucket_store(ONE).locked():
                locked.set()
                forked.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        locked.wait(20)
        ready, end = os.pipe()
        if not (child := os.fork()):
            os.close(end)
            os.read(ready, 1)  # lives until the parent is through
            os._exit(0)
        os.close(ready)
        forked.set()
        thread.join()
        attempt.suspend(running(resumable=True))
        resumed = []
        other = threading.Thread(target=lambda: resumed.append(pool.resume(ONE)), daemon=True)
        other.start()
        other.join(10)
        os.close(end)
        os.waitpid(child, 0)
        assert resumed, "the child holds a lock of its parent"
        resumed[0].finish(running().done((UploadedFile(field="", filename="", content_type="a/b", size=0),), {}))
        """,
        str(tmp_path / "pool"),
    )


_KILLED = """
import os, subprocess, sys, multiprocessing
from fileupload.pool.directory.pool import DirectoryPool
pool = DirectoryPool(sys.argv[1])
old = "2020-01-01T00:00:00.000Z"
attempt = pool.begin(ONE, replace(running(), started=old, updated=old))
writer = attempt.create_file()
writer.write(b"half of it")

def live():
    while True:
        time.sleep(60)

def fork():
    if child := os.fork():
        return child
    live()

def start():
    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    return process.pid

def run(**options):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(command, close_fds=False, stdout=subprocess.DEVNULL, **options).pid

children = {
    "os.fork": fork,
    "multiprocessing": start,
    "a subprocess that inherits descriptors": run,
    "a subprocess with preexec_fn": lambda: run(preexec_fn=lambda: None),
}
print(children[sys.argv[2]](), flush=True)
sys.stdout.close()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "kind",
    ["os.fork", "multiprocessing", "a subprocess that inherits descriptors", "a subprocess with preexec_fn"],
)
def test_an_upload_whose_process_was_killed_is_interrupted_although_a_child_of_it_lives(
    tmp_path: Path, kind: str
) -> None:
    """A child of a killed process holds no lock of it: the upload is interrupted, and a new attempt begins at once."""
    directory = str(tmp_path / "pool")
    with subprocess.Popen(
        [sys.executable, "-c", _COMMON + _KILLED, directory, kind], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(PATIENCE) == -signal.SIGKILL
        try:
            pool = DirectoryPool(directory)
            # The child may still be about to close what it has inherited.
            wait_until(lambda: pool.bucket("1" * 32).get_status().state is State.ERROR)
            status = pool.bucket("1" * 32).get_status()
            assert status.code == "interrupted"
            pool.begin("1" * 32, status).close()
            assert pool.clear("1" * 32)
            os.kill(child, 0)  # it still runs
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_was_forked_without_handlers_of_python_keeps_no_lock(
    run: Callable[..., None], tmp_path: Path
) -> None:
    """A parent releases its locks itself, so it does not matter that a child of a C library has its descriptors."""
    run(
        """
        import ctypes
        from fileupload.pool.directory.pool import DirectoryPool
        pool = DirectoryPool(sys.argv[1])
        attempt = pool.begin(ONE, running(resumable=True))
        with pool.bucket_store(ONE).locked():
            ready, end = os.pipe()
            if not (child := ctypes.PyDLL(None).fork()):
                os.close(end)
                os.read(ready, 1)
                os._exit(0)
        os.close(ready)
        attempt.suspend(running(resumable=True))
        resumed = []
        other = threading.Thread(target=lambda: resumed.append(pool.resume(ONE)), daemon=True)
        other.start()
        other.join(10)
        os.close(end)
        os.waitpid(child, 0)
        assert resumed, "the child holds a lock of its parent"
        """,
        str(tmp_path / "pool"),
    )


def test_a_fork_waits_until_the_descriptor_of_a_lock_is_known(run: Callable[..., None], tmp_path: Path) -> None:
    """A child that is forked between the opening of a lock file and its registration does not keep the lock."""
    run(
        """
        from fileupload.pool.directory import filesystem
        from fileupload.pool.directory.pool import DirectoryPool
        pool = DirectoryPool(sys.argv[1])
        opened, forking, forked = (threading.Event() for _ in range(3))
        os.register_at_fork(before=forking.set, after_in_parent=forked.set)

        class Slow:
            def __getattr__(self, name):
                return getattr(os, name)
            def open(self, name, *arguments, **options):
                fd = os.open(name, *arguments, **options)
                if name == "lock" and not opened.is_set():
                    opened.set()
                    forking.wait(20)
                    forked.wait(0.3)  # a fork that does not wait happens now
                return fd

        filesystem.os = Slow()
        thread = threading.Thread(target=lambda: pool.begin(ONE, running()))
        thread.start()
        opened.wait(20)
        ready, end = os.pipe()
        results, answers = os.pipe()
        if not (child := os.fork()):
            os.close(end)
            names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd != str(ready)
                     and os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(answers, repr([name for name in names if name.endswith("/lock")]).encode())
            os._exit(0)
        found = os.read(results, 4096).decode()
        os.close(end)
        thread.join()
        os.waitpid(child, 0)
        assert found == "[]", found
        """,
        str(tmp_path / "pool"),
    )


def test_a_child_does_not_keep_the_files_that_its_parent_writes(run: Callable[..., None], tmp_path: Path) -> None:
    """A child has neither the files nor the locks of its parent's uploads open, so removed files free their space."""
    run(
        """
        from fileupload.pool.directory.pool import DirectoryPool
        pool = DirectoryPool(sys.argv[1])
        attempt = pool.begin(ONE, running())
        writer = attempt.create_file()
        writer.write(b"content")

        def child():
            names = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    names.append(os.readlink(f"/proc/self/fd/{fd}"))
                except FileNotFoundError:
                    pass  # that of the listing
            files = [name for name in names if name.startswith(sys.argv[1]) and not os.path.isdir(name)]
            assert files == [], files

        in_child(child)
        writer.write(b" of the parent")
        writer.close()
        """,
        str(tmp_path / "pool"),
    )


_INHERITED = """
from fileupload.errors import Superseded
attempt = pool.begin(ONE, running(resumable=True))
writer = attempt.create_file()
writer.write(b"content")

def refused(end):
    try:
        end(running(resumable=True))
    except Superseded:
        return
    raise AssertionError("a child has ended the upload of its parent")

def fail():
    attempt.fail(running(resumable=True))

in_child(fail)
in_child(lambda: refused(attempt.finish))
in_child(lambda: refused(attempt.suspend))
writer.close()
file = UploadedFile(field="", filename="a", content_type="a/b", size=7)
attempt.finish(running().done((file,), {}))
with pool.bucket(ONE).open() as stored:
    assert stored.read() == b"content"
"""


def test_a_child_does_not_end_an_upload_of_its_parent(run: Callable[..., None], tmp_path: Path) -> None:
    """A child that leaves the parent's request by an exception changes nothing in a directory pool."""
    script = "from fileupload.pool.directory.pool import DirectoryPool\npool = DirectoryPool(sys.argv[1])"
    run(script + _INHERITED, str(tmp_path / "pool"))


def test_a_child_does_not_end_an_upload_of_its_parent_in_a_store(run: Callable[..., None], settings: str) -> None:
    """A child that leaves the parent's request by an exception changes nothing in an object pool."""
    script = "from fileupload.pool.s3.store import open_pool\nfrom fileupload.settings import Settings\n"
    run(script + "pool = open_pool(Settings.parse(json.loads(sys.argv[1])))" + _INHERITED, settings)


def test_a_child_forked_during_a_count_of_descriptors_can_count_its_own(
    run: Callable[..., None], tmp_path: Path
) -> None:
    """A child that is forked while the parent counts its descriptors can count its own."""
    run(
        """
        from fileupload.pool.directory import descriptor_limits
        from fileupload.pool.directory.pool import DirectoryPool
        pool = DirectoryPool(sys.argv[1])
        descriptor_limits._limit = lambda: 40
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(18)]
        with descriptor_limits.admission(opened[-1]):
            in_child(lambda: upload(pool, ONE, b"content"))
        assert pool.bucket(ONE).is_complete()
        """,
        str(tmp_path / "pool"),
    )


def test_a_child_ends_the_connections_of_its_own_overdue_requests(run: Callable[..., None]) -> None:
    """After the parent has watched a request, a child ends the connection of an overdue request."""
    run(
        """
        import socket
        from fileupload.wsgi.watchdog import WATCHDOG, SocketWatch, Wait

        def overdue():
            client, server = socket.socketpair()
            wait = Wait()
            wait.begin(size=1, seconds=0.1, idle=float("inf"))
            watch = SocketWatch(server)
            watch.start(wait)
            server.settimeout(20)
            assert server.recv(1) == b"", "the read was not ended"
            watch.stop(wait)
            assert wait.expired
            client.close()
            server.close()

        overdue()
        with WATCHDOG._lock:  # the fork happens while the thread looks
            in_child(overdue)
        overdue()
        """
    )
