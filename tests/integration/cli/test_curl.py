"""Uploads by curl to ``fileupload serve``, with and without ``--anonymous``, and the commands of README.txt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import kill_group, start_group, wait_for_line
from tests.support.waiting import PATIENCE

README = Path(__file__).parents[3] / "README.txt"
Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Serve]:
    """Start ``fileupload serve`` with options; return its address."""
    require_program("curl")
    processes: list[subprocess.Popen[bytes]] = []

    def run(*options: str) -> str:
        log = tmp_path / "log"
        fixed = ("--port", "0", "--workers", "1", "--directory", str(tmp_path / "pool"))
        processes.append(start_group([sys.executable, "-m", "fileupload", "serve", *fixed, *options], log))
        return wait_for_line(processes[-1], log, r"(http://127\.0\.0\.1:\d+)/")[0]

    yield run
    for process in processes:
        kill_group(process)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(5 << 20))
    return path


def curl(*arguments: object) -> tuple[int, str]:
    """Run curl; return the status and the body of the answer."""
    command = ["curl", "-sS", "-w", "%{response_code}", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return int(done[-3:]), done[:-3]


def test_an_anonymous_upload_needs_no_identifier(serve: Serve, file: Path) -> None:
    """On a server for anyone, a form and a PUT need no identifier; the answer has one, and ends the line."""
    url = serve("--anonymous")
    for arguments in (("-F", f"file=@{file}", f"{url}/upload"), ("-T", file, f"{url}/upload?filename=x")):
        status, body = curl(*arguments)
        assert (status, body[-2:]) == (200, "}\n")
        descriptor = json.loads(body)
        assert (descriptor["state"], descriptor["filename"], descriptor["size"]) == ("done", "x", 5 << 20)
        status, body = curl(f"{url}/upload/status?X-Progress-ID={descriptor['identifier']}")
        assert json.loads(body)["sha256"] == descriptor["sha256"]
    assert curl("--data-binary", f"@{file}", f"{url}/upload")[0] == 415


def test_a_missing_identifier_is_explained(serve: Serve, file: Path) -> None:
    """On another server, curl gets the sentence that says how to get one, though it has sent a large body."""
    url = serve()
    for arguments in (("-F", f"file=@{file}"), ("-T", file), ("-d", "x"), ("-H", "Expect:", "-F", f"file=@{file}")):
        status, body = curl(*arguments, f"{url}/upload")
        assert (status, json.loads(body)["code"]) == (403, "identifier-required")


def test_an_identifier_can_be_requested_as_text(serve: Serve) -> None:
    """As text, the identifier is one line, which a shell can put into a variable."""
    url = serve("--anonymous")
    status, body = curl("-X", "POST", "-H", "Accept: text/plain", f"{url}/upload/identifier")
    assert (status, len(body.splitlines()), body[-1]) == (201, 1, "\n")
    assert curl("-d", "x", "-X", "PUT", f"{url}/upload?X-Progress-ID={body.strip()}")[0] == 200


def test_the_commands_of_the_readme_work(serve: Serve) -> None:
    """The commands in "Upload with curl" run as they are, one block after the other, and each upload is done."""
    url = serve("--anonymous")
    section = README.read_text().partition("\nUpload with curl\n")[2].partition("\n\n\n")[0]
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", section + "\n")
    script = "\n".join(textwrap.dedent(block) for block in blocks).replace("http://127.0.0.1:8080", url)
    script = script.replace("curl -X DELETE", "wait; curl -X DELETE")  # the upload in the background
    assert script.count("curl") >= 6
    told = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=README.parent, check=True, capture_output=True, text=True, timeout=PATIENCE,
    ).stdout  # fmt: skip
    states = [json.loads(line).get("state") for line in told.splitlines()]
    assert states.count("done") >= 3
    assert "error" not in states
    assert json.loads(told.splitlines()[-1])["filename"] == "README.txt"
