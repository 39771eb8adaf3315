"""``fileupload records upload`` and ``download``, run as a user runs them, with a real Kinto."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileupload.record_client.upload import record_id_of
from tests.support.kinto_site import CommandLine, KintoSite, running_site
from tests.support.waiting import PATIENCE

Names = tuple[str, ...]

ODD_NAMES = ("Übergröße – 大きな.txt", 'a "quoted" 100%;.txt', " space .txt", "weird\nname.txt", "e\u0301.txt")
# Prints the peak memory, in KiB, of a command.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
# Runs a command with a limit on the size of the files it writes.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KintoSite]:
    """Return a Kinto; each test has a collection of its own."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> CommandLine:
    """Return the commands, in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def place(site: KintoSite, request: pytest.FixtureRequest) -> Names:
    """Return the options that name a collection of this test."""
    return ("--server", site.url, "--bucket", "blog", "--collection", collection_of(request))


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> str:
    """Return the name of that collection."""
    return collection_of(request)


def collection_of(request: pytest.FixtureRequest) -> str:
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:16]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def attachment(location: str, content: bytes, filename: str = "a.txt", **others: Any) -> dict[str, Any]:
    """Return the attribute of a file at *location*."""
    return {"location": location, "filename": filename, "hash": sha256(content), "size": len(content), **others}


@pytest.fixture
def put_public(site: KintoSite, tmp_path: Path, run: CommandLine, place: Names) -> Callable[[bytes], str]:
    """Upload a file with any content; return its location."""

    def put(content: bytes) -> str:
        name = f"{sha256(content)[:8]}.txt"
        (tmp_path / name).write_bytes(content)
        server, elsewhere = place[:4], ("--collection", f"{place[5]}-files")
        answer = run.read_json("upload", *server, *elsewhere, name)
        return str(answer["files"][0]["attachment"]["location"])

    return put


@pytest.mark.parametrize("command", ["", "upload", "download", "gc", "import"])
def test_each_command_has_a_help_text(run: CommandLine, command: str) -> None:
    """--help describes the command, and shows an example."""
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "example: fileupload records" in done.stdout


def test_files_are_uploaded_into_records(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """A bucket and a collection are made, and each file gets a record whose id is derived from its name."""
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "folder/b.svg"):
        (tmp_path / name).write_text(name)
    done = run("upload", *place, "a.txt", "folder/b.svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 uploaded, 0 up to date, 0 failed\n")
    records = site.records(collection)
    assert set(records) == {record_id_of("a.txt"), record_id_of("b.svg")}
    found = records[record_id_of("b.svg")]["attachment"]
    assert (found["filename"], found["mimetype"], found["size"]) == ("b.svg", "image/svg+xml", 12)
    assert found["hash"] == sha256(b"folder/b.svg")


def test_record_ids_are_those_of_the_predecessor() -> None:
    """The id is the UUID of the MD5 of the name, so that a collection of kinto-attachment is recognized."""
    assert record_id_of("a.txt") == "a5e54d1f-d7bb-69a2-28ef-0dcd2431367e"


def test_only_changed_files_are_uploaded_again(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """A file with the hash on the server is skipped, unless forced; a changed file is sent to the same record."""
    file = tmp_path / "a.txt"
    file.write_text("one")
    run("upload", *place, "a.txt")
    first = site.only_record(collection)
    assert "0 uploaded, 1 up to date, 0 failed" in run("upload", *place, "a.txt").stdout
    assert site.only_record(collection) == first
    assert "1 uploaded, 0 up to date" in run("upload", *place, "--force", "a.txt").stdout
    assert site.only_record(collection)["attachment"]["location"] != first["attachment"]["location"]
    file.write_text("two")
    assert "1 uploaded, 0 up to date" in run("upload", *place, "a.txt").stdout
    assert site.only_record(collection)["attachment"]["hash"] == sha256(b"two")


def test_a_file_replaces_one_of_the_same_name_in_its_record(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """A file replaces one of the same name, in a record of any id and on any page of the list."""
    for name in ("r1", "r2", "r3", "r4", "r5"):
        site.write(collection, name, {"attachment": attachment("x", b"old", f"{name}.txt"), "title": name})
    (tmp_path / "r1.txt").write_text("new")
    assert run("upload", *place, "r1.txt").returncode == 0
    records = site.records(collection)
    assert len(records) == 5
    assert (records["r1"]["title"], records["r1"]["attachment"]["hash"]) == ("r1", sha256(b"new"))


def test_compressed_files_are_restored_by_a_download(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """An upload with --gzip sends less and describes the original, which downloads restore and uploads recognize."""
    content = b"the same again, " * 10_000
    (tmp_path / "long.txt").write_bytes(content)
    assert run("upload", *place, "--gzip", "long.txt").returncode == 0
    record = site.only_record(collection)
    assert record["attachment"]["filename"] == "long.txt.gz"
    assert record["attachment"]["mimetype"] == "application/x-gzip"
    assert record["attachment"]["size"] < 2000
    original = {"filename": "long.txt", "hash": sha256(content), "mimetype": "text/plain", "size": len(content)}
    assert record["original"] == original
    assert "1 downloaded" in run("download", *place, "--folder", "copy").stdout
    assert (tmp_path / "copy/long.txt").read_bytes() == content
    assert "0 downloaded, 1 up to date" in run("download", *place, "--folder", "copy").stdout
    assert "0 uploaded, 1 up to date" in run("upload", *place, "long.txt").stdout


def test_an_upload_without_gzip_removes_the_original_from_the_record(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """After an upload without --gzip, the record does not describe an original any more."""
    file = tmp_path / "a.txt"
    file.write_text("one")
    run("upload", *place, "--gzip", "a.txt")
    file.write_text("two")
    run("upload", *place, "a.txt")
    assert site.only_record(collection)["original"] is None
    run("download", *place, "--folder", "copy")
    assert (tmp_path / "copy/a.txt").read_text() == "two"


def test_an_original_of_an_older_file_is_passed_over(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path, put_public: Callable[[bytes], str]
) -> None:
    """The original of a compressed file is ignored after another client has replaced the file by a plain one."""
    attributes = {
        "attachment": attachment(put_public(b"new"), b"new", "b.txt"),
        "original": attachment("", b"old", "a.txt"),
    }
    site.write(collection, "r", attributes)
    assert run("download", *place, "--folder", "copy").returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()} == {"b.txt": "new"}
    (tmp_path / "b.txt").write_text("new")
    assert "1 up to date" in run("upload", *place, "b.txt").stdout


@pytest.mark.parametrize("content", [b"", b"\r\n--\r\n", gzip.compress(b"x", mtime=0)])
@pytest.mark.parametrize("options", [(), ("--gzip",)], ids=["plain", "gzip"])
def test_files_of_any_content_are_downloaded_unchanged(
    run: CommandLine, place: Names, tmp_path: Path, content: bytes, options: Names
) -> None:
    """Files of no bytes, with line ends, or compressed ones, are downloaded as they were uploaded."""
    (tmp_path / "a.txt").write_bytes(content)
    assert run("upload", *place, *options, "a.txt").returncode == 0
    assert run("download", *place, "--folder", "copy").returncode == 0
    assert (tmp_path / "copy/a.txt").read_bytes() == content


def test_filenames_are_encoded_as_browsers_encode_them(run: CommandLine, place: Names, tmp_path: Path) -> None:
    """Names in other scripts, with quotes or with control characters, are encoded as browsers encode them."""
    for name in ODD_NAMES:
        (tmp_path / name).write_text(name)
    assert "5 uploaded, 0 up to date, 0 failed" in run("upload", *place, *ODD_NAMES).stdout
    assert "5 downloaded" in run("download", *place, "--folder", "copy").stdout
    contents = sorted(path.read_text() for path in (tmp_path / "copy").iterdir())
    assert contents == sorted(ODD_NAMES)


def test_a_file_that_fails_does_not_stop_the_others(run: CommandLine, place: Names, tmp_path: Path) -> None:
    """A file that cannot be read, or is refused, is reported; the others are sent, and the exit status is 1."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.exe").write_text("b")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    done = run("upload", *place, "absent", "b.exe", "folder", "pipe", "a.txt")
    assert done.returncode == 1
    assert "absent: failed, No such file or directory" in done.stdout
    assert "File extension is not allowed." in done.stdout
    assert "pipe: failed, it is no regular file" in done.stdout
    assert done.stdout.endswith("1 uploaded, 0 up to date, 4 failed\n")
    answer = run.read_json("upload", *place, "a.txt", "absent")
    assert answer["summary"] == {"uploaded": 0, "up to date": 1, "failed": 1}
    assert answer["files"][1]["error"] == "No such file or directory"


