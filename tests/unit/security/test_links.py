"""Links planted in the pool: they are refused, and their targets are neither read, changed nor removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.wsgi_client import Stream, UploadSite

SECRET = "a secret outside the pool"


@dataclass
class Trap:
    """A site, and a folder outside its pool that links point to."""

    site: UploadSite
    outside: Path

    def bucket(self, identifier: str) -> Path:
        return self.site.directory / identifier[:2] / identifier[:32]

    def attempt(self, identifier: str) -> Path:
        return next(path for path in self.bucket(identifier).iterdir() if len(path.name) == 16)

    def finished(self) -> str:
        identifier = self.site.identifier()
        assert self.site.put(b"content", identifier).status == 200
        return identifier


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    """Yield a trap, and check after the test that the folder outside is unchanged."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("0", "status.json", "lock", "alive", "secret"):
        (outside / name).write_text(SECRET)
    before = {path: path.stat().st_mtime_ns for path in [outside, *outside.iterdir()]}
    yield Trap(UploadSite(tmp_path / "pool", downloads=True), outside)
    assert {path: path.stat().st_mtime_ns for path in [outside, *outside.iterdir()]} == before
    assert {path.read_text() for path in outside.iterdir()} == {SECRET}


def replace_by_link(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def assert_nothing_is_shown(trap: Trap, identifier: str) -> None:
    """Check that no request returns a byte from outside, or ends in an internal error."""
    site = trap.site
    bucket = site.manager.access_upload_bucket(identifier)
    if bucket is not None:
        assert bucket.get_filename() is None
        with pytest.raises(FileNotFoundError):
            bucket.open()
        with pytest.raises(FileNotFoundError):
            bucket.move_to(str(trap.site.directory / "moved"))
    for path in ("/upload", "/upload/status"):
        answer = site.send("GET", path, f"X-Progress-ID={identifier}")
        assert SECRET.encode() not in answer.body
        assert answer.status in {200, 404}


@pytest.mark.parametrize("level", ["shard", "bucket"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_link_in_place_of_a_folder_is_not_followed(trap: Trap, level: str, existing: bool) -> None:
    """Behind a link in place of a shard or bucket, nothing is stored, shown or removed."""
    site = trap.site
    identifier = trap.finished() if existing else site.identifier()
    path = trap.bucket(identifier)
    path = path.parent if level == "shard" else path
    path.parent.mkdir(exist_ok=True)
    target = trap.outside
    if level == "shard":
        (trap.outside.parent / "shard").mkdir()
        (trap.outside.parent / "shard" / identifier[:32]).symlink_to(trap.outside)
        target = trap.outside.parent / "shard"
    replace_by_link(path, target)
    assert site.put(b"new", identifier).outcome == (500, "storage-failed")
    assert site.status(identifier)["state"] == "unknown"
    assert_nothing_is_shown(trap, identifier)
    answer = site.send("DELETE", "/upload/status", f"X-Progress-ID={identifier}")
    assert answer.status in {200, 500}
    assert list(site.manager.pool.purge(0)) == []
    assert path.is_symlink()


def test_a_link_in_place_of_an_attempt_is_not_followed(trap: Trap) -> None:
    """Files behind a link in place of an attempt are not served, and clearing removes only the link."""
    identifier = trap.finished()
    replace_by_link(trap.attempt(identifier), trap.outside)
    assert_nothing_is_shown(trap, identifier)
    assert trap.site.manager.clear_upload_bucket(identifier)
    assert not trap.bucket(identifier).exists()


@pytest.mark.parametrize("kind", ["link", "broken link", "folder", "pipe"])
def test_a_link_folder_or_pipe_in_place_of_a_file_is_not_served(trap: Trap, kind: str) -> None:
    """A link, folder or named pipe in place of a file is not served, and does not block a request."""
    identifier = trap.finished()
    path = trap.attempt(identifier) / "0"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(trap.outside / ("0" if kind == "link" else "nothing"))
    assert_nothing_is_shown(trap, identifier)
    assert trap.site.manager.clear_upload_bucket(identifier)


@pytest.mark.parametrize("name", ["status.json", "status.json.new"])
def test_a_link_in_place_of_the_status_is_not_followed(trap: Trap, name: str) -> None:
    """A link in place of the status is neither read nor written through: the next upload replaces it, or fails."""
    identifier = trap.site.identifier()
    trap.bucket(identifier).mkdir(parents=True)
    (trap.bucket(identifier) / name).symlink_to(trap.outside / "status.json")
    assert_nothing_is_shown(trap, identifier)
    answer = trap.site.put(b"new", identifier)
    assert answer.status == 200 or answer.outcome == (500, "storage-failed")
    trap.site.manager.clear_upload_bucket(identifier)


@pytest.mark.parametrize("target", ["lock", "nothing"])
def test_a_link_in_place_of_the_lock_is_not_followed(trap: Trap, target: str) -> None:
    """A lock is not taken, created or truncated behind a link."""
    identifier = trap.site.identifier()
    trap.bucket(identifier).mkdir(parents=True)
    (trap.bucket(identifier) / "lock").symlink_to(trap.outside / target)
    assert trap.site.put(b"new", identifier).outcome == (500, "storage-failed")
    answer = trap.site.send("DELETE", "/upload/status", f"X-Progress-ID={identifier}")
    assert answer.status in {200, 500}


@pytest.mark.parametrize("name", ["0", "alive", "progress.json", "progress.json.new"])
def test_a_link_planted_during_an_upload_is_not_written_through(trap: Trap, name: str) -> None:
    """Links in the folder of a running attempt are replaced or refused, and never written through."""
    site = trap.site
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        replace_by_link(trap.attempt(identifier) / name, trap.outside / ("alive" if name == "alive" else "secret"))
        site.status(identifier)
        yield b"second"

    assert site.put(Stream(pieces()), identifier).status in {200, 500}
    assert_nothing_is_shown_or_all_is_there(trap, identifier)


def assert_nothing_is_shown_or_all_is_there(trap: Trap, identifier: str) -> None:
    bucket = trap.site.manager.access_upload_bucket(identifier)
    if bucket is not None and bucket.is_complete() and bucket.get_filename():
        assert trap.site.contents(identifier) == [b"firstsecond"]
    else:
        assert_nothing_is_shown(trap, identifier)


def test_links_inside_an_attempt_are_removed_and_not_followed(trap: Trap) -> None:
    """Clearing a bucket removes the links in it without following them."""
    identifier = trap.finished()
    (trap.attempt(identifier) / "link").symlink_to(trap.outside)
    (trap.bucket(identifier) / "other").symlink_to(trap.outside)
    assert trap.site.manager.clear_upload_bucket(identifier)
    assert not trap.bucket(identifier).exists()


@pytest.mark.parametrize("name", ["../../../outside", "/etc", "..", "."])
def test_a_planted_status_cannot_name_files_outside_its_bucket(trap: Trap, name: str) -> None:
    """A planted status cannot point to files outside its bucket."""
    identifier = trap.finished()
    status = trap.bucket(identifier) / "status.json"
    token = trap.attempt(identifier).name
    status.write_text(status.read_text().replace(token, name))
    shutil.rmtree(trap.bucket(identifier) / token)
    assert_nothing_is_shown(trap, identifier)
