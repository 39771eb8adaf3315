"""PEP 3333 on every server: two validators check the middleware, one on each side of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
import requests

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Server


@pytest.fixture
def server(own_server: Server) -> Server:
    """Return a server whose log and pool hold nothing of tests in other files."""
    return own_server


def test_uploads_and_refusals_are_valid_wsgi(server: Server) -> None:
    """wsgiref.validate finds no error in front of the middleware or behind it, in any kind of request."""
    identifier, base = server.new_identifier(), server.url + "/checked/upload"
    query = {"X-Progress-ID": identifier}
    form = {"file": ("a.bin", bytes(200_000))}
    refused = requests.post(base, params=query, data={"a": "b"}, timeout=PATIENCE)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported-request")
    first = requests.post(base, params=query, files=form, timeout=PATIENCE)
    assert first.status_code == 200, first.text
    assert first.json()["stored"] == [hashlib.sha256(bytes(200_000)).hexdigest()]
    assert json.loads(first.json()["body"])["state"] == "done"
    again = requests.put(base, params=query, data=bytes(70_000), timeout=PATIENCE)
    assert (again.status_code, again.json()["code"]) == (409, "already-done")
    status = requests.get(base + "/status", params=query, timeout=PATIENCE)
    assert status.json()["state"] == "done"
    assert requests.head(base + "/status", params=query, timeout=PATIENCE).status_code == 200
    assert requests.delete(base + "/status", params=query, timeout=PATIENCE).json() == {"success": True}
    plain = requests.put(base, params=query, data=bytes(70_000), timeout=PATIENCE)
    assert plain.status_code == 200, plain.text
    assert requests.get(server.url + "/checked/", timeout=PATIENCE).status_code == 200
    log = server.log.read_text()
    assert "AssertionError" not in log
    assert "Traceback" not in log
