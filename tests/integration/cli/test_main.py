"""The command line, run as a user runs it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webtest

from fileupload import UploadManager
from fileupload.deploy import make_server_app
from fileupload.settings import Settings
from tests.support.commands import run_command

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `fileupload` in an empty folder."""

    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, folder=tmp_path, environ={**os.environ, **environ})

    return call


@pytest.fixture
def server(pool_directory: str) -> Any:
    """Return the app of a server in this process, over the pool that the commands read."""
    return make_server_app(Settings.parse({"directory": pool_directory, "max_size": "1K"}))


@pytest.fixture
def uploads(server: Any) -> UploadManager:
    manager: UploadManager = server.manager
    return manager


def put(server: Any, identifier: str, body: bytes = b"content") -> None:
    webtest.TestApp(server).put(f"/upload?X-Progress-ID={identifier}&filename=a.txt", body, expect_errors=True)


@pytest.mark.parametrize(
    "command",
    ["", "serve", "key", "identifier", "status", "ls", "get", "settings", "clear", "purge", "attachments purge"],
)
def test_each_command_has_a_help_text(run: Run, command: str) -> None:
    """--help says what a command does, and shows an example."""
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "example: fileupload" in done.stdout


def test_a_command_is_needed(run: Run) -> None:
    """Without a command, the usage is printed, and the exit status is that of a usage error."""
    done = run()
    assert done.returncode == 2
    assert "usage: fileupload" in done.stderr


def test_keys_are_made(run: Run) -> None:
    """`key` prints a valid key, a different one each time."""
    first, second = run("key").stdout.strip(), json.loads(run("key", "--json").stdout)["key"]
    assert first != second
    assert len(first) >= 43


def test_identifiers_are_made_for_a_pool(run: Run, uploads: UploadManager, pool_directory: str) -> None:
    """`identifier` prints an identifier that is valid for that pool, with the requested claims."""
    done = run("identifier", "--directory", pool_directory, "--max-size", "5b", "--max-age", "1h")
    claims = uploads.verify_for_upload(done.stdout.strip())
    assert claims.max_size == 5
    several = json.loads(run("identifier", "--directory", pool_directory, "--count", "3", "--json").stdout)
    assert len({uploads.verify_for_upload(identifier).id for identifier in several["identifiers"]}) == 3
    wrong = run("identifier", "--directory", pool_directory, "--max-size", "much")
    assert wrong.returncode == 1
    assert "a size of 0 or more" in wrong.stderr


def test_status_accepts_an_identifier_or_a_bucket_id(
    run: Run, server: Any, uploads: UploadManager, pool_directory: str
) -> None:
    """`status` accepts the identifier, or the id that `ls` shows."""
    identifier = uploads.create_identifier()
    put(server, identifier)
    spoken = run("status", identifier, FILEUPLOAD_DIRECTORY=pool_directory)
    assert spoken.returncode == 0
    assert "done: a.txt, 7 bytes of 7 bytes" in spoken.stdout
    listed = json.loads(run("ls", "--json", "--directory", pool_directory).stdout)["uploads"]
    data = json.loads(run("status", listed[0]["id"], "--json", "--directory", pool_directory).stdout)
    assert (data["state"], data["size"]) == ("done", 7)


def test_status_reports_the_reason_of_a_failure(
    run: Run, server: Any, uploads: UploadManager, pool_directory: str
) -> None:
    """`status` gives the reason of a failed upload."""
    identifier = uploads.create_identifier()
    put(server, identifier, b"x" * 2000)
    assert "At most 1 KB" in run("status", identifier, "--directory", pool_directory).stdout


def test_errors_are_printed_and_set_the_exit_status(run: Run, uploads: UploadManager, pool_directory: str) -> None:
    """Errors are printed on standard error, as JSON on request, and the exit status is not 0."""
    for arguments, sentence in (
        (("status", uploads.create_identifier()), "there is no upload with this identifier"),
        (("clear", "x" * 32), "this identifier is not valid"),
        (("status", "0" * 32), "there is no upload"),
    ):
        done = run(*arguments, "--directory", pool_directory)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert sentence in json.loads(run(*arguments, "--json", "--directory", pool_directory).stdout)["error"]
    absent = run("ls", "--directory", "absent")
    assert absent.returncode == 1
    assert "there is no pool in 'absent'" in absent.stderr
    assert "unknown setting 'max_sise'; did you mean 'max_size'?" in run("ls", "--set", "max_sise=1").stderr


def test_uploads_are_listed_cleared_and_purged(
    run: Run, server: Any, uploads: UploadManager, pool_directory: str
) -> None:
    """`ls` lists the uploads, `clear` removes one, `purge` the old ones, and a dry run none."""
    assert "The pool is empty." in run("ls", "--directory", pool_directory).stdout
    first, second = uploads.create_identifier(), uploads.create_identifier()
    put(server, first)
    put(server, second)
    listing = run("ls", "--directory", pool_directory).stdout
    assert listing.count("a.txt") == 2
    assert first not in listing
    assert run("clear", first, "--directory", pool_directory).returncode == 0
    assert uploads.access_upload_bucket(first) is None
    assert "0 uploads removed." in run("purge", "--older-than", "3", "--directory", pool_directory).stdout
    dry = run("purge", "--older-than", "0s", "--dry-run", "--json", "--directory", pool_directory)
    assert json.loads(dry.stdout) == {"removed": [second[:32]], "dry-run": True}
    assert uploads.access_upload_bucket(second) is not None
    assert "1 upload removed." in run("purge", "--older-than", "0s", "--directory", pool_directory).stdout
    assert uploads.access_upload_bucket(second) is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-size", "much"], "setting 'max_size' cannot be 'much'"),
        (["--set", "durable=maybe"], "setting 'durable' cannot be 'maybe'; it must be true or false"),
        (["--set", "durable"], "'durable' is not NAME=VALUE"),
        (["--threads", "0"], "'0' is not a whole number of at least 1"),
        (["--port", "70000"], "'70000' is not a port from 0 to 65535"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
        (["--cors-origin", "a.example"], "setting 'cors_origins'"),
        (["--set", "upload_url=https://a.example/"], "setting 'upload_url' belongs to the apps"),
        (["absent.ini"], "there is no file 'absent.ini'"),
    ],
)
def test_an_invalid_option_stops_the_start_of_the_server(run: Run, arguments: list[str], sentence: str) -> None:
    """A wrong option is reported with the valid values before the server listens."""
    done = run("serve", *arguments)
    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_reported(run: Run) -> None:
    """A second server on a port that is in use fails with an error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