@pytest.mark.parametrize(("size", "status"), [(1000, 0), (1001, 1)])
def test_a_file_above_the_limit_of_the_server_is_refused(
    run: CommandLine, site: KintoSite, tmp_path: Path, size: int, status: int
) -> None:
    """A file of one byte more than the limit is refused, with the server's message."""
    (tmp_path / "a.txt").write_bytes(b"x" * size)
    done = run("upload", "--server", site.url, "--bucket", "small", "--collection", "files", "a.txt")
    assert done.returncode == status
    assert ("the server answers 4" in done.stdout and "1000 bytes" in done.stdout) == bool(status)


def test_two_files_of_one_name_are_refused(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """Two files of one name are refused, since they would share a record, and nothing is sent."""
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "folder/a.txt"):
        (tmp_path / name).write_text(name)
    done = run("upload", *place, "a.txt", "folder/a.txt")
    assert done.returncode == 1
    assert "several files have the name 'a.txt'" in done.stderr
    assert site.request("GET", f"/buckets/blog/collections/{collection}").status_code in {403, 404}


def test_missing_write_permission_is_reported(run: CommandLine, place: Names, site: KintoSite, tmp_path: Path) -> None:
    """Without write permission, the server's answer is shown."""
    (tmp_path / "a.txt").write_text("a")
    run("upload", *place, "a.txt")
    done = run("upload", *place, "a.txt", FILEUPLOAD_KINTO_AUTH="mallory:x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the server answers 403" in done.stderr
    assert "mallory" not in done.stderr


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--server": "ftp://a.example"}, "is not a URL such as"),
        ({"--server": "http://alice:secret@a.example/v1"}, "must not contain credentials"),
        ({"--server": "http://127.0.0.1:1/v1"}, "the server cannot be reached"),
        ({"--bucket": "my blog"}, "'my blog' cannot be the id of a bucket"),
        ({"--auth": "nonsense"}, "the credentials must be user:password"),
    ],
)
def test_an_invalid_option_is_reported(
    run: CommandLine, place: Names, tmp_path: Path, changed: dict[str, str], sentence: str
) -> None:
    """A wrong option is reported in a sentence with an exit status, without a traceback or a secret."""
    options = dict(zip(place[::2], place[1::2], strict=True)) | changed
    (tmp_path / "a.txt").write_text("a")
    done = run("upload", *(word for pair in options.items() for word in pair), "a.txt")
    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_server_address_without_the_version_is_reported(run: CommandLine, place: Names, tmp_path: Path) -> None:
    """A redirect of Kinto to /v1 is an error with the correct address; no file is sent twice."""
    (tmp_path / "a.txt").write_text("a")
    server = place[1].removesuffix("/v1")
    done = run("upload", "--server", server, *place[2:], "a.txt")
    assert done.returncode == 1
    assert "such as /v1?" in done.stdout


