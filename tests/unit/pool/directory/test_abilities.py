"""File systems that lack something: it is done without, or the start stops with a sentence."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fileupload import RecordAttachments, S3Fileup, SessionAttachments, UploadMiddleware
from fileupload.errors import SettingError, Superseded
from fileupload.factory import make_manager
from fileupload.pool.directory import abilities, filesystem
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.settings import Settings
from fileupload.status import State
from tests.support import pool_contract as contract
from tests.support.fault_injection import put_below_pool
from tests.support.wsgi_client import UploadSite

UNSUPPORTED = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS]


class LackingSystem:
    """A replacement for ``os`` in the pool's modules, whose file system lacks some operations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._replaced: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []
        monkeypatch.setattr(abilities, "_checked", set())
        put_below_pool(monkeypatch, self)

    def __getattr__(self, name: str) -> Any:
        if name == "mkdir":
            self.calls.append(name)
        return self._replaced.get(name) or getattr(os, name)

    def replace(self, name: str, function: Callable[..., Any]) -> None:
        self._replaced[name] = function

    def lack(self, name: str, error: int, when: Callable[..., bool] = lambda *_: True) -> None:
        """Let an operation fail, with arguments for which *when* holds."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            if when(*arguments):
                raise OSError(error, os.strerror(error))
            return getattr(os, name)(*arguments, **keywords)

        self.replace(name, call)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> LackingSystem:
    """Return a system that lacks nothing yet."""
    return LackingSystem(monkeypatch)


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_file(fd: int) -> bool:
    return not is_directory(fd)


def all_at_once(site: UploadSite) -> None:
    """Send a form, a plain body, and a refused upload; read, move and clear."""
    one, two, three = (site.identifier(), site.identifier(), site.identifier(max_size="10B"))
    assert site.put(b"content", one).status == 200
    assert site.put(b"content", two).status == 200
    assert site.put(b"more than ten bytes", three).status == 413
    assert site.manager.get_status(three).state is State.ERROR
    bucket = site.manager.access_upload_bucket(one)
    assert bucket is not None
    bucket.move_to(str(site.directory.parent / "moved"))
    assert (site.directory.parent / "moved").read_bytes() == b"content"
    assert site.manager.clear_upload_bucket(one)
    assert site.manager.clear_upload_bucket(two)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, *UNSUPPORTED])
def test_without_hard_links_everything_works(system: LackingSystem, tmp_path: Path, error: int) -> None:
    """Keys, refusals and the index need no hard links: of several that give a name at once, one succeeds."""
    system.lack("link", error)
    site = UploadSite(tmp_path / "pool", durable=True)
    all_at_once(site)
    other = make_manager(Settings.parse({"directory": str(tmp_path / "pool")}))
    assert other.key_ring.keys == site.manager.key_ring.keys
    index = other.pool.index
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda number: index.put(("a",), "name", f"text {number}", new=True), range(8)))
    assert results.count(True) == 1
    assert index.get(("a",), "name") == f"text {results.index(True)}"
    assert not index.put(("a",), "name", "another", new=True)
    assert index.remove(("a",), "name")
    assert list(index.keys(())) == []


@pytest.mark.parametrize("error", UNSUPPORTED)
def test_without_syncing_of_directories_a_warning_is_enough(
    system: LackingSystem, tmp_path: Path, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Uploads are stored on a file system that cannot sync directories; the log says so once."""
    system.lack("fsync", error, is_directory)
    with caplog.at_level(logging.WARNING, "fileupload"):
        for _ in range(2):
            all_at_once(UploadSite(tmp_path / "pool", durable=True))
    assert [record.getMessage() for record in caplog.records if "cannot sync directories" in record.getMessage()] == [
        caplog.messages[0]
    ]


def test_an_error_of_syncing_is_an_error(system: LackingSystem, tmp_path: Path) -> None:
    """A disk that fails to sync a directory is no file system without that ability."""
    site = UploadSite(tmp_path / "pool", durable=True)
    system.lack("fsync", errno.EIO, is_directory)
    assert site.put(b"content", site.identifier()).outcome == (500, "storage-failed")


