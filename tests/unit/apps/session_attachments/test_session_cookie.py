"""The session of a client: the session cookie with its attributes, age and keys, or a function of the environ."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookies import SimpleCookie

import pytest
from itsdangerous import TimestampSigner

from fileupload.apps.session_attachments.bundle_index import SESSIONS
from tests.support.session_client import Answer, SessionClient, SessionSite

OLD, NEW = "an-old-key-that-is-long-enough", "a-new-key-that-is-long-enough"
DAY = 86400
NAME = "fileupload_session"


def remote_user(environ: dict[str, object]) -> str | None:
    """Return the session of the logged-in user; the tests refer to this function by its dotted name."""
    user = environ.get("REMOTE_USER")
    return None if user is None else str(user)


def cookie_of(answer: Answer) -> SimpleCookie:
    cookie: SimpleCookie = SimpleCookie()
    cookie.load(answer.header("Set-Cookie") or "")
    return cookie


def signed_ago(monkeypatch: pytest.MonkeyPatch, client: SessionClient, seconds: float) -> None:
    """Give the client a cookie that was signed at a time in the past."""
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: int(time.time() - seconds))
    assert client.get("b").header("Set-Cookie")
    monkeypatch.undo()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_has_safe_attributes(client: SessionClient, scheme: str) -> None:
    """The cookie is HttpOnly, SameSite, limited to the mount, valid for two weeks, and Secure on https."""
    answer = client.put("b", "a", b"1", **{"wsgi.url_scheme": scheme})
    morsel = cookie_of(answer)[NAME]
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
    assert morsel["max-age"] == str(14 * DAY)
    assert bool(morsel["secure"]) is (scheme == "https")
    assert not morsel["domain"]


@pytest.mark.parametrize(
    ("settings", "environ", "secure", "path"),
    [
        ({"public_url": "https://www.example.com/files"}, {}, True, "/files/mount"),
        ({"public_url": "http://www.example.com"}, {"wsgi.url_scheme": "https"}, False, "/mount"),
        ({"trusted_proxies": "10.0.0.1"}, {"REMOTE_ADDR": "10.0.0.1"}, True, "/a%3Bb/mount"),
        ({"trusted_proxies": "10.0.0.1"}, {"REMOTE_ADDR": "10.0.0.2"}, False, "/mount"),
        ({}, {"REMOTE_ADDR": "127.0.0.1"}, False, "/mount"),
    ],
    ids=str,
)
def test_the_cookie_uses_the_public_scheme_and_path(
    make_site: Callable[..., SessionSite], settings: dict[str, str], environ: dict[str, str], secure: bool, path: str
) -> None:
    """The cookie is Secure if browsers use https, and limited to the path that they see."""
    forwarded = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_PREFIX": "/a;b"}
    answer = make_site(**settings).client().put("b", "a", b"1", SCRIPT_NAME="/mount", **forwarded, **environ)
    morsel = cookie_of(answer)[NAME]
    assert (bool(morsel["secure"]), morsel["path"]) == (secure, path)


def test_the_name_and_the_age_of_the_cookie_can_be_set(make_site: Callable[..., SessionSite]) -> None:
    """The name and the age of the cookie can be set; at age 0 it is a browser-session cookie."""
    client = make_site(cookie_name="letters", session_age="2h").client()
    assert cookie_of(client.get("b"))["letters"]["max-age"] == "7200"
    lasting = make_site(session_age=0).client()
    morsel = cookie_of(lasting.put("b", "a", b"1"))[NAME]
    assert (morsel["max-age"], morsel["expires"]) == ("", "")
    assert lasting.get("b").names == ["a"]


def test_a_recent_cookie_is_not_sent_again(client: SessionClient) -> None:
    """A recent cookie is not sent again."""
    assert client.get("b").header("Set-Cookie")
    assert client.put("b", "a", b"1").header("Set-Cookie") is None
    assert client.get("b").header("Set-Cookie") is None


def test_a_refused_upload_sets_a_cookie(client: SessionClient) -> None:
    """A refused upload starts a session, so that the next upload finds the same bundle."""
    assert client.send("PUT", "/attachments/b/", "filename=..", b"1").header("Set-Cookie")


def test_a_cookie_is_renewed_after_a_third_of_its_age(site: SessionSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie is signed again for the same session after a third of its age, and not before."""
    client = site.client()
    signed_ago(monkeypatch, client, 14 * DAY / 3 - 60)
    assert client.get("b").header("Set-Cookie") is None
    client.cookies.clear()
    signed_ago(monkeypatch, client, 14 * DAY / 3 + 60)
    before = client.cookies[NAME]
    assert client.put("b", "a", b"1").header("Set-Cookie")
    assert client.get("b").names == ["a"]
    assert client.cookies[NAME] != before
    assert client.cookies[NAME][:32] == before[:32]
    assert client.get("b").header("Set-Cookie") is None


