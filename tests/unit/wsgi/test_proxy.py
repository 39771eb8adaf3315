"""The public address of a request and its client: trusted proxies report them, and no other client can."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.errors import SettingError
from fileupload.settings import Settings
from fileupload.wsgi.proxy import LOOPBACK, client_address, public_address, trusting_by_default
from fileupload.wsgi.urls import application_url, path_url

PROXY, SECOND_PROXY, CLIENT, SPOOFED = "10.0.0.1", "10.0.0.2", "203.0.113.9", "198.51.100.66"
TRUSTING = Settings.parse({"trusted_proxies": "10.0.0.0/8, ::1"})


def environ_of(peer: str = PROXY, script_name: str = "", **headers: str) -> dict[str, Any]:
    """Return the environ of a request from *peer*; ``X_Forwarded_For`` is the header of that name."""
    return {
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SCRIPT_NAME": script_name,
        "PATH_INFO": "/upload",
        "REMOTE_ADDR": peer,
        "HTTP_HOST": "inner:8080",
        **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({}, "http://inner:8080/upload"),
        ({"X_Forwarded_Proto": "https"}, "https://inner:8080/upload"),
        ({"Host": "a.example", "X_Forwarded_Proto": "HTTPS"}, "https://a.example/upload"),
        ({"X_Forwarded_Host": "a.example"}, "http://a.example/upload"),
        ({"X_Forwarded_Host": "a.example:8443", "X_Forwarded_Proto": "https"}, "https://a.example:8443/upload"),
        ({"X_Forwarded_Host": "a.example:443", "X_Forwarded_Proto": "https"}, "https://a.example/upload"),
        ({"X_Forwarded_Host": "[2001:db8::1]", "X_Forwarded_Port": "81"}, "http://[2001:db8::1]:81/upload"),
        ({"Host": "a.example", "X_Forwarded_Port": "8443"}, "http://a.example:8443/upload"),
        ({"Host": "a.example", "X_Forwarded_Port": "443", "X_Forwarded_Proto": "https"}, "https://a.example/upload"),
        ({"X_Forwarded_Host": "a.example:8443", "X_Forwarded_Port": "443"}, "http://a.example:8443/upload"),
        ({"X_Forwarded_Prefix": "/files/"}, "http://inner:8080/files/upload"),
        ({"X_Forwarded_Prefix": "/a/b%20c"}, "http://inner:8080/a/b%20c/upload"),
        ({"Forwarded": "proto=https;host=a.example"}, "https://a.example/upload"),
        ({"Forwarded": 'for=192.0.2.1;Proto="https"; HOST="a.example:8443"'}, "https://a.example:8443/upload"),
        ({"Forwarded": r'host="a\.example";proto=https'}, "https://a.example/upload"),
        ({"Forwarded": "for=192.0.2.1;host=a.example:81"}, "http://a.example:81/upload"),
        ({"Forwarded": "proto=https", "X_Forwarded_Prefix": "/files"}, "https://inner:8080/files/upload"),
    ],
    ids=str,
)
def test_the_address_is_that_reported_by_a_trusted_proxy(headers: dict[str, str], url: str) -> None:
    """Scheme, host, port and prefix are those that the client has used, in either kind of headers."""
    assert path_url(environ_of(**headers), TRUSTING) == url


FORGED = {
    "X_Forwarded_For": SPOOFED,
    "X_Forwarded_Proto": "https",
    "X_Forwarded_Host": "evil.example",
    "X_Forwarded_Port": "666",
    "X_Forwarded_Prefix": "/evil",
    "Forwarded": f"for={SPOOFED};proto=https;host=evil.example",
}


@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.1", "2001:db8::5", "", "unix:", "not-an-address"])
@pytest.mark.parametrize("settings", [TRUSTING, Settings()], ids=["some trusted", "none trusted"])
def test_a_client_that_is_no_trusted_proxy_has_no_effect(peer: str, settings: Settings) -> None:
    """All headers of a client that is not listed are ignored; by default no client is listed."""
    environ = environ_of(peer, **FORGED)
    assert path_url(environ, settings) == "http://inner:8080/upload"
    assert client_address(environ, settings) in {peer, ""}


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        (CLIENT, CLIENT),
        (f"{SPOOFED}, {CLIENT}", CLIENT),
        (f"{SPOOFED},{CLIENT},{SECOND_PROXY}", CLIENT),
        (f"{CLIENT}:1234", CLIENT),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:DB8::7]:1234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        (f"{SPOOFED}, ::ffff:10.1.2.3", SPOOFED),
        (f"{SPOOFED}, nonsense", PROXY),
        (f"{SPOOFED}, unknown, {SECOND_PROXY}", SECOND_PROXY),
        (f"{CLIENT},", PROXY),
        ("", PROXY),
        (SECOND_PROXY, SECOND_PROXY),
        ("010.0.0.1", PROXY),
        ("x" * 9000 + f", {CLIENT}", CLIENT),
        (f"{SPOOFED}, " * 9000 + CLIENT, CLIENT),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(forwarded_for: str, client: str) -> None:
    """Text to the left of the client's address is its own; what is no address ends the search at the proxy before."""
    assert client_address(environ_of(X_Forwarded_For=forwarded_for), TRUSTING) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f'for="{CLIENT}:1234"', CLIENT),
        ('For="[2001:db8::7]:1234"', "2001:db8::7"),
        ("for=[2001:db8::7]", "2001:db8::7"),
        (f"for={SPOOFED}, for={CLIENT};proto=https", CLIENT),
        (f"for={CLIENT} , for={SECOND_PROXY}", CLIENT),
        (f"for={SPOOFED}, for=_hidden, for={SECOND_PROXY}", SECOND_PROXY),
        (f"for={SPOOFED}, for=unknown", PROXY),
        (f"for={SPOOFED}, proto=https", PROXY),
        # A client cannot change how the element of the proxy is read.
        (f'for="{SPOOFED}, for={CLIENT}', CLIENT),
        (f'x=", for="{CLIENT}"', CLIENT),
        (f'x="\\, for="{CLIENT}"', CLIENT),
        (f";;==, for={CLIENT}", CLIENT),
        (f"for={SPOOFED}, ;;", PROXY),
        ('a="b,a="b",' * 3000 + f"for={CLIENT}", CLIENT),
        ("", PROXY),
    ],
)
def test_the_client_is_read_from_the_header_forwarded(forwarded: str, client: str) -> None:
    """The elements of Forwarded (RFC 7239) are read from the right, with quotes, ports and hidden names."""
    assert client_address(environ_of(Forwarded=forwarded), TRUSTING) == client


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        # One proxy, which appends: what stands to the left is the client's own text.
        ({"X_Forwarded_Host": "evil.example, a.example"}, "http://a.example"),
        ({"X_Forwarded_Proto": "https, http"}, "http://inner:8080"),
        (
            {"X_Forwarded_For": f"{SPOOFED}, {CLIENT}", "X_Forwarded_Host": "evil.example, a.example"},
            "http://a.example",
        ),
        ({"Forwarded": f"for={SPOOFED};host=evil.example, for={CLIENT};host=a.example"}, "http://a.example"),
        ({"Forwarded": f"for={SPOOFED};host=evil.example, for={CLIENT}"}, "http://inner:8080"),
        # Two proxies: the outer one has seen the client's address.
        ({"X_Forwarded_For": f"{CLIENT}, {SECOND_PROXY}", "X_Forwarded_Proto": "https, http"}, "https://inner:8080"),
        ({"X_Forwarded_For": f"{CLIENT}, {SECOND_PROXY}", "X_Forwarded_Host": "a.example"}, "http://a.example"),
        (
            {"Forwarded": f"for={CLIENT};proto=https;host=a.example, for={SECOND_PROXY};proto=http;host=b.example"},
            "https://a.example",
        ),
        ({"Forwarded": f"for={CLIENT}, for={SECOND_PROXY};proto=https;host=b.example"}, "https://b.example"),
    ],
    ids=str,
)
def test_the_value_of_the_outermost_trusted_proxy_is_used(headers: dict[str, str], url: str) -> None:
    """A client behind a proxy cannot put a value before that of the proxy."""
    assert application_url(environ_of(**headers), TRUSTING) == url


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_Host": "a b"},
        {"X_Forwarded_Host": "a.example/path"},
        {"X_Forwarded_Host": "user@a.example"},
        {"X_Forwarded_Host": "a.example\r\nX: y"},
        {"X_Forwarded_Proto": "javascript"},
        {"X_Forwarded_Proto": "wss"},
        {"X_Forwarded_Port": "x"},
        {"X_Forwarded_Port": "123456"},
        {"X_Forwarded_Prefix": "files"},
        {"X_Forwarded_Prefix": "//evil.example"},
        {"X_Forwarded_Prefix": "/../a"},
        {"X_Forwarded_Prefix": "/a/."},
        {"X_Forwarded_Prefix": "/a?b"},
        {"X_Forwarded_Prefix": '/"><script>'},
        {"Forwarded": 'host="a b";proto=gopher'},
        {"Forwarded": "host=a.example/path"},
        {"Forwarded": "host"},
    ],
    ids=str,
)
def test_malformed_values_are_ignored(headers: dict[str, str]) -> None:
    """A value that cannot be part of a URL counts as missing."""
    assert application_url(environ_of(**headers), TRUSTING) == "http://inner:8080"