@pytest.mark.parametrize("error", [errno.EPERM, *UNSUPPORTED])
def test_without_modes_everything_works(system: LackingSystem, tmp_path: Path, error: int) -> None:
    """A file system that keeps no modes stores uploads, also with a umask that clears bits of the owner."""
    system.lack("chmod", error)
    system.lack("fchmod", error)
    before = os.umask(0o277)
    try:
        site = UploadSite(tmp_path / "pool")
    finally:
        os.umask(before)
    all_at_once(site)


def test_a_file_system_without_modes_is_warned_of(
    system: LackingSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that other users may read the uploads, where directories do not keep their mode."""
    system.replace("mkdir", lambda name, mode, **keywords: _make_open_directory(name, **keywords))
    with caplog.at_level(logging.WARNING, "fileupload"):
        DirectoryPool(str(tmp_path / "pool")).check()
    assert "does not keep modes" in caplog.text


def _make_open_directory(name: str, **keywords: Any) -> None:
    os.mkdir(name, **keywords)
    os.chmod(name, 0o755, **keywords)


@pytest.mark.parametrize("how", ["error", "zeros"])
def test_without_statistics_space_is_not_limited(system: LackingSystem, tmp_path: Path, how: str) -> None:
    """A file system that does not tell its free space refuses no upload."""
    if how == "error":
        system.lack("statvfs", errno.ENOSYS)
    else:
        system.replace("statvfs", lambda path: os.statvfs_result((512, 512, *[0] * 8)))
    site = UploadSite(tmp_path / "pool", min_free_space=1)
    assert site.manager.pool.free_space() is None
    all_at_once(site)


@pytest.mark.parametrize("error", UNSUPPORTED)
def test_without_allocation_in_advance_refusals_are_recorded(system: LackingSystem, tmp_path: Path, error: int) -> None:
    """The register of refusals is filled with zeros where its blocks cannot be allocated."""
    system.lack("posix_fallocate", error)
    site = UploadSite(tmp_path / "pool")
    identifier = site.identifier()
    assert site.put(b"", identifier, CONTENT_LENGTH=str(10**15)).status in {413, 507}
    assert site.manager.get_status(identifier).state is State.ERROR
    assert (tmp_path / "pool" / ".refusals").stat().st_size == 4096 * 1024


APPS: list[Callable[..., Any]] = [
    lambda **settings: UploadMiddleware(lambda environ, start: [], **settings),
    lambda **settings: SessionAttachments(None, **settings),
    lambda **settings: RecordAttachments(lambda environ, start: [], record_url="/{kind}/{id}", api="rest", **settings),
    lambda **settings: S3Fileup(**settings),
]


@pytest.mark.parametrize("app", APPS, ids=["middleware", "sessions", "records", "s3fileup"])
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("keys", [{}, {"upload_key": "a key that is long enough"}], ids=["stored key", "own key"])
def test_without_locks_the_start_stops(
    system: LackingSystem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    app: Callable[..., Any],
    error: int,
    keys: dict[str, str],
) -> None:
    """Each app refuses a directory without locks, names the setting, and says what to do; nothing is left there."""

    def flock(fd: int, how: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(SettingError, match=r"'directory'.*has no locks.*local disk"):
        app(directory=str(tmp_path / "pool"), **keys)
    assert list((tmp_path / "pool").iterdir()) == []


def test_locks_without_effect_stop_the_start(
    system: LackingSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system on which two descriptors get the same lock is refused."""
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None)
    with pytest.raises(SettingError, match="locks have no effect"):
        DirectoryPool(str(tmp_path / "pool")).check()


