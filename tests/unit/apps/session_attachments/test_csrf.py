"""CSRF protection: cross-site requests that would change something are refused, except from trusted origins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.session_client import SessionClient, SessionSite
from tests.support.wsgi_client import Stream

OWN_ORIGIN, TRUSTED_ORIGIN, FOREIGN_ORIGIN = "https://www.example.com", "https://friend.example", "https://evil.example"
METHODS = ("POST", "PUT", "DELETE")


def change(client: SessionClient, **environ: str | None) -> tuple[int, ...]:
    """Send each kind of changing request; return the statuses."""
    given: dict[str, Any] = {"HTTP_HOST": "www.example.com", **environ}
    client.post("b", ("old", b"1"), ("older", b"1"), ("oldest", b"1"))
    return (
        client.post("b", ("a", b"1"), **given).status,
        client.put("b", "a", b"1", **given).status,
        client.delete("b", "old", **given).status,
        client.send("POST", "/attachments/b/older/delete/", **given).status,
        client.send("POST", "/attachments/b/", "identifier", **given).status,
        client.send("POST", "/attachments/b/delete/", **given).status,
        client.delete("b", **given).status,
    )


ALLOWED = (200, 200, 200, 200, 201, 200, 200)
REFUSED = (403,) * 7

MATRIX: list[tuple[str | None, str | None, tuple[int, ...]]] = [
    # Sec-Fetch-Site, Origin
    (None, None, ALLOWED),
    (None, OWN_ORIGIN, ALLOWED),
    (None, "http://www.example.com", ALLOWED),
    (None, "HTTPS://WWW.example.com", REFUSED),
    (None, FOREIGN_ORIGIN, REFUSED),
    (None, "null", REFUSED),
    (None, "", ALLOWED),
    (None, TRUSTED_ORIGIN, ALLOWED),
    (None, OWN_ORIGIN + ".evil.example", REFUSED),
    (None, "https://evilwww.example.com", REFUSED),
    (None, OWN_ORIGIN + ":8443", REFUSED),
    (None, OWN_ORIGIN + "/", REFUSED),
    (None, "https://www.example.com@evil.example", REFUSED),
    (None, "https://evil.example@www.example.com", REFUSED),
    (None, "ftp://www.example.com", REFUSED),
    (None, "https://www.example.com:x", REFUSED),
    (None, "https://[", REFUSED),
    ("same-origin", OWN_ORIGIN, ALLOWED),
    ("same-origin", None, ALLOWED),
    ("none", None, ALLOWED),
    (
        "same-origin",
        FOREIGN_ORIGIN,
        ALLOWED,
    ),  # behind a proxy that replaces the Host header; no script can set Sec-Fetch-Site
    ("same-origin", "null", ALLOWED),  # a page with Referrer-Policy: no-referrer
    ("same-origin", "", ALLOWED),
    ("none", "null", ALLOWED),
    ("none", OWN_ORIGIN, ALLOWED),
    ("same-site", "null", REFUSED),
    ("cross-site", OWN_ORIGIN, REFUSED),
    ("same-site", "https://other.example.com", REFUSED),
    ("same-site", TRUSTED_ORIGIN, ALLOWED),
    ("same-site", OWN_ORIGIN, REFUSED),
    ("cross-site", FOREIGN_ORIGIN, REFUSED),
    ("cross-site", None, REFUSED),
    ("cross-site", "null", REFUSED),
    ("cross-site", TRUSTED_ORIGIN, ALLOWED),
    ("", OWN_ORIGIN, REFUSED),
    ("new-word", OWN_ORIGIN, REFUSED),
]


@pytest.mark.parametrize(("site", "origin", "expected"), MATRIX)
def test_request_headers_decide_on_changes(
    make_site: Callable[..., SessionSite], site: str | None, origin: str | None, expected: tuple[int, ...]
) -> None:
    """The browser's request headers decide; a request without them comes from no browser, and is allowed."""
    client = make_site(trusted_origins=TRUSTED_ORIGIN).client()
    assert change(client, HTTP_SEC_FETCH_SITE=site, HTTP_ORIGIN=origin) == expected


