"""The URL of a request is built from any path, and only from a valid Host header."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webob import Request

from fileupload.errors import MalformedRequest
from fileupload.settings import Settings
from fileupload.wsgi.paths import to_wsgi_path
from fileupload.wsgi.urls import application_url, path_url, relative_root


def environ_of(**given: Any) -> dict[str, Any]:
    """Return the environ of a server, updated with *given*."""
    environ: dict[str, Any] = {"wsgi.url_scheme": "http", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8080"}
    return {**environ, "SCRIPT_NAME": "", "PATH_INFO": "/", **given}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8080/m/p"),
        ({"HTTP_HOST": "a.example.com"}, "http://a.example.com/m/p"),
        ({"HTTP_HOST": "a.example.com:80"}, "http://a.example.com/m/p"),
        ({"HTTP_HOST": "a.example.com:443"}, "http://a.example.com:443/m/p"),
        ({"HTTP_HOST": "a.example.com:443", "wsgi.url_scheme": "https"}, "https://a.example.com/m/p"),
        ({"HTTP_HOST": "[::1]:8080"}, "http://[::1]:8080/m/p"),
        ({"SERVER_NAME": "::1"}, "http://[::1]:8080/m/p"),
        ({"HTTP_HOST": "my_service:8080"}, "http://my_service:8080/m/p"),
    ],
    ids=str,
)
def test_the_url_of_a_request_has_the_host_without_a_default_port(given: dict[str, str], url: str) -> None:
    """The host is that of the Host header, or else the server's own; a default port is omitted."""
    environ = environ_of(SCRIPT_NAME="/m", PATH_INFO="/p", **given)
    assert path_url(environ, Settings()) == url
    assert application_url(environ, Settings()) == url.removesuffix("/p")


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "a?b", "a#b", "a@b", "a\\b", "[::1", "::1", "ü", "a\r\nX: y", "a:b", "a:123456", "x" * 300]
)
def test_an_invalid_host_is_refused(host: str) -> None:
    """A host that would change the meaning of the URL is refused."""
    with pytest.raises(MalformedRequest):
        path_url(environ_of(HTTP_HOST=host), Settings())


@given(st.text(min_size=1))
def test_a_path_gives_the_same_url_as_in_webob(path: str) -> None:
    """A path in UTF-8 gives the same URL as in WebOb."""
    environ = environ_of(SCRIPT_NAME="/m", PATH_INFO="/" + path.encode("utf-8", "replace").decode("latin-1"))
    assert path_url(environ, Settings()) == Request(environ).path_url


@given(st.binary())
def test_a_path_that_is_not_utf_8_gives_a_url(raw: bytes) -> None:
    """A path that is not UTF-8 gives a URL too."""
    assert path_url(environ_of(PATH_INFO="/" + raw.decode("latin-1")), Settings()).isascii()


@pytest.mark.parametrize(
    ("script_name", "path_info"),
    [
        ("", "/"),
        ("", "/upload"),
        ("", "/a/upload"),
        ("/m", "/upload/direct/complete"),
        ("/m", ""),
        ("/m/n", "/"),
        ("/ü", ""),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/files"])
def test_a_relative_url_resolves_to_the_root_of_the_application(script_name: str, path_info: str, prefix: str) -> None:
    """A browser resolves the relative address to the root of the application, below any prefix."""
    environ = environ_of(SCRIPT_NAME=to_wsgi_path(script_name), PATH_INFO=path_info)
    root = application_url(environ, Settings()).replace("8080", "8080" + prefix)
    assert urljoin(root + path_info, relative_root(environ)) == root + "/"
