"""The log of a running ``fileupload serve``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE

SERVE = [sys.executable, "-m", "fileupload", "serve", "--port", "0", "--directory", "pool", "--workers", "2"]


def lines_of_one_upload(tmp_path: Path, *options: str) -> tuple[list[str], str]:
    """Run a server for one upload and one refused request; return the lines of its output, and the bucket."""
    log = tmp_path / "log"
    process = start_group([*SERVE, "--anonymous", "--max-size", "1K", *options], log, cwd=tmp_path)
    try:
        (port,) = wait_for_line(process, log, r"http://127\.0\.0\.1:(\d+)/")
        url = f"http://127.0.0.1:{port}/upload"
        identifier = requests.post(url + "/identifier", timeout=PATIENCE).json()["identifier"]
        query = {"X-Progress-ID": identifier, "filename": "a\n.txt"}
        assert requests.put(url, params=query, data=b"x" * 500, timeout=PATIENCE).status_code == 200
        assert requests.put(url, params=query, data=b"x" * 2000, timeout=PATIENCE).status_code == 413
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        stop_group(process)
    text = log.read_text()
    assert identifier not in text
    return text.splitlines(), identifier[:32]


def test_a_server_logs_its_start_its_uploads_and_its_end(tmp_path: Path) -> None:
    """The log has the pool, the limits, whether anyone may upload, each upload and refusal, and the end."""
    lines, bucket = lines_of_one_upload(tmp_path)
    start, url, done, refused, stops, stopped = lines
    assert f" the server starts host=127.0.0.1 port={url.split(':')[2].rstrip('/')} workers=2 " in start
    assert f" pool={tmp_path / 'pool'} kind=directory max_size=1024 " in start
    assert start.endswith(" anonymous=true")
    assert f" upload done bucket={bucket} files=1 size=500 " in done
    assert f" PUT upload refused: too-large bucket={bucket} client=127.0.0.1 protocol=put" in refused
    assert " the server stops; " in stops
    assert stopped.endswith(" the server has stopped")
    process_ids = {line.split("[")[1].split("]")[0] for line in (start, done)}
    assert len(process_ids) == 2


def test_a_log_for_programs_is_one_json_object_a_line(tmp_path: Path) -> None:
    """With --log-format json every line is an object, also that with the URL of the server."""
    lines, bucket = lines_of_one_upload(tmp_path, "--log-format", "json")
    objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all({"timestamp", "level", "process", "message"} <= each.keys() for each in objects)
    start, url, done, refused, _, stopped = objects
    assert (start["kind"], start["max_size"], start["anonymous"]) == ("directory", 1024, True)
    assert url["url"].endswith(f":{start['port']}/")
    assert (done["outcome"], done["bucket"], done["size"]) == ("done", bucket, 500)
    assert (refused["outcome"], refused["code"]) == ("refused", "too-large")
    assert stopped["message"] == "the server has stopped"
    assert done["process"] != start["process"]


@pytest.mark.parametrize("log_format", ["xml", ""])
def test_an_unknown_format_is_refused(tmp_path: Path, log_format: str) -> None:
    """The format of the log is one of two."""
    process = start_group([*SERVE, "--log-format", log_format], tmp_path / "log", cwd=tmp_path)
    assert process.wait(PATIENCE) == 2
    assert "choose from" in (tmp_path / "log").read_text()
