"""Requests for records, with a real connection."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from typing import ClassVar

import pytest

from fileupload.errors import SettingError
from fileupload.record_client.server import RecordServer, authorization
from tests.support.threaded_server import running


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the last word of the path, and records the requests."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        word = self.path.rpartition("/")[2]
        if word == "nonsense":
            self.wfile.write(b"This is no HTTP.\r\n\r\n")
        elif word != "silence":
            self.send_response(307 if word == "moved" else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"<html>" if word == "page" else b'{"title": "\xc3\xbc"}')

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """Return the address of a running server."""
    Handler.asked.clear()
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address


@pytest.mark.parametrize(
    ("credentials", "value"),
    [
        ("alice:secret", "Basic YWxpY2U6c2VjcmV0"),
        ("alice:with space:", "Basic YWxpY2U6d2l0aCBzcGFjZTo="),
        ("ü:ü", "Basic w7w6w7w="),
        ("Bearer a:b", "Bearer a:b"),
        ("token:abc", "Basic dG9rZW46YWJj"),
    ],
)
def test_credentials_become_a_header(credentials: str, value: str) -> None:
    """A name and a password are sent as Basic (RFC 7617, as UTF-8), and a scheme with a token as it is."""
    assert authorization(credentials) == value


@pytest.mark.parametrize("credentials", ["alice", "", "a:b\r\nX: y", "Bearer \r\nX: y"])
def test_invalid_credentials_are_refused(credentials: str) -> None:
    """Other credentials, and those that would be two headers, are refused without being repeated."""
    with pytest.raises(SettingError, match="must be user:password") as refused:
        authorization(credentials)
    assert not credentials or credentials not in str(refused.value)


def test_a_record_is_requested_below_the_server_address(url: str) -> None:
    """The path is appended to the server's address unchanged, and the request has the credentials."""
    assert RecordServer(f"{url}/app/", "a:b").get_json("/x%20y/z") == (200, {"title": "ü"})
    assert RecordServer(url).get_json("/x") == (200, {"title": "ü"})
    assert Handler.asked == [("/app/x%20y/z", "Basic YTpi"), ("/x", None)]


def test_a_page_is_distinguished_from_a_record(url: str) -> None:
    """A page instead of a record is distinguished from a record."""
    assert RecordServer(url).get_json("/page") == (200, None)


def test_redirections_are_not_followed(url: str) -> None:
    """Redirections are not followed, so that no other server gets the credentials."""
    assert RecordServer(url, "a:b").get_json("/moved")[0] == 307
    assert len(Handler.asked) == 1


@pytest.mark.parametrize("word", ["silence", "nonsense"])
def test_no_answer_is_an_error(url: str, word: str) -> None:
    """An interrupted connection, or another protocol, raises OSError like a failed connection."""
    with pytest.raises(OSError, match="the answer is not valid HTTP"):
        RecordServer(url).get_json(f"/{word}")


def test_no_server_is_an_error() -> None:
    """A server that does not listen raises OSError."""
    with pytest.raises(OSError, match="refused"):
        RecordServer("http://127.0.0.1:1").get_json("/x")