def test_an_expired_cookie_is_replaced(site: SessionSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired cookie is replaced by the cookie of a new session."""
    client = site.client()
    signed_ago(monkeypatch, client, 14 * DAY + 60)
    before = client.cookies[NAME]
    assert client.get("b").header("Set-Cookie")
    assert client.cookies[NAME][:32] != before[:32]


@pytest.mark.parametrize(
    "forge",
    [
        lambda value: "",
        lambda value: "x" * 32,
        lambda value: value[:-2],
        lambda value: value + "x",
        lambda value: "0" * 32 + value[32:],
        lambda value: value.replace(".", ""),
        lambda value: "../../etc",
        lambda value: TimestampSigner(OLD, salt=b"fileupload.identifier").sign("0" * 32).decode(),
        lambda value: TimestampSigner("another key").sign(value[:32]).decode(),
    ],
)
def test_a_forged_cookie_is_replaced(make_site: Callable[..., SessionSite], forge: Callable[[str], str]) -> None:
    """A forged cookie is replaced by the cookie of a new session."""
    client = make_site(upload_key=OLD).client()
    client.put("b", "a", b"1")
    value = client.cookies[NAME]
    client.cookies[NAME] = forge(value)
    assert client.get("b").names == []
    assert client.cookies[NAME][:32] not in {value[:32], "0" * 32}


def test_an_identifier_is_not_accepted_as_a_cookie(site: SessionSite, client: SessionClient) -> None:
    """A signed upload identifier is not accepted as a session cookie."""
    client.cookies[NAME] = site.manager.create_identifier()
    assert client.get("b").header("Set-Cookie")


def test_keys_rotate(make_site: Callable[..., SessionSite]) -> None:
    """The newest key signs and all keys verify; removing a key ends its sessions."""
    old, both, new = (make_site(upload_key=keys) for keys in (OLD, [NEW, OLD], NEW))
    client = old.client()
    client.put("b", "a", b"1")
    client.site = both
    assert client.get("b").names == ["a"]
    fresh = both.client()
    fresh.put("b", "b", b"1")
    fresh.site = new
    assert fresh.get("b").names == ["b"]
    client.site = new
    assert client.get("b").names == []


def test_one_valid_cookie_is_enough(client: SessionClient) -> None:
    """A second, invalid cookie of the same name does not hide the valid one."""
    client.put("b", "a", b"1")
    ours = client.cookies[NAME]
    for jar in (f"{NAME}=planted; {NAME}={ours}", f"{NAME}={ours};{NAME}=planted", f'a; =b; {NAME}="{ours}"; \xff=c'):
        assert client.get("b", HTTP_COOKIE=jar).names == ["a"]


def test_the_index_does_not_reveal_session_cookies(site: SessionSite, client: SessionClient) -> None:
    """A reader of the pool's index cannot construct a session cookie from it."""
    client.put("b", "a", b"1")
    secret = client.cookies[NAME][:32]
    words = [word for key in site.pool.index.keys((SESSIONS,)) for word in key]
    assert words
    assert not any(secret in word for word in words)


@pytest.mark.parametrize("separator", [":", "."])
def test_a_function_named_in_the_settings_returns_the_session(
    make_site: Callable[..., SessionSite], separator: str
) -> None:
    """A function, given by its dotted name, returns the session of the environ; no session cookie is set then."""
    site = make_site(session=f"{__name__}{separator}remote_user")
    here, there = site.client(), site.client()
    assert here.put("b", "a", b"1", REMOTE_USER="ann").header("Set-Cookie") is None
    assert there.get("b", REMOTE_USER="ann").names == ["a"]
    assert there.get("b", REMOTE_USER="Ünal 🎉").names == []
    assert here.send("GET", "/b", REMOTE_USER="ann").json == ["a"]


def test_a_function_object_may_return_the_session(make_site: Callable[..., SessionSite]) -> None:
    """In Python code the function itself can be given."""
    client = make_site(session=lambda environ: environ.get("beaker.key")).client()
    assert client.put("b", "a", b"1", **{"beaker.key": "x"}).status == 200


@pytest.mark.parametrize("user", [None, ""])
def test_requests_without_a_session_are_refused(make_site: Callable[..., SessionSite], user: str | None) -> None:
    """If the function returns no session, every request is refused with a reason."""
    site = make_site(session=remote_user)
    client = site.client()
    for answer in (
        client.get("b", REMOTE_USER=user),
        client.put("b", "a", b"1", REMOTE_USER=user),
        client.post("b", ("a", b"1"), REMOTE_USER=user),
        client.delete("b", REMOTE_USER=user),
    ):
        assert answer.outcome == (403, "no-session")
    assert list(site.pool.buckets()) == []