def test_forwarded_is_ignored_beside_x_forwarded_headers() -> None:
    """With X-Forwarded-* from the proxy, Forwarded is what a client has sent past it, and is ignored."""
    environ = environ_of(
        X_Forwarded_For=CLIENT, X_Forwarded_Proto="https", Forwarded=f"for={SPOOFED};host=evil.example;proto=http"
    )
    assert (application_url(environ, TRUSTING), client_address(environ, TRUSTING)) == ("https://inner:8080", CLIENT)
    environ = environ_of(X_Forwarded_For="x" * 9000, Forwarded=f"for={SPOOFED};host=evil.example")
    assert (application_url(environ, TRUSTING), client_address(environ, TRUSTING)) == ("http://inner:8080", PROXY)


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/run/app.sock"])
def test_a_proxy_on_a_unix_socket_can_be_trusted(peer: str) -> None:
    """With ``unix`` in the setting, connections without an IP address are those of a proxy."""
    environ = environ_of(peer, X_Forwarded_For=CLIENT, X_Forwarded_Proto="https")
    assert client_address(environ, TRUSTING) == ""
    settings = Settings.parse({"trusted_proxies": ["unix"]})
    assert (application_url(environ, settings), client_address(environ, settings)) == ("https://inner:8080", CLIENT)
    assert client_address(environ_of("127.0.0.1", X_Forwarded_For=CLIENT), settings) == "127.0.0.1"


