"""Output of the commands: closed pipes, full disks, missing libraries, the environment, and what is written."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fileupload import UploadManager, open_pool
from fileupload.cli.settings_command import default_text
from fileupload.errors import SettingError, TooLarge
from fileupload.pool.base import Attempt
from fileupload.settings import Settings, parse_keys
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.waiting import PATIENCE

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "fileupload"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `fileupload` in an empty folder; keywords are variables of the environment, or options of a process."""

    def call(*arguments: str, options: dict[str, Any] | None = None, **environ: str) -> Any:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FILEUPLOAD_")}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.run(
            [*COMMAND, *arguments], cwd=tmp_path, env={**inherited, **environ}, timeout=PATIENCE, check=False,
            **{**streams, **(options or {})},
        )  # fmt: skip

    return call


@pytest.fixture
def uploads(tmp_path: Path) -> UploadManager:
    """Return the manager of a pool in the folder of the commands, where they look for it."""
    return open_pool(directory=str(tmp_path / "uploads"), min_free_space=0)


def begin(uploads: UploadManager, identifier: str, started: str = "") -> tuple[Attempt, UploadStatus]:
    """Begin an upload that started at a given time."""
    status = UploadStatus(state=State.UPLOADING, started=started or timestamp(), updated=timestamp(), filename="a")
    return uploads.pool.begin(identifier[:32], status), status


def store(uploads: UploadManager, *files: tuple[str, bytes], started: str = "") -> str:
    """Store a finished upload; return its identifier."""
    identifier = uploads.create_identifier()
    attempt, status = begin(uploads, identifier, started)
    for _, content in files:
        writer = attempt.create_file()
        writer.write(content)
        writer.close()
    stored = tuple(
        UploadedFile(field="", filename=name, content_type="text/plain", size=len(content)) for name, content in files
    )
    attempt.finish(status.done(stored, {}))
    return identifier


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time of modification and content of everything below *folder*."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def without_privilege() -> None:
    """Give up the right of root to write where the modes do not allow it, with the next exec."""
    if os.geteuid() == 0:
        drop_from_bounding_set, cap_dac_override = 24, 1
        assert ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_dac_override, 0, 0, 0) == 0


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("kind", ["done", "running", "refused"])
def test_a_command_that_reads_writes_nothing(
    run: Run, uploads: UploadManager, tmp_path: Path, kind: str, writable: bool
) -> None:
    """status, ls and get leave every file and directory of a pool as it is, and need no permission to write."""
    identifier = uploads.create_identifier()
    if kind == "done":
        identifier = store(uploads, ("a.txt", b"content"))
    elif kind == "running":
        begin(uploads, identifier)[0].create_file()
    else:
        status = UploadStatus(state=State.STARTING, started=timestamp())
        uploads.pool.record_refusal(identifier[:32], status.failed(TooLarge("It is too large.")))
    folder = tmp_path / "uploads"
    directories = [path for path in [folder, *folder.rglob("*")] if path.is_dir()]
    for path in directories:
        path.chmod(0o700 if writable else 0o500)
    before = tree(folder)
    try:
        for command in (["status", identifier], ["status", identifier[:32]], ["ls"], ["get", identifier]):
            done = run(*command, options={"preexec_fn": without_privilege})
            assert "Traceback" not in done.stderr
            assert done.returncode == (1 if command[0] == "get" and kind != "done" else 0), done.stderr
        assert tree(folder) == before
    finally:
        for path in directories:
            path.chmod(0o700)


def test_a_pool_without_a_key_gets_none(run: Run, tmp_path: Path) -> None:
    """A command that reads does not create the signing key of an empty directory, nor a missing pool."""
    identifier = open_pool(directory=str(tmp_path / "other")).create_identifier()
    (tmp_path / "uploads").mkdir()
    done = run("status", identifier)
    assert (done.returncode, done.stderr) == (1, "fileupload: this identifier is not valid\n")
    assert run("ls").stdout == "The pool is empty.\n"
    assert list((tmp_path / "uploads").iterdir()) == []
    assert run("ls", "--directory", "absent").returncode == 1
    assert not (tmp_path / "absent").exists()


def test_a_closed_pipe_ends_a_command_quietly(uploads: UploadManager, tmp_path: Path) -> None:
    """`fileupload ls | head` prints no error after head has ended."""
    store(uploads, ("a.txt", b"x"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "ls"], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "arguments", [["ls"], ["ls", "--json"], ["key"], ["settings"], ["--help"], ["--version"], ["ls", "--help"]]
)
def test_a_full_disk_is_one_sentence(run: Run, uploads: UploadManager, arguments: list[str]) -> None:
    """Output that cannot be written is told in one sentence, and the exit status is not 0."""
    with open("/dev/full", "w", encoding="ascii") as full:
        done = run(*arguments, options={"stdout": full})
    assert done.returncode == 1
    assert done.stderr == "fileupload: the output cannot be written: No space left on device\n"