def test_a_missing_extra_is_named(place: Names, tmp_path: Path) -> None:
    """Without kinto-http, the error names the packages to install."""
    (tmp_path / "kinto_http.py").write_text("raise ImportError('not installed')")
    command = [sys.executable, "-m", "fileupload", "records", "download", *place]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "pip install kinto-http tqdm" in done.stderr


def test_a_large_file_is_not_held_in_memory(run: CommandLine, place: Names, tmp_path: Path) -> None:
    """The upload and the download of 200 MB each use less than half of that in memory."""
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(200 << 20)
    for command in (("upload", *place, "large.txt"), ("download", *place, "--folder", "copy")):
        words = [sys.executable, "-c", MEASURE, sys.executable, "-m", "fileupload", "records", *command]
        environ = {**os.environ, "FILEUPLOAD_KINTO_AUTH": "alice:secret"}
        done = subprocess.run(
            words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True, timeout=PATIENCE * 2, check=True
        )
        status, most = map(int, done.stdout.split())
        assert status == 0
        assert most < 100 << 10


def test_a_terminal_shows_the_progress(place: Names, tmp_path: Path) -> None:
    """On a terminal an upload shows a progress bar; elsewhere (as other tests see) standard error stays empty."""
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(25 << 20)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    command = [sys.executable, "-m", "fileupload", "records", "upload", *place, "--auth", "alice:secret", "large.txt"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while data := os.read(master, 65536):
            seen += data
    except OSError:  # the end of a terminal, on Linux
        pass
    os.close(master)
    assert process.wait(PATIENCE) == 0
    assert b"%|" in seen
    assert b"/25.0M [" in seen
    assert b"B/s]" in seen
    assert seen.endswith(b"\r")
    assert seen.split(b"\r")[-2].strip() == b""


def test_only_changed_files_are_downloaded(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path
) -> None:
    """Only files whose hash differs are downloaded, and the folder has no other files."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    run("upload", *place, "a.txt", "b.txt")
    assert "2 downloaded, 0 up to date, 0 failed" in run("download", *place, "--folder", "copy").stdout
    (tmp_path / "copy/a.txt").write_text("another")
    answer = run.read_json("download", *place, "--folder", "copy")
    assert answer["summary"] == {"downloaded": 1, "up to date": 1, "failed": 0}
    assert {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()} == {
        "a.txt": "a.txt",
        "b.txt": "b.txt",
    }


def test_two_files_of_one_name_are_both_downloaded(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path, put_public: Callable[[bytes], str]
) -> None:
    """The second of two files of one name, in any case, gets a number, which is the same each time."""
    for name, filename in (("r1", "a.txt"), ("r2", "A.TXT"), ("r3", "a.txt")):
        content = name.encode()
        site.write(collection, name, {"attachment": attachment(put_public(content), content, filename)})
    assert "3 downloaded" in run("download", *place, "--folder", "copy").stdout
    found = {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()}
    assert found == {"a.txt": "r1", "A-1.TXT": "r2", "a-2.txt": "r3"}
    assert "0 downloaded, 3 up to date" in run("download", *place, "--folder", "copy").stdout


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("../../escaped.txt", "escaped.txt"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\escaped.txt", "escaped.txt"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a\x00b\x1b[2J.txt", "ab[2J.txt"),
        ("ü" * 300 + ".txt", "ü" * 98 + ".txt"),
    ],
)
def test_a_file_of_any_name_is_saved_in_the_folder(
    run: CommandLine,
    place: Names,
    site: KintoSite,
    collection: str,
    tmp_path: Path,
    put_public: Callable[[bytes], str],
    filename: str,
    expected: str,
) -> None:
    """A file of any name is saved as a plain one in the folder, not hidden and not too long."""
    site.write(collection, "r", {"attachment": attachment(put_public(b"content"), b"content", filename)})
    before = {path for path in tmp_path.rglob("*") if "copy" not in path.parts}
    done = run("download", *place, "--folder", "copy")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [expected]
    assert {path for path in tmp_path.rglob("*") if "copy" not in path.parts} == before


def test_a_link_in_the_folder_is_replaced_not_followed(
    run: CommandLine, place: Names, site: KintoSite, tmp_path: Path
) -> None:
    """A symbolic link with the name of a file is replaced, and not followed."""
    (tmp_path / "a.txt").write_text("content")
    run("upload", *place, "a.txt")
    (tmp_path / "copy").mkdir()
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "copy/a.txt").symlink_to(tmp_path / "elsewhere")
    assert run("download", *place, "--folder", "copy").returncode == 0
    assert not (tmp_path / "copy/a.txt").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "untouched"


BROKEN: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "hash": (lambda there: attachment(there, b"another"), "its hash is not that of its record"),
    "size": (lambda there: attachment(there, b"content") | {"size": 6}, "it is larger than its record says"),
    "absent": (lambda there: attachment("/files/absent.txt", b"content"), "the server answers 404 for the file"),
    "scheme": (lambda there: attachment("file:///etc/passwd", b"x"), "is not an http or https URL"),
    "no location": (lambda there: {"filename": "a.txt", "hash": "x"}, "lacks its name, location or hash"),
    "no object": (lambda there: {"filename": 1}, "lacks its name, location or hash"),
    "not compressed": (
        lambda there: attachment(there, b"content", original={"filename": "a", "hash": "x", "size": 1}),
        "it cannot be decompressed",
    ),
    "no size of the original": (
        lambda there: attachment(there, b"content", original={"filename": "a", "hash": "x"}),
        "lacks its size before it was compressed",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_download_leaves_nothing(
    run: CommandLine,
    place: Names,
    site: KintoSite,
    collection: str,
    tmp_path: Path,
    put_public: Callable[[bytes], str],
    kind: str,
) -> None:
    """A file that differs from its record is reported, an older copy stays, and the others are downloaded."""
    make, sentence = BROKEN[kind]
    there = put_public(b"content")
    site.write(collection, "r1", {"attachment": make(there)})
    site.write(collection, "r2", {"attachment": attachment(there, b"content", "good.txt")})
    site.write(collection, "r3", {"attachment": None})
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/a.txt").write_text("older")
    done = run("download", *place, "--folder", "copy")
    assert done.returncode == 1
    assert sentence in done.stdout
    assert done.stdout.endswith("1 downloaded, 0 up to date, 1 failed\n")
    assert {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()} == {
        "a.txt": "older",
        "good.txt": "content",
    }


@pytest.mark.parametrize(
    ("told", "sentence"),
    [(1 << 20, "it is larger than its record says"), (None, "lacks its size before it was compressed")],
    ids=["with a size", "without"],
)
def test_a_decompression_bomb_is_limited_to_the_recorded_size(
    place: Names,
    site: KintoSite,
    collection: str,
    tmp_path: Path,
    put_public: Callable[[bytes], str],
    told: int | None,
    sentence: str,
) -> None:
    """A decompression bomb is written only up to the size in the record; without a size, nothing is written."""
    bomb = gzip.compress(bytes(32 << 20))
    original = {"filename": "a.txt", "hash": "0" * 64, **({} if told is None else {"size": told})}
    site.write(collection, "r", {"attachment": attachment(put_public(bomb), bomb, original=original)})
    # Writing more would fail with the system's error, which has another message.
    command = [sys.executable, "-c", LIMITED, str(told or 0), sys.executable, "-m", "fileupload", "records", "download"]
    options = (*place, "--auth", "alice:secret", "--folder", "copy")
    done = subprocess.run([*command, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize(("told", "status"), [(7, 0), (6, 1)])
def test_decompressing_beyond_the_recorded_size_is_an_error(
    run: CommandLine,
    place: Names,
    site: KintoSite,
    collection: str,
    put_public: Callable[[bytes], str],
    told: int,
    status: int,
) -> None:
    """A file that decompresses to more bytes than its record states is an error."""
    packed = gzip.compress(b"content")
    original = {"filename": "a.txt", "hash": sha256(b"content"), "size": told}
    site.write(collection, "r", {"attachment": attachment(put_public(packed), packed, original=original)})
    assert run("download", *place, "--folder", "copy").returncode == status


def test_relative_locations_are_completed(
    run: CommandLine, place: Names, site: KintoSite, collection: str, tmp_path: Path, put_public: Callable[[bytes], str]
) -> None:
    """A location without a host is relative to the server's address; one with a host is used as it is."""
    there = put_public(b"content")
    host = site.url.removesuffix("/v1")
    for name, location in (("r1", there), ("r2", there.removeprefix("/files/")), ("r3", host + there)):
        site.write(collection, name, {"attachment": attachment(location, b"content", f"{name}.txt")})
    assert "3 downloaded, 0 up to date, 0 failed" in run("download", *place, "--folder", "copy").stdout
    assert [path.read_bytes() for path in (tmp_path / "copy").iterdir()] == [b"content"] * 3


def test_a_missing_collection_is_reported(run: CommandLine, place: Names, tmp_path: Path) -> None:
    """A missing collection is reported, in JSON too, and no folder is made."""
    done = run("download", *place[:4], "--collection", "absent", "--folder", "copy", "--json")
    assert done.returncode == 1
    assert "the server answers 404" in json.loads(done.stdout)["error"]
    assert not (tmp_path / "copy").exists()
