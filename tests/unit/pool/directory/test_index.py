"""The index of a directory pool: its folders, planted links, races and crashes."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.index import Index
from fileupload.pool.key_encoding import decode_segment, encode_segment

KEY = ("app", "Key ä")

_WORK = """
import sys
from fileupload.pool.directory.index import DirectoryIndex
index = DirectoryIndex(sys.argv[1], durable=False)
key, me = ("app", "race", "deep"), sys.argv[2]
print("begun", flush=True)
for turn in range(int(sys.argv[3])):
    name = f"{me}-{turn}"
    assert index.put(key, name, name), name
    assert index.get(key, name) == name, name
    assert name in index.names(key), name
    assert index.remove(key, name), name
    assert not index.put(key, "wanted", me, new=True) or index.remove(key, "wanted"), "wanted by several"
index.put(key, f"last-{me}")
"""


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def index(request: pytest.FixtureRequest, pool_directory: str) -> Index:
    return DirectoryPool(pool_directory, durable=request.param).index


@pytest.fixture
def root(pool_directory: str) -> Path:
    return Path(pool_directory)


def in_index(root: Path) -> list[str]:
    """Return the files and folders of the index, by their paths."""
    folder = root / ".index"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_reading_an_empty_index_creates_no_folder(index: Index, root: Path) -> None:
    """Reading an empty index creates no folder."""
    assert index.get(KEY, "a") is None
    assert index.names(KEY) == []
    assert list(index.keys(())) == []
    assert index.remove(KEY, "a") is False
    assert list(root.iterdir()) == []


def test_a_folder_is_removed_with_its_last_entry(index: Index, root: Path) -> None:
    """A folder is removed with the last entry in it or below it, and not before."""
    index.put(KEY, "a")
    index.put((*KEY, "below"), "b")
    index.put(("app", "other"), "c")
    assert index.remove(KEY, "a")
    assert index.names((*KEY, "below")) == ["b"]
    assert index.remove((*KEY, "below"), "b")
    assert in_index(root) == ["+app", "+app/+other", "+app/+other/=c"]
    assert index.remove(("app", "other"), "c")
    assert in_index(root) == []


def test_a_refused_replacement_leaves_no_temporary_file(index: Index, root: Path) -> None:
    """Putting an existing name without replacing it leaves no temporary file."""
    index.put(("app",), "a", "1")
    assert index.put(("app",), "a", "2", new=True) is False
    assert in_index(root) == ["+app", "+app/=a"]


def test_an_empty_text_replaces_another(index: Index) -> None:
    """Empty texts, which are written differently, replace other texts and are replaced by them."""
    for text in ("", "text", "", ""):
        assert index.put(KEY, "a", text)
        assert index.get(KEY, "a") == text
    assert index.put(KEY, "a", new=True) is False


def test_all_is_private(index: Index, root: Path) -> None:
    """Folders and files are accessible to the owner only."""
    index.put(KEY, "a", "text")
    for path in [root / ".index", *root.joinpath(".index").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_plain_segments_are_readable_on_disk() -> None:
    """Plain words are readable on disk; characters that a file system may change are encoded and decoded."""
    for word in ("a", "0", "-", "_x", "a.b-c_d", "x" * 140):
        assert encode_segment(word) == word
    for word in (".a", "A", "ä", "+", "~", "a b", "/", "..", "\0", "x/../y", "\ud800", "ü" * 70):
        name = encode_segment(word)
        assert name.startswith("~")
        assert name.isascii()
        assert name == name.lower()
        assert "/" not in name
        assert len(name) < 250
        assert decode_segment(name) == word


def test_random_segments_round_trip() -> None:
    """Different words have different file names, and are decoded again."""
    chance = random.Random(1)
    words = {"".join(chr(chance.choice((chance.randrange(1, 128), chance.randrange(1, 0x3000)))) for _ in range(9))
             for _ in range(2000)}  # fmt: skip
    names = {encode_segment(word): word for word in words}
    assert len(names) == len(words)
    assert all(decode_segment(name) == word for name, word in names.items())


def test_foreign_files_are_passed_over(index: Index, root: Path) -> None:
    """A foreign file whose name is not valid in the index is neither listed nor removed."""
    index.put(KEY, "a")
    (folder,) = root.joinpath(".index", "+app").iterdir()
    for name in ("x", "=~!", "+~!", ".hidden"):
        (folder / name).write_text("foreign")
    assert index.names(KEY) == ["a"]
    assert list(index.keys(())) == [KEY]
    assert index.remove(KEY, "a")
    assert sorted(path.name for path in folder.iterdir()) == ["+~!", ".hidden", "=~!", "x"]


@pytest.mark.parametrize("where", [".index", ".index/+app"])
def test_a_link_in_place_of_a_folder_is_not_followed(index: Index, root: Path, tmp_path: Path, where: str) -> None:
    """A link in place of a folder is not followed for reading, writing or removing."""
    outside = tmp_path / "outside"
    (outside / "+app" / "+key").mkdir(parents=True)
    for name in ("=a", "+app/=a", "+key/=a", "+app/+key/=a"):
        outside.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        outside.joinpath(name).write_text("outside")
    before = sorted(outside.rglob("*"))
    root.joinpath(where).parent.mkdir(parents=True, exist_ok=True)
    root.joinpath(where).symlink_to(outside)
    for key in (("app",), ("app", "key")):
        assert index.get(key, "a") is None
        assert index.names(key) == []
        assert index.remove(key, "a") is False
        with pytest.raises(OSError, match=r"\[Errno 20\]"):
            index.put(key, "b", "inside")
    assert list(index.keys(("app",))) == []
    assert sorted(outside.rglob("*")) == before


def test_a_link_or_pipe_in_place_of_a_text_is_not_read(index: Index, root: Path, tmp_path: Path) -> None:
    """A link or pipe in place of a text is not read; a new text replaces a link and not its target."""
    (tmp_path / "secret").write_text("secret")
    index.put(("app",), "x")
    folder = root / ".index" / "+app"
    (folder / "=link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "=pipe")
    assert index.get(("app",), "link") is None
    assert index.get(("app",), "pipe") is None
    assert index.put(("app",), "link", "mine", new=True) is False
    assert index.put(("app",), "link", "mine") is True
    assert index.get(("app",), "link") == "mine"
    assert (tmp_path / "secret").read_text() == "secret"


def start(root: Path, name: str, turns: int) -> subprocess.Popen[str]:
    """Start a process that puts and removes texts; return once it has begun."""
    command = [sys.executable, "-c", _WORK, str(root), name, str(turns)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.full
def test_concurrent_processes_lose_no_text_under_one_key(index: Index, root: Path) -> None:
    """While processes put and remove texts under one key and its folders come and go, no text is lost."""
    racing = [start(root, f"p{number}", 150) for number in range(3)]
    for process in racing:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "")
    assert index.names(("app", "race", "deep")) == ["last-p0", "last-p1", "last-p2"]
    for name in index.names(("app", "race", "deep")):
        assert index.remove(("app", "race", "deep"), name)
    assert in_index(root) == []


def test_concurrent_threads_do_not_remove_shared_folders(index: Index, root: Path) -> None:
    """Threads whose keys share folders do not remove each other's folders."""
    failures: list[BaseException] = []

    def work(key: tuple[str, ...]) -> None:
        try:
            for turn in range(60):
                assert index.put(key, str(turn))
                assert index.names(key) == [str(turn)]
                assert index.remove(key, str(turn))
        except BaseException as error:
            failures.append(error)

    keys = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("e",)]
    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert in_index(root) == []


@pytest.mark.full
def test_a_crash_leaves_each_text_complete_or_absent(index: Index, root: Path) -> None:
    """After kill -9 at any moment each text is complete or absent, and all can be put and removed."""
    index.put(("app", "empty"), "x")
    for turn in range(6):
        process = start(root, f"p{turn}", 1_000_000)
        time.sleep(0.01 * turn)
        process.kill()
        process.communicate()
        key = ("app", "race", "deep")
        for name in index.names(key):
            assert index.get(key, name) in {name, *(f"p{number}" for number in range(6))}
            assert index.remove(key, name)
        assert index.put(key, "mine", new=True)
        assert index.names(key) == ["mine"]
        assert index.remove(key, "mine")
        assert index.names(key) == []