@pytest.mark.parametrize("script_name", ["/files", "/files/app"])
def test_a_prefix_that_was_not_removed_counts_once(script_name: str) -> None:
    """If the path of the application already begins with the prefix, the prefix is not repeated."""
    environ = environ_of(script_name=script_name, X_Forwarded_Prefix="/files")
    assert application_url(environ, TRUSTING) == f"http://inner:8080{script_name}"
    environ = environ_of(script_name="/filesystem", X_Forwarded_Prefix="/files")
    assert application_url(environ, TRUSTING) == "http://inner:8080/files/filesystem"


@pytest.mark.parametrize("host", ["inner:8080", "evil.example", "not a host"])
def test_the_setting_public_url_overrides_all_headers(host: str) -> None:
    """With ``public_url``, neither the Host header nor a proxy changes the address; the client comes from the proxy."""
    settings = Settings.parse({"public_url": "https://A.example:8443/files/", "trusted_proxies": "10.0.0.1"})
    environ = environ_of(script_name="/app", Host=host, X_Forwarded_For=CLIENT, X_Forwarded_Host="b.example")
    assert application_url(environ, settings) == "https://a.example:8443/files/app"
    assert client_address(environ, settings) == CLIENT


def test_the_servers_default_counts_unless_the_setting_is_given() -> None:
    """A server may trust proxies by default; the setting replaces that, also by an empty value."""
    found: list[str] = []
    environ = environ_of("127.0.0.1", X_Forwarded_Proto="https")
    for settings in (Settings(), Settings.parse({"trusted_proxies": ""}), TRUSTING):

        def app(environ: dict[str, Any], start_response: Any, settings: Settings = settings) -> list[bytes]:
            found.append(public_address(environ, settings).scheme)
            return []

        trusting_by_default(app, LOOPBACK)(dict(environ), lambda *_: lambda data: data)
    assert found == ["https", "http", "http"]
    assert public_address(environ, Settings()).scheme == "http"


@given(st.text(st.characters(codec="latin-1")), st.sampled_from(sorted(FORGED)))
def test_any_text_in_a_header_gives_an_address(text: str, name: str) -> None:
    """No header raises an error, and none puts anything but URL characters into the address."""
    environ = environ_of(**{name: text})
    assert client_address(environ, TRUSTING)
    assert not set(path_url(environ, TRUSTING)) & set(' "<>\\^`{|}\r\n\t?#')


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("", ""),
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.Example:443/", "https://a.example"),
        ("http://a.example:80/Files/", "http://a.example/Files"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://a.example/a%20b/c", "https://a.example/a%20b/c"),
    ],
)
def test_public_url_is_normalized(given_url: str, url: str) -> None:
    """A default port and the slash at the end are dropped; the host is in lower case."""
    assert Settings.parse({"public_url": given_url}).public_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("public_url", value)
            for value in (
                "a.example", "//a.example", "ftp://a.example", "https://", "https://a.example?b", "https://a.example#b",
                "https://u@a.example", "https://a.example:x", "https://a.example:0", "https://a.example:70000",
                "https://a.example/a/../b", "https://a.example//b", "https://a b", "https://ä.example",
            )
        ),
        *(("trusted_proxies", value) for value in ("a.example", "10.0.0.0/33", "10.0.0.1/8", "*", "10.0.0.1:80")),
    ],
)  # fmt: skip
def test_a_bad_value_stops_the_start(name: str, value: str) -> None:
    """The error names the setting, the value, and what would be right."""
    with pytest.raises(SettingError, match=rf"setting '{name}' cannot be .*; it must be .*such as"):
        Settings.parse({name: value})
