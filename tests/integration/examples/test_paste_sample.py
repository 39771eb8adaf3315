"""paste.ini.sample under Pyramid's pserve, by the command in its first lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.integration.examples.conftest import Launch
from tests.support.waiting import PATIENCE

SAMPLE = Path(__file__).parents[3] / "paste.ini.sample"


def test_pserve_runs_the_sample(tmp_path: Path, launch: Launch, need: Callable[..., Any]) -> None:
    """The command for pserve in the comment of the sample starts the middleware, which receives an upload."""
    need("pyramid", "plaster_pastedeploy", "gunicorn")
    text = SAMPLE.read_text()
    command = re.search(r"^#  +pserve (\S+)  ", text, re.MULTILINE)
    assert command
    (tmp_path / SAMPLE.name).write_text(text.replace("port = 8080", "port = 0"))
    url = launch(("-m", "pyramid.scripts.pserve", command[1]), tmp_path)
    identifier = requests.post(f"{url}/upload/identifier", timeout=PATIENCE).json()["identifier"]
    query = {"X-Progress-ID": identifier, "filename": "a"}
    requests.put(f"{url}/upload", b"bytes", params=query, timeout=PATIENCE)
    status = requests.get(f"{url}/upload/status", params=query, timeout=PATIENCE).json()
    assert (status["state"], status["size"]) == ("done", 5)