def test_a_file_that_does_not_fit_on_a_full_disk_is_one_sentence(run: Run, uploads: UploadManager) -> None:
    """`get` to a full disk is told in one sentence."""
    identifier = store(uploads, ("a.bin", bytes(3 << 20)))
    with open("/dev/full", "w", encoding="ascii") as full:
        done = run("get", identifier, options={"stdout": full})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.fixture
def without_libraries(tmp_path: Path) -> str:
    """Return a value of PYTHONPATH with which boto3 and redis cannot be imported."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    for name in ("boto3", "botocore", "redis", "granian"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')\n")
    return os.pathsep.join([str(folder), *filter(None, sys.path)])


@pytest.mark.parametrize(
    "command",
    [
        "serve", "identifier", "status 00000000000000000000000000000000", "ls",
        "get 00000000000000000000000000000000", "clear 00000000000000000000000000000000", "purge --older-than 1",
        "pool setup", "records gc --server http://127.0.0.1:1/v1",
    ],
)  # fmt: skip
def test_a_missing_library_is_one_sentence(run: Run, without_libraries: str, command: str) -> None:
    """Without boto3, each command says how to install it."""
    done = run(*command.split(), "--set", "pool=s3://some-bucket/pool", PYTHONPATH=without_libraries)
    assert done.returncode == 1
    assert done.stderr == "fileupload: an object store needs boto3: pip install boto3\n"


def test_a_missing_client_of_redis_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client of Redis, its setting says how to install it."""
    from fileupload.pool.object.presence import PresenceStore
    from fileupload.pool.object.redis_presence import RedisPresence

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingError, match="pip install redis"):
        RedisPresence("redis://127.0.0.1:1", "pool", PresenceStore)  # type: ignore[arg-type]


def test_the_extras_that_errors_name_exist() -> None:
    """The extras in the sentences about missing libraries are those of the package."""
    text = (Path(__file__).parents[3] / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{name}": ' in text for name in ("server", "s3", "redis", "client"))


def test_the_version_is_printed(run: Run) -> None:
    """--version prints name and version."""
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fileupload ")


def test_all_settings_are_listed_with_defaults_that_are_valid(run: Run) -> None:
    """`settings` lists each setting with a meaning, and a default that the setting itself accepts."""
    import dataclasses

    rows = {row["name"]: row for row in json.loads(run("settings", "--json").stdout)["settings"]}
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    assert rows.keys() == fields.keys()
    given = {name: row["default"] for name, row in rows.items() if row["default"]}
    assert Settings.parse(given) == Settings()
    assert (rows["max_size"]["default"], rows["max_age"]["default"]) == ("100G", "7d")
    assert (rows["idle_timeout"]["default"], rows["anonymous"]["default"]) == ("60s", "false")
    text = run("settings").stdout
    assert all(name in text and field.metadata["help"].split()[0] in text for name, field in fields.items())
    assert default_text(parse_keys, ()) == ""


def test_uploads_are_listed_by_time_under_a_header(run: Run, uploads: UploadManager) -> None:
    """`ls` has a header with aligned columns, and the oldest upload first."""
    moments = {
        "2026-01-02T00:00:00.000Z": "b.txt",
        "2026-01-01T00:00:00.000Z": "a.txt",
        "2026-01-03T00:00:00.000Z": "c",
    }
    for moment, name in moments.items():
        store(uploads, (name, b"x" * 2000), started=moment)
    header, *lines = run("ls").stdout.splitlines()
    assert header.split() == ["ID", "STATE", "SIZE", "STARTED", "NAME"]
    assert [line.split()[-1] for line in lines] == ["a.txt", "b.txt", "c"]
    for column in ("STATE", "STARTED", "NAME"):
        assert all(line[header.index(column) - 1] == " " != line[header.index(column)] for line in lines)
    listed = json.loads(run("ls", "--json").stdout)["uploads"]
    assert [each["filename"] for each in listed] == ["a.txt", "b.txt", "c"]


def test_the_status_has_the_path_of_a_file(run: Run, uploads: UploadManager, tmp_path: Path) -> None:
    """`status` tells where the files are, in a directory."""
    identifier = store(uploads, ("a.txt", b"first"), ("b.txt", b"second"))
    paths = [Path(file["path"]) for file in json.loads(run("status", identifier, "--json").stdout)["files"]]
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert all(str(path) in run("status", identifier).stdout for path in paths)


@pytest.mark.parametrize("by_id", [True, False])
def test_a_file_is_written_where_it_should_be(run: Run, uploads: UploadManager, tmp_path: Path, by_id: bool) -> None:
    """`get` writes to standard output, to a file, and into a directory."""
    content = bytes(range(256)) * 1000
    identifier = store(uploads, ("a.bin", content))
    name = identifier[:32] if by_id else identifier
    (tmp_path / "here").mkdir()
    assert run("get", name, options={"text": False}).stdout == content
    assert run("get", name, "-o", "-", options={"text": False}).stdout == content
    assert run("get", name, "-o", "copy").returncode == 0
    assert run("get", name, "--output", "here").stdout == "here/a.bin  250 KB\n"
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "here" / "a.bin").read_bytes() == content