@pytest.mark.parametrize("error", UNSUPPORTED)
def test_without_syncing_of_files_the_start_stops(system: LackingSystem, tmp_path: Path, error: int) -> None:
    """A durable pool is refused where files cannot be synced, with the setting that does without."""
    system.lack("fsync", error, is_file)
    with pytest.raises(SettingError, match=r"cannot sync files.*'durable'"):
        UploadMiddleware(lambda environ, start: [], directory=str(tmp_path / "pool"))
    all_at_once(UploadSite(tmp_path / "pool", durable=False))


def test_an_open_file_that_cannot_be_replaced_stops_the_start(system: LackingSystem, tmp_path: Path) -> None:
    """A file system that refuses to replace an open file, as some shares do, is refused."""
    system.lack("rename", errno.EACCES)
    with pytest.raises(SettingError, match="cannot replace or remove a file that is open"):
        DirectoryPool(str(tmp_path / "pool")).check()


def test_changing_inode_numbers_stop_the_start(
    system: LackingSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that gives a file another inode number each time is refused; a lock there would never be held."""
    monkeypatch.setattr(os.path, "samestat", lambda one, other: False)
    with pytest.raises(SettingError, match="inode"):
        DirectoryPool(str(tmp_path / "pool")).check()


def test_the_check_is_made_once_and_by_apps_only(system: LackingSystem, tmp_path: Path) -> None:
    """A pool that only reads writes nothing; the second app of a process checks nothing."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    assert list(pool.buckets()) == []
    assert pool.find_bucket(contract.ID) is None
    assert list((tmp_path / "pool").iterdir()) == []
    pool.check()
    assert list((tmp_path / "pool").iterdir()) == []
    system.calls.clear()
    DirectoryPool(str(tmp_path / "pool")).check()
    assert system.calls == []


def test_a_directory_that_waits_for_an_open_lock_is_removed(system: LackingSystem, tmp_path: Path) -> None:
    """On a file system that keeps removed open files, as NFS does, a cleared bucket leaves no directory."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    contract.complete(pool)
    bucket = Path(pool.bucket_store(contract.ID).path_of())
    refused: list[str] = []

    def rmdir(path: str, **keywords: Any) -> None:
        if path == str(bucket) and not refused:
            refused.append(path)
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        os.rmdir(path, **keywords)

    system.replace("rmdir", rmdir)
    assert pool.clear(contract.ID)
    assert refused
    assert not bucket.exists()


def test_an_attempt_whose_directory_cannot_be_removed_learns_that_it_was_superseded(
    system: LackingSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that keeps removed open files, an older attempt ends with its next publication."""

    def hide(name: str, parent: int) -> None:
        for each in os.listdir(directory := os.open(name, os.O_RDONLY, dir_fd=parent)):
            os.rename(each, f".nfs-{each}", src_dir_fd=directory, dst_dir_fd=directory)
        os.close(directory)

    pool = DirectoryPool(str(tmp_path / "pool"))
    old = pool.begin(contract.ID, contract.starting())
    old.create_file().write(b"old")
    monkeypatch.setattr(filesystem, "_remove_directory", hide)
    new = pool.begin(contract.ID, contract.starting())
    with pytest.raises(Superseded):
        old.publish(contract.starting())
    old.fail(contract.starting().failed(Superseded()))
    contract.store(new, contract.CONTENT)
    new.finish(contract.starting().done(contract.uploaded(len(contract.CONTENT)), {}))
    assert pool.bucket(contract.ID).is_complete()


@pytest.mark.parametrize("name", ["letter.", "letter", "Letter", "con", "a:b", "x" * 140, "."])
def test_names_in_the_index_are_allowed_on_every_file_system(tmp_path: Path, name: str) -> None:
    """No name in a pool has a capital letter, a character that FAT or SMB refuse, or a dot at its end."""
    pool = DirectoryPool(str(tmp_path / "pool"))
    pool.index.put(("app", name), name, "text")
    for path in (tmp_path / "pool").rglob("*"):
        assert path.name == path.name.lower()
        assert not set(path.name) & set('"*/:<>?\\|')
        assert not path.name.endswith((".", " "))
    assert pool.index.get(("app", name), name) == "text"
