"""Uploads without an identifier: a server for anyone creates one, another says how to get one, an app gets its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import webtest

from fileupload.deploy import make_server_app
from fileupload.settings import Settings
from tests.support.wsgi_client import FORM_TYPE, Answer, UploadSite, file_part, form

FOREIGN_ORIGIN, TRUSTED_ORIGIN = "https://evil.example", "https://www.example.com"


def served(directory: str, **settings: Any) -> webtest.TestApp:
    """Return the app of a dedicated server."""
    return webtest.TestApp(make_server_app(Settings.parse({"directory": directory, **settings})))


def send(site: UploadSite, way: str, **environ: Any) -> Answer:
    """Send an upload without an identifier."""
    if way == "form":
        return site.send("POST", body=form(file_part(b"content")), CONTENT_TYPE=FORM_TYPE, **environ)
    if way == "direct":
        return site.send("POST", "/upload/direct", body=b'{"filename": "a.txt", "size": 7}', **environ)
    return site.send("PUT", body=b"content", query="filename=a.txt", **environ)


@pytest.fixture
def anonymous_site(tmp_path: Path) -> UploadSite:
    return UploadSite(tmp_path / "pool", anonymous=True)


@pytest.mark.parametrize("way", ["form", "put"])
def test_an_upload_without_an_identifier_gets_one(anonymous_site: UploadSite, way: str) -> None:
    """The descriptor has the new identifier, and so has a header of the app's answer; it names the upload."""
    answer = send(anonymous_site, way)
    identifier = answer.headers["x-progress-id"]
    assert (answer.status, answer.headers["x-app"], answer.json["identifier"]) == (200, "yes", identifier)
    assert anonymous_site.status(identifier)["state"] == "done"
    assert anonymous_site.contents(identifier) == [b"content"]
    assert anonymous_site.app_environ["fileupload.bucket"].identifier == identifier


def test_a_direct_upload_without_an_identifier_gets_one(anonymous_site: UploadSite) -> None:
    """The answer has the identifier, by which the upload is completed."""
    identifier = send(anonymous_site, "direct").json["identifier"]
    assert anonymous_site.status(identifier)["state"] == "uploading"


def test_every_upload_gets_its_own_identifier(anonymous_site: UploadSite) -> None:
    """Two uploads without an identifier are two uploads, also with an empty one in the query."""
    identifiers = {send(anonymous_site, "put").headers["x-progress-id"] for _ in range(2)}
    empty = anonymous_site.send("PUT", query="X-Progress-ID=", body=b"content")
    assert len({*identifiers, empty.headers["x-progress-id"]}) == 3


def test_an_upload_with_an_identifier_keeps_it(anonymous_site: UploadSite) -> None:
    """The header is only in the answer to an upload whose client does not know its identifier."""
    identifier = anonymous_site.identifier()
    answer = anonymous_site.put(b"x", identifier)
    assert answer.json["identifier"] == identifier
    assert "x-progress-id" not in answer.headers
    assert anonymous_site.put(b"x", "forged").outcome == (403, "invalid-identifier")


def test_a_refusal_without_an_identifier_names_none(tmp_path: Path) -> None:
    """A refusal has its usual answer, without an identifier."""
    site = UploadSite(tmp_path / "pool", anonymous=True, max_size="3b")
    for way in ("form", "put", "direct"):
        answer = send(site, way)
        assert answer.outcome == (413, "too-large")
        assert "x-progress-id" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/upload", None),
        ("HEAD", "/upload", None),
        ("PATCH", "/upload", None),
        ("POST", "/upload", "application/x-www-form-urlencoded"),
        ("POST", "/upload", "application/json"),
        ("GET", "/upload/status", None),
        ("DELETE", "/upload/status", None),
        ("GET", "/upload/direct", None),
        ("POST", "/upload/direct/complete", None),
        ("POST", "/other", FORM_TYPE),
    ],
)
def test_other_requests_pass_through(anonymous_site: UploadSite, method: str, path: str, kind: str | None) -> None:
    """The app's own page and forms without a file reach the app, with downloads too."""
    downloads = UploadSite(anonymous_site.directory, anonymous=True, downloads=True)
    for site in (anonymous_site, downloads):
        answer = site.send(method, path, body=b"a=b", CONTENT_TYPE=kind)
        assert (answer.status, answer.headers["x-app"]) == (200, "yes")
        assert site.app_environ["wsgi.input"].read(3) == b"a=b"


@pytest.mark.parametrize("way", ["form", "put", "direct"])
def test_without_anonymous_every_request_without_an_identifier_passes_through(site: UploadSite, way: str) -> None:
    """The middleware in front of an app leaves such a request to the app."""
    assert send(site, way).headers["x-app"] == "yes"
    assert list(site.manager.pool.buckets()) == []


@pytest.fixture
def site(tmp_path: Path) -> UploadSite:
    return UploadSite(tmp_path / "pool")