def test_several_files_go_into_a_directory(run: Run, uploads: UploadManager, tmp_path: Path) -> None:
    """The files of an upload keep their names; of two equal names the second gets a number."""
    identifier = store(uploads, ("a.txt", b"1"), ("a.txt", b"2"), ("", b"3"), ("../../up", b"4"))
    refused = run("get", identifier)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the upload has 4 files; name an existing directory with --output" in refused.stderr
    (tmp_path / "to").mkdir()
    data = json.loads(run("get", identifier, "-o", "to/", "--json").stdout)
    written = {path.name: path.read_text() for path in (tmp_path / "to").iterdir()}
    assert written == {"a.txt": "1", "a (2).txt": "2", "file-2": "3", "up": "4"}
    assert [file["path"] for file in data["files"]] == ["to/a.txt", "to/a (2).txt", "to/file-2", "to/up"]


def test_no_file_is_replaced_unless_it_is_wanted(run: Run, uploads: UploadManager, tmp_path: Path) -> None:
    """`get` refuses to overwrite a file, or to follow a link, without --force."""
    identifier = store(uploads, ("a.txt", b"new"))
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("a", "link"):
        refused = run("get", identifier, "-o", name)
        assert (refused.returncode, refused.stderr) == (1, f"fileupload: '{name}' exists; use --force to replace it\n")
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "elsewhere").exists()
    assert run("get", identifier, "-o", "a", "--force").returncode == 0
    assert (tmp_path / "a").read_text() == "new"


def test_what_cannot_be_written_is_told(run: Run, uploads: UploadManager) -> None:
    """An unfinished upload, a directory that does not exist, and JSON on the same output are refused."""
    running = uploads.create_identifier()
    begin(uploads, running)
    finished = store(uploads, ("a", b"x"))
    for arguments, sentence in (
        ([running], "the upload is not finished, its state is"),
        ([finished, "-o", "absent/a"], "there is no directory 'absent'"),
        ([finished, "--json"], "name a file with --output"),
        (["0" * 32], "there is no upload with this identifier"),
    ):
        done = run("get", *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr


def test_a_key_comes_from_the_environment(run: Run, uploads: UploadManager, tmp_path: Path) -> None:
    """Every setting can come from the environment; an option takes precedence."""
    key, other = "a key that is long enough", "another key that is long enough"
    of_key = open_pool(directory=str(tmp_path / "uploads"), upload_key=[*key.split()])
    assert of_key.verify_identifier(run("identifier", FILEUPLOAD_UPLOAD_KEY=key).stdout.strip())
    assert not of_key.verify_identifier(run("identifier").stdout.strip())
    with_option = run("identifier", "--set", f"upload_key={other}", FILEUPLOAD_UPLOAD_KEY=key)
    assert not of_key.verify_identifier(with_option.stdout.strip())
    assert run("ls", FILEUPLOAD_DIRECTORY="absent").returncode == 1
    assert run("ls", "--directory", "uploads", FILEUPLOAD_DIRECTORY="absent").returncode == 0
    assert run("ls", "--directory", "uploads", FILEUPLOAD_POOL="s3://some-bucket/pool").returncode == 0
    assert run("ls", FILEUPLOAD_PORT="tcp://10.0.0.1:80", FILEUPLOAD_UPLOAD_KEY="").returncode == 0


def test_a_wrong_value_in_the_environment_is_told(run: Run, uploads: UploadManager) -> None:
    """An invalid value is refused with the name of its variable; a secret is not shown."""
    done = run("ls", FILEUPLOAD_MAX_SIZE="much")
    assert done.returncode == 1
    assert "environment variable FILEUPLOAD_MAX_SIZE: setting 'max_size' cannot be 'much'" in done.stderr
    done = run("ls", FILEUPLOAD_S3_SECRET_ACCESS_KEY="not a secret")
    assert "FILEUPLOAD_S3_SECRET_ACCESS_KEY" in done.stderr
    assert "not a secret" not in done.stderr


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_no_identifiers_cannot_be_created(run: Run, uploads: UploadManager, count: str) -> None:
    """The number of identifiers is at least one."""
    done = run("identifier", "--count", count)
    assert done.returncode == 2
    assert "is not a whole number of at least 1" in done.stderr
