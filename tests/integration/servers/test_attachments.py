"""Session attachments on every server, with clients that have cookie jars."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from fileupload.apps.session_attachments.bundle_index import SESSIONS
from fileupload.apps.session_attachments.bundles import remove_outdated
from tests.support.processes import kill_group
from tests.support.session_client import check_tidy
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.integration.servers.conftest import Server

START = f"curl --silent --show-error --max-time {PATIENCE} --cookie jar --cookie-jar jar"


@pytest.fixture
def server(own_server: Server) -> Server:
    """Return a server whose log and pool hold nothing of tests in other files."""
    return own_server


class AttachmentsClient:
    """A client with a cookie jar, and the addresses of a server."""

    def __init__(self, server: Server, base: str = "/attachments") -> None:
        self.session = requests.Session()
        self.url = server.url + base

    def send(self, method: str, path: str, **given: Any) -> Any:
        """Send a request, and return the JSON of its answer."""
        answer = self.session.request(method, self.url + path, timeout=PATIENCE, **given)
        assert answer.ok, f"{answer.status_code}: {answer.text}"
        return answer.json()

    def names(self, bundle: str) -> list[str]:
        return [attachment["name"] for attachment in self.send("GET", f"/{bundle}/")]


def check_pool(server: Server) -> None:
    """Check that the pool holds attachments and nothing else."""
    check_tidy(server.manager.pool, Path(server.manager.settings.directory))


def test_curl_uploads_lists_downloads_and_deletes_attachments(
    server: Server, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """curl with a cookie jar sends two files, lists, downloads and deletes them, one by one and all together."""
    require_program("curl")
    (tmp_path / "spam.txt").write_text("spam\n")
    (tmp_path / "egg.txt").write_text("egg\n")

    def curl(arguments: str) -> str:
        command = [*START.split(), *arguments.format(url=server.url + "/attachments").split()]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    sent = json.loads(curl("-F attach1=@spam.txt -F attach2=@egg.txt -X POST {url}/foo/"))
    assert [attachment["name"] for attachment in sent] == ["spam.txt", "egg.txt"]
    listed = json.loads(curl("-X GET {url}/foo/"))
    assert listed == sent
    assert [(each["mimetype"], each["size"]) for each in listed] == [("text/plain", 5), ("text/plain", 4)]
    assert curl("-X GET {url}/foo/spam.txt/") == "spam\n"
    assert json.loads(curl("-X POST {url}/foo/spam.txt/delete/")) == [True]
    assert json.loads(curl("-X POST {url}/foo/delete/")) == [[True]]
    assert json.loads(curl("{url}/foo/")) == []
    assert json.loads(curl("-T egg.txt {url}/foo/"))[0]["size"] == 4
    assert json.loads(curl("-X DELETE {url}/foo/")) == [[True]]
    check_pool(server)


@pytest.mark.parametrize("base", ["/attachments", "/checked/attachments"])
def test_attachments_work_through_the_server(server: Server, base: str) -> None:
    """Names, byte ranges, replacement, privacy and refusals work through the server as without it."""
    client, other = AttachmentsClient(server, base), AttachmentsClient(server, base)
    content = os.urandom(300_000)
    names = ["ä b.txt", "🎉", "a;b&c?d#e%2F.txt", "CON"]
    client.send("POST", "/b/", files=[(f"f{number}", (name, content)) for number, name in enumerate(names)])
    assert client.names("b") == names
    for name in names:
        address = f"{client.url}/b/{quote(name, safe='')}/"
        assert client.session.get(address, timeout=PATIENCE).content == content
        part = client.session.get(address, headers={"Range": "bytes=-10"}, timeout=PATIENCE)
        assert (part.status_code, part.content) == (206, content[-10:])
        assert client.session.head(address, timeout=PATIENCE).headers["Content-Length"] == "300000"
    assert client.send("PUT", "/b/CON/", data=b"new")[0]["size"] == 3
    assert other.send("GET", "/b/") == []
    assert other.send("DELETE", "/b/CON/") == [False]
    assert client.session.get(client.url + "/b/absent/", timeout=PATIENCE).status_code == 404
    too_large = client.session.put(client.url + "/b/x/", data=bytes((16 << 20) + 1), timeout=PATIENCE)
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too-large")
    check_pool(server)
    assert client.send("DELETE", "/b/") == [[True]] * 4
    log = server.log.read_text()
    assert "AssertionError" not in log
    assert "Traceback" not in log


def test_a_refused_cross_site_form_gets_its_answer(server: Server) -> None:
    """A page of another site that sends a large form gets its refusal, and no broken connection."""
    form = {"f": ("a.bin", bytes(4 << 20))}
    headers = {"Origin": "https://evil.example"}
    answer = requests.post(server.url + "/attachments/b/", files=form, headers=headers, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin-not-allowed")
    check_pool(server)


@pytest.mark.servers_that("streams")
def test_an_incomplete_upload_shows_progress_and_is_no_attachment(server: Server) -> None:
    """A half-sent upload shows its progress under its identifier, and is no attachment until it is complete."""
    client = AttachmentsClient(server)
    identifier = client.send("POST", "/b/?identifier")["identifier"]
    client.names("b")
    ((name, value),) = client.session.cookies.items()
    with server.open_socket() as connection:
        head = f"PUT /attachments/b/a.bin/?X-Progress-ID={identifier} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Cookie: {name}={value}\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + bytes(100_000))
        query = {"status": "", "X-Progress-ID": identifier}

        def ask() -> Any:
            return client.session.get(client.url + "/b/", params=query, timeout=PATIENCE).json()

        wait_until(lambda: ask()["state"] == "uploading")
        assert ask()["size"] == 200_000
        assert client.names("b") == []
        connection.sendall(bytes(100_000))
        assert connection.recv(12, socket.MSG_WAITALL).endswith(b" 200")
    assert client.send("GET", f"/b/?status&X-Progress-ID={identifier}")["state"] == "done"
    assert client.names("b") == ["a.bin"]
    check_pool(server)


def test_concurrent_uploads_of_the_same_names_leave_one_file_of_each(server: Server) -> None:
    """Two clients of one session that send the same names concurrently leave one complete file of each."""
    first, second = AttachmentsClient(server), AttachmentsClient(server)
    first.names("b")
    second.session.cookies.update(first.session.cookies)

    def send(client: AttachmentsClient, content: bytes) -> None:
        for _ in range(5):
            client.send("POST", "/b/", files={"f": ("one", content), "g": ("two", content)})
            client.send("PUT", "/b/three/", data=content)

    with ThreadPoolExecutor(2) as threads:
        racing = [threads.submit(send, first, b"1" * 50_000), threads.submit(send, second, b"2" * 50_000)]
        for future in racing:
            future.result(PATIENCE)
    assert sorted(first.names("b")) == ["one", "three", "two"]
    for name in first.names("b"):
        content = first.session.get(f"{first.url}/b/{name}/", timeout=PATIENCE).content
        assert content in (b"1" * 50_000, b"2" * 50_000)
    check_pool(server)


@pytest.mark.parametrize("kind", ["gunicorn", "waitress", "granian"])
def test_expiry_removes_the_remains_of_a_killed_server(start: Callable[[str], Server], kind: str) -> None:
    """After kill -9 during uploads, expiry finds all remains, and the pool is empty."""
    server = start(kind)
    client = AttachmentsClient(server)
    client.send("PUT", "/b/done/", data=b"x")
    ((name, value),) = client.session.cookies.items()
    head = "PUT /attachments/b/half/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"Cookie: {name}={value}\r\nContent-Length: 200000\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(3)]
    for connection in connections:
        connection.sendall(head.encode() + bytes(100_000))
    pool = server.manager.pool
    wait_until(lambda: not server.kind.streams or len(list(pool.buckets())) == 4)
    kill_group(server.process)
    for connection in connections:
        connection.close()

    def is_empty() -> bool:
        list(remove_outdated(pool, 0))
        return not list(pool.index.keys((SESSIONS,)))

    wait_until(is_empty)
    assert list(pool.buckets()) == []
