"""The directory pool: the contract, and behaviour specific to a folder."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fileupload.errors import SettingError, TooLarge
from fileupload.pool.base import Pool
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State
from tests.support import pool_contract as contract

_CRASH_WHILE_UPLOADING = """
import os, sys
from dataclasses import replace
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State, UploadStatus
status = UploadStatus(state=State.STARTING, size=9, started=sys.argv[3], updated=sys.argv[3])
resumable = len(sys.argv) > 4
attempt = DirectoryPool(sys.argv[1]).begin(sys.argv[2], replace(status, resumable=resumable))
attempt.create_file().write(bytes(range(256)) * 4096 * 9 if resumable else b"half")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def crashed(pool: DirectoryPool) -> DirectoryPool:
    """Return a pool in which a process was killed while it filled a bucket."""
    arguments = [pool.directory, contract.ID, "2020-01-01T00:00:00.000Z"]
    done = subprocess.run([sys.executable, "-c", _CRASH_WHILE_UPLOADING, *arguments], check=False)
    assert done.returncode == -9
    return pool


@pytest.fixture
def crashed_resumable(pool: DirectoryPool) -> DirectoryPool:
    """Return a pool with a resumable upload whose process was killed."""
    arguments = [pool.directory, contract.ID, "2020-01-01T00:00:00.000Z", "resumable"]
    subprocess.run([sys.executable, "-c", _CRASH_WHILE_UPLOADING, *arguments], check=False)
    return pool


class TestDirectoryPool(contract.PoolContract):
    """The contract of pools, for the directory pool."""

    def lose_key(self, pool: Pool) -> None:
        assert isinstance(pool, DirectoryPool)
        Path(pool.directory, ".upload_key").unlink()

    def assert_no_bytes(self, pool: Pool) -> None:
        assert isinstance(pool, DirectoryPool)
        assert not [path for path in Path(pool.directory).rglob("*") if path.name.isdigit() and path.is_file()]