@pytest.mark.parametrize(
    ("host", "origin", "same"),
    [
        ("a.example", "http://a.example", True),
        ("a.example", "https://a.example", True),
        ("a.example:80", "http://a.example", True),
        ("a.example:443", "https://a.example", True),
        ("a.example:8080", "http://a.example:8080", True),
        ("A.Example", "http://a.example", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("127.0.0.1", "http://127.0.0.1", True),
        ("a.example:8080", "http://a.example", False),
        ("a.example", "http://a.example:8080", False),
        ("a.example:8080", "http://a.example:8081", False),
        ("b.example", "http://a.example", False),
        ("a.example:x", "http://a.example", False),
        ("", "http://", False),
    ],
)
def test_origins_are_compared_without_scheme_and_default_port(
    client: SessionClient, host: str, origin: str, same: bool
) -> None:
    """Host and port are compared without default ports; the scheme is not, since a proxy may change it."""
    answer = client.put("b", "a", b"1", HTTP_HOST=host or None, HTTP_ORIGIN=origin)
    assert answer.status == (200 if same else 403)


def test_without_a_host_the_servers_name_counts(client: SessionClient) -> None:
    """Without a Host header, as in HTTP/1.0, the server name is used."""
    assert client.put("b", "a", b"1", HTTP_ORIGIN="http://127.0.0.1").status == 200
    assert client.put("b", "a", b"1", HTTP_ORIGIN="http://127.0.0.1:81").status == 403


PUBLIC = {"public_url": "https://www.example.com:8443/files"}
PROXY = {"trusted_proxies": "10.0.0.1"}
FORWARDED = {
    "REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "www.example.com:8443",
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "environ"), [(PUBLIC, {}), (PROXY, FORWARDED)], ids=["public_url", "trusted_proxies"]
)
@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("https://www.example.com:8443", True),
        ("http://www.example.com:8443", False),
        ("https://www.example.com", False),
        ("http://inner:8080", False),
        ("null", False),
    ],
)
def test_the_origin_is_compared_with_the_public_address(
    make_site: Callable[..., SessionSite], settings: dict[str, str], environ: dict[str, str], origin: str, same: bool
) -> None:
    """Behind a proxy, the origin is the one that browsers see, with its scheme and port, not that of the server."""
    client = make_site(**settings).client()
    answer = client.put("b", "a", b"1", HTTP_HOST="inner:8080", HTTP_ORIGIN=origin, **environ)
    assert answer.status == (200 if same else 403)


def test_a_client_cannot_choose_the_public_address(make_site: Callable[..., SessionSite]) -> None:
    """The X-Forwarded-Host of a client that is no trusted proxy makes no other origin the own one."""
    forged = {**FORWARDED, "REMOTE_ADDR": "203.0.113.9", "HTTP_X_FORWARDED_HOST": "evil.example"}
    client = make_site(**PROXY).client()
    assert client.put("b", "a", b"1", HTTP_HOST="inner:8080", HTTP_ORIGIN=FOREIGN_ORIGIN, **forged).status == 403


def test_cross_site_reads_are_allowed_without_cors(client: SessionClient) -> None:
    """A link on another site may lead to a file, but the pages of that site cannot read it."""
    client.put("b", "a", b"1")
    for environ in ({"HTTP_ORIGIN": FOREIGN_ORIGIN}, {"HTTP_SEC_FETCH_SITE": "cross-site"}):
        answer = client.get("b", "a", **environ)
        assert answer.status == 200
        assert answer.header("Access-Control-Allow-Origin") is None


def test_a_refusal_names_the_setting_and_leaves_nothing(site: SessionSite, client: SessionClient) -> None:
    """A refusal names the setting; its body is not read if nothing could interrupt the read."""
    stream = Stream([b"x" * 1000] * 20)
    answer = client.put("b", "a", stream, HTTP_ORIGIN=FOREIGN_ORIGIN, CONTENT_LENGTH="20000")
    assert answer.outcome == (403, "origin-not-allowed")
    assert "trusted_origins" in answer.json["detail"]
    assert stream.read(1) == b"x"
    assert list(site.pool.buckets()) == []


def test_a_trusted_origin_may_read_the_answers(make_site: Callable[..., SessionSite]) -> None:
    """A trusted origin can read responses and errors, with credentials; other origins cannot."""
    client = make_site(trusted_origins=TRUSTED_ORIGIN).client()
    for answer in (
        client.put("b", "a", b"1", HTTP_ORIGIN=TRUSTED_ORIGIN),
        client.get("..", HTTP_ORIGIN=TRUSTED_ORIGIN),
    ):
        assert answer.header("Access-Control-Allow-Origin") == TRUSTED_ORIGIN
        assert answer.header("Access-Control-Allow-Credentials") == "true"
        assert answer.header("Vary") == "Origin"
    for answer in (
        client.put("b", "a", b"1", HTTP_ORIGIN=FOREIGN_ORIGIN),
        client.get("b", HTTP_ORIGIN=FOREIGN_ORIGIN),
        client.get("b"),
    ):
        assert answer.header("Access-Control-Allow-Origin") is None
        assert answer.header("Access-Control-Allow-Credentials") is None
        assert answer.header("Vary") == "Origin"


def test_only_the_preflight_of_a_trusted_origin_is_allowed(make_site: Callable[..., SessionSite]) -> None:
    """A preflight from a trusted origin is allowed, another is refused; neither creates a session."""
    client = make_site(trusted_origins=TRUSTED_ORIGIN).client()
    asked = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "DELETE"}
    friend = client.send("OPTIONS", "/attachments/b/", HTTP_ORIGIN=TRUSTED_ORIGIN, **asked)
    assert (friend.status, friend.header("Access-Control-Allow-Origin")) == (204, TRUSTED_ORIGIN)
    assert friend.header("Access-Control-Allow-Credentials") == "true"
    assert "DELETE" in (friend.header("Access-Control-Allow-Methods") or "")
    assert client.send("OPTIONS", "/attachments/b/", HTTP_ORIGIN=FOREIGN_ORIGIN, **asked).outcome == (
        403,
        "origin-not-allowed",
    )
    assert client.cookies == {}