@pytest.mark.parametrize("way", ["form", "put", "direct"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"HTTP_ORIGIN": FOREIGN_ORIGIN}, 403),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "null"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "null"}, 200),
        ({"HTTP_ORIGIN": "http://127.0.0.1"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": TRUSTED_ORIGIN}, 200),
    ],
    ids=str,
)
def test_a_cross_site_page_gets_no_identifier(tmp_path: Path, way: str, headers: dict[str, str], expected: int) -> None:
    """A page of another site cannot make its visitors upload to a server that only they can reach."""
    site = UploadSite(tmp_path / "pool", anonymous=True, cors_origins=TRUSTED_ORIGIN)
    answer = send(site, way, **headers)
    assert answer.status == expected
    if expected == 403:
        assert answer.json["code"] == "origin-not-allowed"
        assert list(site.manager.pool.buckets()) == []
    elif way != "direct":
        exposed = answer.headers.get("access-control-expose-headers", "")
        assert ("X-Progress-ID" in exposed) is (headers["HTTP_ORIGIN"] == TRUSTED_ORIGIN)
    open_to_all = UploadSite(tmp_path / "open", anonymous=True, cors_origins="*")
    assert send(open_to_all, way, **headers).status == 200


REQUESTS = [
    ("POST", "/upload", FORM_TYPE),
    ("POST", "/upload", "text/plain"),
    ("PUT", "/upload", ""),
    ("POST", "/upload/identifier", ""),
    ("GET", "/upload/status", ""),
    ("POST", "/upload/direct", ""),
]


@pytest.mark.parametrize(("method", "path", "kind"), REQUESTS)
def test_the_dedicated_server_explains_how_to_get_an_identifier(
    pool_directory: str, method: str, path: str, kind: str
) -> None:
    """Without ``anonymous``, a problem document names the application, and what the operator of the server can do."""
    app = served(pool_directory)
    answer = app.request(path, method=method, body=b"x", headers={"Content-Type": kind}, status=403)
    assert (answer.content_type, answer.json["code"]) == ("application/problem+json", "identifier-required")
    for word in ("X-Progress-ID", "application", "`fileupload identifier`", "--anonymous"):
        assert word in answer.json["detail"]
    assert pool_directory not in answer.text


def test_the_dedicated_server_answers_an_upload_without_an_identifier(pool_directory: str) -> None:
    """With ``anonymous``, a form and a PUT are stored; for any other body, the answer says what to send."""
    app = served(pool_directory, anonymous=True)
    for answer in (
        app.post("/upload", upload_files=[("file", "a.txt", b"content")]),
        app.put("/upload?filename=a.txt", b"content"),
    ):
        assert answer.headers["X-Progress-ID"] == answer.json["identifier"]
        assert (answer.json["state"], answer.json["filename"]) == ("done", "a.txt")
    refused = app.post("/upload", b"content", content_type="application/x-www-form-urlencoded", status=415)
    assert "multipart/form-data" in refused.json["detail"]
    unnamed = app.get("/upload/status", status=403)
    assert "--anonymous" not in unnamed.json["detail"]
    assert "X-Progress-ID" in unnamed.json["detail"]


def test_json_ends_with_a_line_end(pool_directory: str) -> None:
    """Answers in JSON, also errors, end with one line end, so that a terminal's prompt is on a line of its own."""
    app = served(pool_directory, anonymous=True)
    identifier = app.post("/upload/identifier").json["identifier"]
    query = f"X-Progress-ID={identifier}"
    answers = [
        app.post("/upload/identifier"),
        app.get(f"/upload/status?{query}", status=404),
        app.put(f"/upload?{query}", b"x"),
        app.get(f"/upload/status?{query}"),
        app.put(f"/upload?{query}", b"x", status=409),
        app.get("/nothing", status=404),
        app.delete(f"/upload/status?{query}"),
    ]
    for answer in answers:
        assert answer.body.endswith(b"}\n")
        assert answer.content_length == len(answer.body)


@pytest.mark.parametrize(
    ("accept", "bare"),
    [
        ("text/plain", True),
        ("text/plain;q=0.9, application/json;q=0.1", True),
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("text/html", False),
        ("malformed;;;", False),
    ],
)
def test_an_identifier_can_be_requested_as_text(pool_directory: str, accept: str | None, bare: bool) -> None:
    """``Accept: text/plain`` gets the bare identifier in a line, for shell scripts; other clients get JSON."""
    app = served(pool_directory, anonymous=True)
    answer = app.post("/upload/identifier", headers={} if accept is None else {"Accept": accept}, status=201)
    assert answer.headers["Cache-Control"] == "no-store"
    identifier = answer.text.removesuffix("\n") if bare else answer.json["identifier"]
    assert answer.content_type == ("text/plain" if bare else "application/json")
    assert app.app.manager.verify_identifier(identifier)


@pytest.mark.parametrize("path", ["/nothing", "/static/nothing.css", "/upload"])
def test_a_missing_page_has_the_colors_of_the_upload_page(pool_directory: str, path: str) -> None:
    """A browser gets a page in the colours of the upload page, light and dark; a program gets a problem document."""
    app = served(pool_directory)
    page = app.get(path, headers={"Accept": "text/html"}, status=404)
    style = app.get("/static/fileupload.css").text
    for name in ("ground", "card", "text", "quiet", "line", "bad"):
        values = re.findall(rf"--{name}: (#[0-9a-f]{{6}});", style)
        assert len(values) == 2
        assert re.findall(rf"--{name}: (#[0-9a-f]{{6}});", page.text) == values
    assert "prefers-color-scheme: dark" in page.text
    assert app.get(path, status=404).json["code"] == "not-found"


def test_an_unsupported_method_gets_the_allowed_ones(pool_directory: str) -> None:
    """The page and its files can only be read, and the answer says so."""
    app = served(pool_directory)
    for path in ("/", "/static/page.js"):
        assert app.post(path, status=405).headers["Allow"] == "GET, HEAD"