def test_everything_is_private(pool: DirectoryPool) -> None:
    """Folders and files are accessible to the owner only."""
    pool.signing_keys()
    contract.complete(pool)
    for path in [Path(pool.directory), *Path(pool.directory).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_finished_file_has_a_path(pool: DirectoryPool) -> None:
    """get_filename returns a path that the app can read, and None after a clear."""
    contract.complete(pool)
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    filename = bucket.get_filename()
    assert filename is not None
    assert Path(filename).read_bytes() == contract.CONTENT
    assert bucket.get_filename(1) is None
    bucket.clear_upload()
    assert bucket.get_filename() is None


def test_a_cleared_bucket_leaves_nothing(pool: DirectoryPool) -> None:
    """Clearing a bucket removes its folder."""
    contract.complete(pool)
    pool.clear(contract.ID)
    assert [path for path in Path(pool.directory).rglob("*") if path.name != contract.ID[:2]] == []


def test_a_moved_file_is_renamed(pool: DirectoryPool, tmp_path: Path) -> None:
    """Moving a file within a file system copies no bytes."""
    contract.complete(pool)
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    filename = bucket.get_filename()
    assert filename is not None
    inode = os.stat(filename).st_ino
    bucket.move_to(str(tmp_path / "target"))
    assert os.stat(tmp_path / "target").st_ino == inode


def test_a_file_moves_to_another_file_system(pool: DirectoryPool) -> None:
    """A file moved across file systems gets its name only when the copy is complete."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == os.stat(pool.directory).st_dev:
        pytest.skip("there is no second file system")
    contract.complete(pool, contract.ID, b"z" * 3_000_000)
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    target = shared_memory / f"fileupload-test-{os.getpid()}"
    try:
        bucket.move_to(str(target))
        assert target.read_bytes() == b"z" * 3_000_000
        assert bucket.get_filename() is None
        assert list(shared_memory.glob(".fileupload-test*")) == []
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"state": "done"}', b"\xff\xfe"])
def test_a_foreign_status_is_ignored(pool: DirectoryPool, content: bytes) -> None:
    """A status that the pool did not write is ignored, and a new attempt replaces it."""
    contract.complete(pool)
    (Path(pool.bucket_store(contract.ID).path_of()) / "status.json").write_bytes(content)
    assert pool.find_bucket(contract.ID) is None
    contract.complete(pool)


def planted(pool: DirectoryPool, outside: Path) -> Iterator[str]:
    """Replace each item in a finished bucket, in turn, by a link that leads outside."""
    bucket = Path(pool.bucket_store(contract.ID).path_of())
    attempt = json.loads((bucket / "status.json").read_text())["attempt"]
    for path in (bucket / attempt / "0", bucket / "status.json", bucket / attempt, bucket, bucket.parent):
        kept = path.with_name("kept")
        path.rename(kept)
        copy = outside / path.name
        kept_copy = outside / f"{path.name}-copy"
        subprocess.run(["cp", "-r", str(kept), str(kept_copy)], check=True)
        kept_copy.rename(copy)
        path.symlink_to(copy)
        yield path.name
        path.unlink()
        kept.rename(path)


def test_links_in_the_pool_are_not_followed(pool: DirectoryPool, tmp_path: Path) -> None:
    """A link in place of a file or folder of the pool is never followed."""
    contract.complete(pool)
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in planted(pool, outside):
        bucket = pool.find_bucket(contract.ID)
        assert bucket is None or bucket.get_filename() is None, name
    bucket = pool.find_bucket(contract.ID)
    assert bucket is not None
    assert contract.read(bucket) == contract.CONTENT


def test_the_remains_of_a_crash_are_purged(crashed: DirectoryPool) -> None:
    """An interrupted upload and a folder without a status are removed once they are old."""
    os.mkdir(crashed.bucket_store(contract.OTHER).path_of()[: -len(contract.OTHER)])
    os.mkdir(crashed.bucket_store(contract.OTHER).path_of())
    os.utime(crashed.bucket_store(contract.OTHER).path_of(), (0, 0))
    assert {bucket.id for bucket in crashed.purge(3600)} <= {contract.ID, contract.OTHER}
    assert list(crashed.buckets()) == []


def test_reading_the_status_does_not_renew_the_age_of_an_upload(crashed: DirectoryPool) -> None:
    """Reading the status does not renew the age of an interrupted upload."""
    bucket = crashed.find_bucket(contract.ID)
    assert bucket is not None
    assert bucket.get_status().finished == "2020-01-01T00:00:00.000Z"
    assert bucket.get_status().state is State.ERROR


def test_an_unusable_pool_folder_is_refused(tmp_path: Path) -> None:
    """A path at which no folder can be created is refused with the setting's name."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "pool"):
        with pytest.raises(SettingError, match="setting 'directory' cannot be"):
            DirectoryPool(str(path))


def refuse(pool: DirectoryPool, bucket_id: str = contract.ID) -> State:
    """Refuse an upload, and return its status afterwards."""
    pool.record_refusal(bucket_id, contract.starting().failed(TooLarge("big")))
    return pool.bucket(bucket_id).get_status().state


def test_the_register_of_refusals_has_a_fixed_size(pool: DirectoryPool) -> None:
    """Thousands of refusals use one file, whose blocks are all allocated by the first refusal."""
    assert refuse(pool) is State.ERROR
    (path,) = Path(pool.directory).iterdir()
    before = path.stat()
    for number in range(6000):
        assert refuse(pool, f"{number * 7919:08x}" + "0" * 24) is State.ERROR
    assert list(Path(pool.directory).iterdir()) == [path]
    after = path.stat()
    assert (after.st_size, after.st_blocks, after.st_ino) == (before.st_size, before.st_blocks, before.st_ino)
    assert after.st_blocks * 512 >= after.st_size == 4 << 20


def test_the_register_of_refusals_does_not_use_the_reserve(
    pool_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file would use the reserve, or cannot be created, refusals are not kept and nothing is left."""
    pool = DirectoryPool(pool_directory, min_free_space=1 << 60)
    assert refuse(pool) is State.UNKNOWN
    assert list(Path(pool.directory).iterdir()) == []

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pool = DirectoryPool(pool_directory)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert refuse(pool) is State.UNKNOWN
    assert list(Path(pool.directory).iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_link_or_pipe_in_place_of_the_register_is_not_written(
    pool: DirectoryPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A link is not written through, a pipe does not block, and no further files are created beside them."""
    made: list[object] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *arguments: made.append(arguments))
    path, outside = Path(pool.directory, ".refusals"), tmp_path / "outside"
    outside.write_bytes(bytes(4 << 20))
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert refuse(pool) is State.UNKNOWN
    assert pool.clear(contract.ID) is False
    contract.complete(pool)
    assert pool.clear(contract.ID) is True
    assert made == []
    assert outside.read_bytes() == bytes(4 << 20)
    assert [each.name for each in Path(pool.directory).iterdir() if each.name.startswith(".")] == [".refusals"]


def test_a_corrupt_refusal_is_ignored(pool: DirectoryPool) -> None:
    """A slot with any corrupt byte is ignored."""
    assert refuse(pool) is State.ERROR
    path = Path(pool.directory, ".refusals")
    slot = (int(contract.ID[:8], 16) % 4096) * 1024
    written = path.read_bytes()[slot : slot + 1024]
    length = len(written.rstrip(b"\0"))
    for at in range(length):
        torn = bytearray(written)
        torn[at] ^= 1
        with path.open("r+b") as file:
            file.seek(slot)
            file.write(torn)
        assert pool.bucket(contract.ID).get_status().state is State.UNKNOWN, at
    os.truncate(path, slot + length // 2)
    assert pool.bucket(contract.ID).get_status().state is State.UNKNOWN


def test_a_refusal_leaves_no_half_status_on_a_full_disk(pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the status of a failed upload cannot be replaced, the former one stays, without a file beside it."""
    contract.fail(pool)

    def fail(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    refusal = contract.starting().failed(TooLarge("again"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="No space"):
            pool.record_refusal(contract.ID, refusal)
    assert pool.bucket(contract.ID).get_status().error == "big"
    assert {path.name for path in Path(pool.bucket_store(contract.ID).path_of()).iterdir()} == {"status.json", "lock"}


def test_locking_a_removed_bucket_leaves_no_folder(pool: DirectoryPool) -> None:
    """Locking a bucket whose content was just removed also removes its empty folder."""
    attempt = pool.begin(contract.ID, contract.starting())
    folder = Path(pool.bucket_store(contract.ID).path_of())
    for path in (folder / "status.json", folder / "lock"):
        path.unlink()
    shutil.rmtree(folder / attempt.token)
    attempt.fail(contract.starting().failed(TooLarge("big")))
    assert not folder.exists()
    folder.mkdir()
    assert not pool.clear(contract.ID)
    assert not folder.exists()
