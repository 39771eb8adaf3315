"""Conditional requests that change attachments (RFC 9110, 13): If-Match and If-None-Match."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.session_client import Answer, SessionClient, SessionSite
from tests.support.waiting import PATIENCE
from tests.support.wsgi_client import Stream

OLD = b"old"


@pytest.fixture
def client(site: SessionSite) -> SessionClient:
    """Return a client with a file *a* in the bundle *b*."""
    client = site.client()
    assert client.put("b", "a", OLD).status == 200
    return client


def tag_of(client: SessionClient, name: str = "a") -> str:
    """Return the ETag of a file."""
    return client.get("b", name).header("ETag") or ""


# The header, its value (TAG is that of the current file), and whether the request succeeds for a file that exists.
FOR_A_FILE = [
    ("HTTP_IF_MATCH", "TAG", True),
    ("HTTP_IF_MATCH", '"other", TAG', True),
    ("HTTP_IF_MATCH", "*", True),
    ("HTTP_IF_MATCH", '"other"', False),
    ("HTTP_IF_MATCH", "W/TAG", False),
    ("HTTP_IF_MATCH", '""', False),
    ("HTTP_IF_NONE_MATCH", '"other"', True),
    ("HTTP_IF_NONE_MATCH", "*", False),
    ("HTTP_IF_NONE_MATCH", "TAG", False),
    ("HTTP_IF_NONE_MATCH", '"other", W/TAG', False),
]
FOR_NO_FILE = [
    ("HTTP_IF_MATCH", "*", False),
    ("HTTP_IF_MATCH", '"other"', False),
    ("HTTP_IF_NONE_MATCH", "*", True),
    ("HTTP_IF_NONE_MATCH", '"other"', True),
]
Send = Callable[..., Answer]
WAYS: dict[str, Callable[[SessionClient, str], Send]] = {
    "the file's address": lambda client, name: lambda **headers: client.put("b", name, b"new", **headers),
    "the bundle's address": lambda client, name: (
        lambda **headers: client.send("PUT", "/attachments/b/", f"filename={name}", b"new", **headers)
    ),
    "a form": lambda client, name: lambda **headers: client.post("b", (name, b"new"), **headers),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("header", "value", "holds"), FOR_A_FILE)
def test_a_condition_on_the_file_to_replace(
    site: SessionSite, client: SessionClient, way: str, header: str, value: str, holds: bool
) -> None:
    """If the condition holds, the file is replaced; if not, the answer is 412 and nothing of the body is kept."""
    answer = WAYS[way](client, "a")(**{header: value.replace("TAG", tag_of(client))})
    if holds:
        assert answer.status == 200
        assert client.get("b", "a").body == b"new"
    else:
        assert answer.outcome == (412, "precondition-failed")
        assert client.contents("b") == {"a": OLD}
    site.check_tidy()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("header", "value", "holds"), FOR_NO_FILE)
def test_a_condition_on_a_new_file(
    site: SessionSite, client: SessionClient, way: str, header: str, value: str, holds: bool
) -> None:
    """If-None-Match: * creates a file, and If-Match creates none."""
    answer = WAYS[way](client, "new")(**{header: value})
    assert answer.status == (200 if holds else 412)
    assert ("new" in client.contents("b")) is holds
    site.check_tidy()


def test_each_file_of_a_form_must_meet_the_condition(site: SessionSite, client: SessionClient) -> None:
    """If one of them does not, the form is refused with all its files."""
    assert client.post("b", ("new", b"1"), ("a", b"new"), HTTP_IF_NONE_MATCH="*").status == 412
    assert client.contents("b") == {"a": OLD}
    assert client.post("b", ("1", b"1"), ("2", b"2"), HTTP_IF_NONE_MATCH="*").names == ["1", "2"]
    site.check_tidy()


@pytest.mark.parametrize("address", ["file", "form"])
@pytest.mark.parametrize(("header", "value", "holds"), FOR_A_FILE)
def test_a_condition_on_the_file_to_remove(
    client: SessionClient, address: str, header: str, value: str, holds: bool
) -> None:
    """The same holds for DELETE, and for the address that forms use."""
    headers = {header: value.replace("TAG", tag_of(client))}
    if address == "file":
        answer = client.delete("b", "a", **headers)
    else:
        answer = client.send("POST", "/attachments/b/a/delete/", **headers)
    assert answer.status == (200 if holds else 412)
    assert client.contents("b") == ({} if holds else {"a": OLD})


def test_a_condition_on_a_file_that_is_not_there(client: SessionClient) -> None:
    """A DELETE of a missing file is refused with If-Match, and without it answers that nothing was removed."""
    assert client.delete("b", "none", HTTP_IF_MATCH="*").status == 412
    assert client.delete("b", "none", HTTP_IF_NONE_MATCH="*").json == [False]


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_a_condition_on_a_bundle(client: SessionClient, method: str) -> None:
    """A bundle has no entity tag, and exists while it has files."""
    path = "/attachments/b/" if method == "DELETE" else "/attachments/b/delete/"
    for headers in ({"HTTP_IF_MATCH": tag_of(client)}, {"HTTP_IF_NONE_MATCH": "*"}):
        assert client.send(method, path, **headers).status == 412
    assert client.send(method, path, HTTP_IF_MATCH="*").json == [[True]]
    assert client.send(method, path, HTTP_IF_MATCH="*").status == 412


@pytest.mark.parametrize("value", ["abc", '"a', "*, *", "'a'", '"a" "b"', '"' + "a" * 9000 + '"'])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_malformed_condition_is_refused(client: SessionClient, header: str, value: str) -> None:
    """To ignore it could overwrite what it protects, so the answer is 400 and names the header."""
    headers = {"HTTP_" + header.upper().replace("-", "_"): value}
    for answer in (client.put("b", "a", b"new", **headers), client.delete("b", "a", **headers)):
        assert answer.status == 400
        assert header in answer.json["detail"]
    assert client.contents("b") == {"a": OLD}


def test_the_answer_to_a_put_has_the_tag_of_the_file(client: SessionClient) -> None:
    """A client may replace its file again without a GET in between; a second client with the old tag may not."""
    before = tag_of(client)
    answer = client.put("b", "a", b"second", HTTP_IF_MATCH=before)
    assert answer.header("ETag") == tag_of(client) != before
    assert client.put("b", "a", b"third", HTTP_IF_MATCH=answer.header("ETag")).status == 200
    assert client.put("b", "a", b"lost", HTTP_IF_MATCH=before).status == 412


@pytest.mark.parametrize("checksum", ["sha256", "none"])
def test_tags_without_checksums(make_site: Callable[..., SessionSite], checksum: str) -> None:
    """Conditions hold with and without checksums."""
    client = make_site(checksum=checksum).client()
    client.put("b", "a", OLD)
    tag = tag_of(client)
    assert client.put("b", "a", b"new", HTTP_IF_MATCH=tag).status == 200
    assert client.put("b", "a", b"newer", HTTP_IF_MATCH=tag).status == 412


def test_an_identifier_tells_of_the_refusal(site: SessionSite, client: SessionClient) -> None:
    """A client that polls the status of its upload reads why it was refused, before any byte was stored."""
    identifier = site.manager.create_identifier()
    assert client.put("b", "a", bytes(100_000), identifier, HTTP_IF_NONE_MATCH="*").status == 412
    status = site.manager.get_status(identifier)
    assert (status.code, status.received) == ("precondition-failed", 0)


def test_a_file_that_changes_while_the_body_arrives(site: SessionSite, client: SessionClient) -> None:
    """The condition is checked again when the body is complete."""
    begun, go_on = threading.Event(), threading.Event()

    def pieces() -> object:
        yield b"a"
        begun.set()
        assert go_on.wait(PATIENCE)
        yield b"b"

    tag = tag_of(client)
    with ThreadPoolExecutor(1) as threads:
        body = Stream(pieces())  # type: ignore[arg-type]
        future = threads.submit(client.put, "b", "a", body, CONTENT_LENGTH="2", HTTP_IF_MATCH=tag)
        assert begun.wait(PATIENCE)
        assert client.put("b", "a", b"meanwhile").status == 200
        go_on.set()
        assert future.result(PATIENCE).outcome == (412, "precondition-failed")
    assert client.contents("b") == {"a": b"meanwhile"}
    site.check_tidy()


@pytest.mark.parametrize("header", ["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"])
def test_of_several_with_the_same_condition_at_most_one_succeeds(
    site: SessionSite, client: SessionClient, header: str
) -> None:
    """Clients that replace one version, or create one file, at the same time never overwrite each other."""
    for turn in range(6):
        name = "a" if header == "HTTP_IF_MATCH" else f"new-{turn}"
        value = tag_of(client) if header == "HTTP_IF_MATCH" else "*"
        barrier = threading.Barrier(4)
        # No content comes twice: a file that is replaced by an equal one keeps its tag, and the condition holds again.
        contents = [b"%d-%d " % (turn, number) * 100 for number in range(4)]

        def send(content: bytes, name: str = name, value: str = value, barrier: threading.Barrier = barrier) -> int:
            other = site.client()
            other.cookies = dict(client.cookies)
            barrier.wait(PATIENCE)
            return other.put("b", name, content, **{header: value}).status

        with ThreadPoolExecutor(4) as threads:
            statuses = list(threads.map(send, contents))
        assert set(statuses) <= {200, 412}
        assert statuses.count(200) <= 1
        if 200 in statuses:
            assert client.get("b", name).body == contents[statuses.index(200)]
        site.check_tidy()
