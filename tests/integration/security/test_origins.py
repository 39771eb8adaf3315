"""Permissions of pages of other origins to send and read, by CORS and by script tag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.wsgi_client import Answer, UploadSite, file_part, form

TRUSTED_ORIGIN, FOREIGN_ORIGIN = "https://www.example.com", "https://evil.example"


@pytest.fixture
def open_site(tmp_path: Path) -> UploadSite:
    """Return a site that trusts one other origin."""
    return UploadSite(tmp_path / "pool", cors_origins=TRUSTED_ORIGIN)


def allowed(answer: Answer) -> str | None:
    return answer.headers.get("access-control-allow-origin")


@pytest.mark.parametrize(
    "origin",
    [
        TRUSTED_ORIGIN,
        FOREIGN_ORIGIN,
        "null",
        TRUSTED_ORIGIN + ".evil.example",
        "http://www.example.com",
        "x" + TRUSTED_ORIGIN,
    ],
)
def test_only_named_origins_may_read(open_site: UploadSite, origin: str) -> None:
    """Uploads, status and errors carry the header for the named origin, exactly, and for no other."""
    identifier = open_site.identifier()
    query = f"X-Progress-ID={identifier}"
    answers = [
        open_site.post(form(file_part("x")), identifier, HTTP_ORIGIN=origin),
        open_site.post(form(file_part("x")), identifier, HTTP_ORIGIN=origin),
        open_site.post(b"x", HTTP_ORIGIN=origin),
        open_site.put(b"x", "forged", HTTP_ORIGIN=origin),
        open_site.put(b"x", HTTP_CONTENT_ENCODING="gzip", HTTP_ORIGIN=origin),
        open_site.send("GET", "/upload/status", query, HTTP_ORIGIN=origin),
        open_site.send("PATCH", "/upload/status", query, HTTP_ORIGIN=origin),
    ]
    assert [answer.status for answer in answers] == [200, 409, 400, 403, 415, 200, 405]
    for answer in answers:
        assert allowed(answer) == (TRUSTED_ORIGIN if origin == TRUSTED_ORIGIN else None)
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers


def preflight(site: UploadSite, origin: str, path: str = "/upload", query: str = "") -> Answer:
    return site.send("OPTIONS", path, query, HTTP_ORIGIN=origin, HTTP_ACCESS_CONTROL_REQUEST_METHOD="PUT")


def test_a_preflight_of_a_trusted_origin_is_permitted(open_site: UploadSite) -> None:
    """The preflight of a trusted origin permits each method and header that an upload needs."""
    answer = preflight(open_site, TRUSTED_ORIGIN)
    assert (answer.status, allowed(answer), answer.body) == (204, TRUSTED_ORIGIN, b"")
    assert methods(answer) == {"POST", "PUT"}
    headers = answer.headers["access-control-allow-headers"].lower()
    assert all(name in headers for name in ("content-type", "content-disposition", "x-progress-id"))


def methods(answer: Answer) -> set[str]:
    return set(answer.headers["access-control-allow-methods"].split(", "))


@pytest.mark.parametrize(
    ("path", "query", "promised"),
    [
        ("/upload", "X-Progress-ID=any", {"POST", "PUT"}),
        ("/upload", "status&X-Progress-ID=any", {"GET", "HEAD", "DELETE"}),
        ("/upload/status", "X-Progress-ID=any", {"GET", "HEAD", "DELETE"}),
        ("/upload/status", "clear&X-Progress-ID=any", {"GET", "HEAD", "DELETE", "POST"}),
        ("/upload/identifier", "", {"POST"}),
        ("/upload/direct", "X-Progress-ID=any", {"GET", "HEAD", "POST"}),
        ("/upload/direct/part", "ticket=any", {"PUT", "POST"}),
        ("/upload/direct/complete", "X-Progress-ID=any", {"POST"}),
    ],
)
def test_a_preflight_lists_the_methods_of_the_resource(
    tmp_path: Path, path: str, query: str, promised: set[str]
) -> None:
    """The methods in the answer to a preflight are those that the resource supports."""
    site = UploadSite(tmp_path / "pool", cors_origins=TRUSTED_ORIGIN, anonymous=True)
    assert methods(preflight(site, TRUSTED_ORIGIN, path, query)) == promised


def test_a_preflight_of_an_unknown_origin_is_refused(open_site: UploadSite) -> None:
    """The preflight of an unknown origin is refused, and the answer names no origin."""
    answer = preflight(open_site, FOREIGN_ORIGIN)
    assert answer.outcome == (403, "origin-not-allowed")
    assert allowed(answer) is None


def test_a_wildcard_permits_every_origin(tmp_path: Path) -> None:
    """With ``*``, the answer names the origin of the request, whatever it is."""
    site = UploadSite(tmp_path, cors_origins="*")
    assert allowed(preflight(site, FOREIGN_ORIGIN)) == FOREIGN_ORIGIN
    assert allowed(site.put(b"x")) is None


def test_without_the_setting_there_is_no_cors(site: UploadSite) -> None:
    """Without the setting, OPTIONS reaches the app, and no answer names an origin."""
    assert preflight(site, TRUSTED_ORIGIN).headers["x-app"] == "yes"
    answer = site.put(b"x", HTTP_ORIGIN=TRUSTED_ORIGIN)
    assert allowed(answer) is None
    assert "vary" not in answer.headers


@pytest.fixture
def script_site(tmp_path: Path) -> UploadSite:
    """Return a site with ``jsonp = true``."""
    return UploadSite(tmp_path / "pool", jsonp=True)


def status(site: UploadSite, identifier: str, more: str, method: str = "GET", **environ: Any) -> Answer:
    return site.send(method, "/upload/status", f"X-Progress-ID={identifier}{more}", **environ)


def test_script_tags_are_off_by_default(site: UploadSite) -> None:
    """A callback is ignored, and GET resets nothing: an image on another page could send the request."""
    identifier = site.identifier()
    assert site.put(b"x", identifier).status == 200
    answer = status(site, identifier, "&callback=f&clear")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["state"] == "done"
    assert site.status(identifier)["state"] == "done"


@pytest.mark.parametrize("callback", ["f", "jQuery1234_5", "a.b.c", "$", "_a.$b"])
def test_a_callback_gets_a_script(script_site: UploadSite, callback: str) -> None:
    """The answer to a callback is a script that begins with a comment, forbids sniffing, and holds the status."""
    identifier = script_site.identifier()
    script_site.put(b"x", identifier, "</script>\u2028\u2029<b>.txt")
    answer = status(script_site, identifier, f"&callback={callback}")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    text = answer.body.decode()
    assert text.startswith(f"/**/{callback}({{")
    assert text.endswith("});")
    assert text.isascii()
    assert "</" not in text
    found = json.loads(text[len(f"/**/{callback}(") : -2])
    assert found["filename"] == "script>\u2028\u2029<b>.txt"


HOSTILE_CALLBACKS = [
    "", "alert(1)//", "f;alert(1)", "<script>", "a b", "a-b", "a[0]", "1a", ".a", "a.", "a..b", "ä", "f%0A", "a" * 65,
    "a.b.c.d.e", "%EF%BB%BFf", "%E2%80%A8f", "f%00", "`f`", "f%5C",
]  # fmt: skip


@pytest.mark.parametrize("callback", HOSTILE_CALLBACKS)
def test_a_callback_that_is_no_plain_name_is_refused(script_site: UploadSite, callback: str) -> None:
    """A callback that is no plain name is refused, and not repeated in the answer."""
    answer = status(script_site, script_site.identifier(), f"&callback={callback}")
    assert answer.outcome == (400, "bad-callback")
    assert "javascript" not in answer.headers["content-type"]
    assert len(callback) < 3 or callback.encode() not in answer.body


def test_a_script_tag_may_reset(script_site: UploadSite) -> None:
    """With the setting, GET with ``clear`` resets an upload like POST."""
    identifier = script_site.identifier()
    script_site.put(b"x", identifier)
    assert status(script_site, identifier, "&clear&callback=f").body == b'/**/f({"success": true});'
    assert script_site.status(identifier)["state"] == "unknown"


def test_only_post_and_delete_reset_an_upload(site: UploadSite) -> None:
    """Without the setting, only POST and DELETE reset an upload; other methods are refused."""
    for method, more in (("DELETE", ""), ("POST", "&clear")):
        identifier = site.identifier()
        site.put(b"x", identifier)
        assert status(site, identifier, more, method).json == {"success": True}
        assert site.status(identifier)["state"] == "unknown"
    for method, more in (("POST", ""), ("PUT", "&clear"), ("PATCH", "")):
        assert status(site, site.identifier(), more, method).outcome == (405, "method-not-allowed")
