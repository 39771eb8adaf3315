"""The URLs of session attachments, compatible with the predecessor, and their responses."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import webtest
from paste.deploy import loadapp

from fileupload.errors import SettingError
from tests.support.session_client import SessionClient, SessionSite
from tests.support.waiting import PATIENCE
from tests.support.wsgi_client import FORM_TYPE, Stream, file_part, form


def ignore_start(*_: Any) -> Any:
    """Ignore the status and headers of a response."""


def test_a_form_may_have_any_number_of_files(site: SessionSite, client: SessionClient) -> None:
    """Files in fields of any names are stored, and both the response and a later GET list them."""
    answer = client.post("foo", ("spam.txt", b"spam\n"), ("egg.txt", b"egg\n"), ("egg.html", b"<b>"))
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json")
    assert answer.names == ["spam.txt", "egg.txt", "egg.html"]
    listed = client.get("foo")
    assert listed.json == answer.json
    first = listed.json[0]
    assert list(first) == ["name", "size", "mimetype", "created", "created_at"]
    assert (first["size"], first["mimetype"]) == (5, "text/plain")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", first["created"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["created_at"])
    assert client.contents("foo") == {"spam.txt": b"spam\n", "egg.txt": b"egg\n", "egg.html": b"<b>"}
    site.check_tidy()


def test_the_answer_to_an_upload_lists_only_its_own_files(client: SessionClient) -> None:
    """The response to an upload lists only its own files; the list of the bundle has the earlier ones too."""
    client.post("foo", ("a", b"1"))
    assert client.post("foo", ("b", b"2"), ("b", b"3")).names == ["b", "b (2)"]
    assert client.get("foo").names == ["a", "b", "b (2)"]


def test_a_plain_body_is_an_attachment(site: SessionSite, client: SessionClient) -> None:
    """PUT works at the URL of the file, or at the bundle with a name; the URL takes precedence over other names."""
    assert client.put("b", "ä b.txt", b"1").names == ["ä b.txt"]
    assert client.send("PUT", "/attachments/b/", "filename=c.txt", b"2").names == ["c.txt"]
    header = "attachment; filename*=UTF-8''d%C3%A4.txt"
    assert client.send("PUT", "/attachments/b", "", b"3", HTTP_CONTENT_DISPOSITION=header).names == ["dä.txt"]
    assert client.put("b", "e.txt", b"4", HTTP_CONTENT_DISPOSITION=header).names == ["e.txt"]
    assert client.send("PUT", "/attachments/b/f.txt", "filename=g.txt", b"5", CONTENT_TYPE="image/png").names == [
        "f.txt"
    ]
    assert client.get("b").json[-1]["mimetype"] == "image/png"
    site.check_tidy()


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_predecessors_urls_and_delete_remove_files(site: SessionSite, client: SessionClient, slash: str) -> None:
    """The predecessor's URLs and DELETE both remove files, and report for each whether it was removed."""
    path = "/attachments/b"
    client.post("b", *((name, b"x") for name in "abcde"))
    assert client.send("POST", f"{path}/a/delete{slash}").json == [True]
    assert client.send("POST", f"{path}/a/delete{slash}").json == [False]
    assert client.send("DELETE", f"{path}/b{slash}").json == [True]
    assert client.send("DELETE", f"{path}/b{slash}").json == [False]
    assert client.send("DELETE", f"{path}/c/delete{slash}").json == [True]
    assert client.send("POST", f"{path}/delete{slash}").json == [[True], [True]]
    assert client.send("POST", f"{path}/delete{slash}").json == []
    client.post("b", ("a", b"x"))
    assert client.send("DELETE", f"{path}{slash}").json == [[True]]
    assert client.get("b").json == []
    assert client.get("b", "a").outcome == (404, "file-missing")
    assert list(site.pool.buckets()) == []


def test_a_file_that_is_called_delete(client: SessionClient) -> None:
    """A file named "delete" can be uploaded, listed, downloaded and deleted like any other."""
    client.post("delete", ("delete", b"1"), ("b", b"2"))
    assert client.get("delete").names == ["delete", "b"]
    assert client.get("delete", "delete").body == b"1"
    assert client.send("POST", "/attachments/delete/delete/delete/").json == [True]
    assert client.put("delete", "delete", b"3").names == ["delete"]
    assert client.delete("delete", "delete").json == [True]
    assert client.get("delete").names == ["b"]
    assert client.send("POST", "/attachments/delete/delete/").json == [[True]]


NAMES = [
    "🎉.txt",
    "Ünï cødé.txt",
    "e\u0301.txt",
    "\u202egpj.exe",
    'say "hi".txt',
    "it's.txt",
    "100%.txt",
    "a%2Fb.txt",
    "a;b=c&d?e#f.txt",
    "a+b c.txt",
    "trailing...",
    " leading and trailing ",
    "CON.txt",
    ".htaccess",
    "~",
    "-rf",
    "<img src=x onerror=alert(1)>",
    "日本語.pdf",
    "delete",
    "status",
    "x" * 255,
    "ü" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_returned_unchanged(site: SessionSite, client: SessionClient, name: str) -> None:
    """Names are unchanged in lists, downloads and URLs, whether sent by PUT or by a form."""
    assert client.put("b", name, b"1").names == [name]
    answer = client.get("b", name)
    assert answer.body == b"1"
    disposition = answer.header("Content-Disposition") or ""
    assert disposition.startswith("attachment;")
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == name
    if '"' not in name:
        assert client.post("b", (name, b"2")).names == [name]
        assert client.contents("b") == {name: b"2"}
    assert client.delete("b", name).json == [True]
    assert list(site.pool.buckets()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\fakepath\\passwd", "/etc/passwd", "a/../passwd"])
def test_a_name_is_never_a_path(site: SessionSite, client: SessionClient, name: str) -> None:
    """The name of a file is the last segment of a path that a client sends."""
    assert client.post("b", (name, b"1")).names == ["passwd"]
    assert client.get("b", "passwd").body == b"1"
    site.check_tidy()


@pytest.mark.parametrize("name", ["", ".", "..", " . "])
@pytest.mark.parametrize("how", ["form", "plain"])
def test_a_file_needs_a_name(site: SessionSite, client: SessionClient, name: str, how: str) -> None:
    """An upload with an unnamed file is refused, and nothing of it is kept."""
    if how == "form":
        answer = client.post("b", ("good", b"1"), (name, b"1"))
    else:
        answer = client.send("PUT", "/attachments/b/", f"filename={quote(name)}", b"1")
    assert answer.outcome == (400, "bad-name")
    assert client.get("b").json == []
    assert list(site.pool.buckets()) == []
    site.check_tidy()


@pytest.mark.parametrize("name", [".", "..", "a\\b", "a\nb", "\x7f"])
def test_a_url_without_a_valid_filename_is_refused(site: SessionSite, client: SessionClient, name: str) -> None:
    """PUT to a URL whose last segment is no valid name is refused, and GET finds no file there."""
    assert client.put("b", name, b"1").outcome == (400, "bad-name")
    assert client.get("b", name).outcome == (404, "file-missing")
    assert list(site.pool.buckets()) == []


def test_an_empty_file_input_is_skipped(client: SessionClient) -> None:
    """An empty file input is skipped; a form of empty inputs only is refused."""
    assert client.post("b", ("", b""), ("a", b"1")).names == ["a"]
    assert client.post("b", ("", b"")).outcome == (400, "no-file")


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/b//", "//a/", "/b/a/b/", "/b/a/delete/x/", "/b/a/x", "/b/a/delete//", "/%ff/", "/b/%ff/"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_url_is_not_found(site: SessionSite, client: SessionClient, path: str, method: str) -> None:
    """A URL of neither a bundle nor a file is not found, and creates no session."""
    answer = client.send(method, "/attachments" + path, "", form(file_part(b"1")), CONTENT_TYPE=FORM_TYPE)
    assert answer.outcome == (404, "not-found")
    assert answer.header("Set-Cookie") is None
    assert list(site.pool.buckets()) == []


@pytest.mark.parametrize("name", ["..", ".", "a" * 141, "%00", "%0A"])
def test_a_bundle_with_an_invalid_name_is_not_found(client: SessionClient, name: str) -> None:
    """A bundle with an invalid name is not found, with a sentence that describes valid names."""
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = client.send(method, f"/attachments/{name}/", "filename=a", b"")
        assert answer.outcome == (404, "bad-bundle-name")
        assert "140 bytes" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/b/", "GET, HEAD, POST, PUT, DELETE"),
        ("OPTIONS", "/b/", "GET, HEAD, POST, PUT, DELETE"),
        ("POST", "/b/a/", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/b/a/", "GET, HEAD, PUT, DELETE"),
        ("GET", "/b/a/delete/", "POST, DELETE"),
        ("PUT", "/b/a/delete/", "POST, DELETE"),
    ],
)
def test_unsupported_methods_get_405(client: SessionClient, method: str, path: str, allowed: str) -> None:
    """Other methods get 405 with the list of allowed methods."""
    answer = client.send(method, "/attachments" + path, "", b"")
    assert answer.outcome == (405, "method-not-allowed")
    assert answer.header("Allow") == allowed


def test_a_post_without_files_is_refused(site: SessionSite, client: SessionClient) -> None:
    """A POST that is no form with files is refused with the same messages as any upload."""
    for kind, body, code in [
        ("application/x-www-form-urlencoded", b"a=b", 415),
        ("application/json", b"{}", 415),
        (FORM_TYPE, b"nothing", 400),
        (FORM_TYPE, form(), 400),
    ]:
        assert client.send("POST", "/attachments/b/", "", body, CONTENT_TYPE=kind).status == code
    assert client.send("PUT", "/attachments/b/a/", "", b"x", HTTP_CONTENT_ENCODING="gzip").status == 415
    assert list(site.pool.buckets()) == []
    site.check_tidy()


def test_downloads_support_byte_ranges_and_conditions(client: SessionClient) -> None:
    """A file has an ETag and supports byte ranges, conditional requests and HEAD."""
    client.put("b", "page.html", b"0123456789", CONTENT_TYPE="text/html")
    whole = client.get("b", "page.html")
    assert (whole.status, whole.body) == (200, b"0123456789")
    assert whole.header("Content-Type") == "text/html"
    etag = whole.header("ETag")
    assert etag
    part = client.get("b", "page.html", HTTP_RANGE="bytes=2-4", HTTP_IF_RANGE=etag)
    assert (part.status, part.body, part.header("Content-Range")) == (206, b"234", "bytes 2-4/10")
    assert client.get("b", "page.html", HTTP_IF_NONE_MATCH=etag).status == 304
    assert client.get("b", "page.html", HTTP_RANGE="bytes=20-").status == 416
    head = client.send("HEAD", "/attachments/b/page.html/")
    assert (head.status, head.body, head.header("Content-Length")) == (200, b"", "10")
    listed = client.send("HEAD", "/attachments/b/")
    assert (listed.status, listed.body) == (200, b"")


def test_downloads_without_a_hash_have_an_etag(make_site: Callable[..., SessionSite]) -> None:
    """With checksum = none, a second upload of the same name has a different ETag."""
    client = make_site(checksum="none").client()
    client.put("b", "a", b"1")
    first = client.get("b", "a").header("ETag")
    client.put("b", "a", b"1")
    assert first
    assert client.get("b", "a").header("ETag") != first


def test_answers_are_not_cacheable(client: SessionClient) -> None:
    """Responses are not cacheable, and their content type is not sniffed."""
    client.put("b", "a", b"1")
    answers = [client.get("b"), client.get("b", "a"), client.get("b", "x"), client.delete("b"), client.get("..")]
    for answer in answers:
        assert answer.header("Cache-Control") == "no-store"
        assert answer.header("X-Content-Type-Options") == "nosniff"


def test_problems_are_pages_for_browsers(client: SessionClient) -> None:
    """A client that accepts HTML gets errors as a page."""
    answer = client.get("b", "a", HTTP_ACCEPT="text/html,*/*;q=0.8")
    assert answer.status == 404
    assert (answer.header("Content-Type") or "").startswith("text/html")


def test_sessions_are_private(site: SessionSite, client: SessionClient) -> None:
    """Another client cannot see a bundle of the same name, nor delete from it."""
    client.put("b", "a", b"mine")
    other = site.client()
    assert other.get("b").json == []
    assert other.get("b", "a").status == 404
    assert other.delete("b", "a").json == [False]
    assert other.delete("b").json == []
    other.put("b", "a", b"theirs")
    assert client.get("b", "a").body == b"mine"
    assert other.get("b", "a").body == b"theirs"
    site.check_tidy()


def test_listing_a_bundle_of_a_new_session_creates_nothing(site: SessionSite, client: SessionClient) -> None:
    """Listing a bundle of a new session leaves nothing in the pool."""
    assert client.get("b").json == []
    assert client.get("b", "a").status == 404
    assert {path.name for path in site.directory.rglob("*")} <= {".upload_key"}


def test_progress_can_be_queried_by_an_identifier(site: SessionSite, client: SessionClient) -> None:
    """A client can get an identifier, upload with it and query its progress; a second use is refused."""
    given = client.send("POST", "/attachments/b/", "identifier")
    assert given.status == 201
    identifier = given.json["identifier"]
    query = f"status&X-Progress-ID={identifier}"
    assert client.send("GET", "/attachments/b/", query).json["state"] == "unknown"
    begun, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield bytes(100_000)
        begun.set()
        assert go_on.wait(PATIENCE)
        yield bytes(100_000)

    with ThreadPoolExecutor(1) as threads:
        upload = threads.submit(client.put, "b", "a", Stream(pieces()), identifier, CONTENT_LENGTH="200000")
        assert begun.wait(PATIENCE)
        status = site.client().send("GET", "/attachments/b/", query).json
        assert (status["state"], status["size"]) == ("uploading", 200_000)
        assert 0 < status["received"] < 200_000
        assert client.get("b").json == []
        go_on.set()
        assert upload.result(PATIENCE).status == 200
    assert client.send("GET", "/attachments/b/", query).json["state"] == "done"
    assert client.put("other", "a", b"x", identifier).outcome == (409, "already-done")
    assert client.get("b").json[0]["size"] == 200_000
    site.check_tidy()


@pytest.mark.parametrize(("method", "query"), [("DELETE", "status"), ("POST", "status&clear")])
def test_an_upload_can_be_reset(site: SessionSite, client: SessionClient, method: str, query: str) -> None:
    """Resetting the upload of an identifier removes its files."""
    identifier = site.manager.create_identifier()
    client.put("b", "a", b"x", identifier)
    client.put("b", "b", b"x")
    answer = client.send(method, "/attachments/b/", f"{query}&X-Progress-ID={identifier}")
    assert answer.json == {"success": True}
    assert client.get("b").names == ["b"]
    site.check_tidy()


def test_a_forged_identifier_is_refused(site: SessionSite, client: SessionClient) -> None:
    """A forged identifier is refused, and leaves nothing."""
    assert client.put("b", "a", b"x", "forged").outcome == (403, "invalid-identifier")
    assert client.send("GET", "/attachments/b/", "status&X-Progress-ID=forged").outcome == (403, "invalid-identifier")
    assert client.send("GET", "/attachments/b/", "status").outcome == (403, "invalid-identifier")
    assert list(site.pool.buckets()) == []
    site.check_tidy()


def test_a_newer_attempt_supersedes_an_older_one(site: SessionSite, client: SessionClient) -> None:
    """The newer of two uploads under one identifier wins; the older one gets an error and removes nothing."""
    client.get("b")
    identifier = site.manager.create_identifier()

    def pieces() -> Iterator[bytes]:
        yield bytes(10)
        assert client.put("b", "new", b"new", identifier).status == 200
        yield bytes(10)

    older = client.put("b", "old", Stream(pieces()), identifier, CONTENT_LENGTH="20")
    assert older.outcome == (409, "superseded")
    assert client.contents("b") == {"new": b"new"}
    site.check_tidy()


def test_an_interrupted_upload_replaces_nothing(site: SessionSite, client: SessionClient) -> None:
    """An interrupted upload replaces nothing."""
    client.put("b", "a", b"old")
    assert client.put("b", "a", Stream([b"ne"]), CONTENT_LENGTH="3").outcome == (400, "incomplete")
    broken = form(file_part(b"new", "a"))[:-10]
    answer = client.send("POST", "/attachments/b/", "", broken, CONTENT_TYPE=FORM_TYPE)
    assert answer.outcome == (400, "incomplete")
    assert client.contents("b") == {"a": b"old"}
    site.check_tidy()


def test_a_running_download_completes_despite_a_replacement(site: SessionSite, client: SessionClient) -> None:
    """A running download completes, even if its file is replaced and deleted meanwhile."""
    content = bytes(range(256)) * 4096
    client.put("b", "a", content)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/attachments/b/a/", "HTTP_COOKIE": _jar(client)}
    answer: Any = site.component(_complete(environ), ignore_start)
    with closing(answer):
        blocks = iter(answer)
        received = next(blocks)
        assert client.put("b", "a", b"new").status == 200
        assert client.delete("b").json == [[True]]
        assert received + b"".join(blocks) == content
    assert list(site.pool.buckets()) == []


def _jar(client: SessionClient) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _complete(environ: dict[str, Any]) -> dict[str, Any]:
    from wsgiref.util import setup_testing_defaults

    setup_testing_defaults(environ)
    return environ


def test_the_app_finds_the_bundles(site: SessionSite, client: SessionClient) -> None:
    """Requests for other URLs reach the app, which finds the manager and the client's bundles in its environ."""
    client.put("letter", "a", b"1")
    answer = client.send("GET", "/letter")
    assert (answer.header("X-App"), answer.json) == ("yes", ["a"])
    assert site.client().send("GET", "/letter").json == []
    bundles = site.app_environ["fileupload.attachments"]
    assert list(bundles) == []


def test_the_app_creates_a_session_only_by_accessing_a_bundle(site: SessionSite) -> None:
    """A response of the app sets a cookie only if the app accessed a bundle of a new client."""
    assert site.client().send("GET", "/").header("Set-Cookie") is None
    client = site.client()
    assert client.send("GET", "/letter").header("Set-Cookie")
    assert client.send("GET", "/letter").header("Set-Cookie") is None


def test_the_manager_of_an_outer_middleware_is_kept(make_site: Callable[..., SessionSite], tmp_path: Path) -> None:
    """Behind the upload middleware, the app still finds the manager of that middleware."""
    outer = object()
    site = make_site()
    environ = _complete({"PATH_INFO": "/", "fileupload": outer})
    seen = {}
    site.component.app = lambda environ, start: seen.update(environ) or [b""]
    site.component(environ, ignore_start)
    assert seen["fileupload"] is outer


def test_other_urls_are_not_found_without_an_app(make_site: Callable[..., SessionSite]) -> None:
    """Without an app behind it, other URLs are not found."""
    site = make_site()
    site.component.app = None
    client = site.client()
    assert client.put("b", "a", b"1").status == 200
    assert client.send("GET", "/").outcome == (404, "not-found")
    assert client.send("GET", "/attachmentsx/").outcome == (404, "not-found")


def test_the_path_and_the_cookie_are_limited_to_the_mount(make_site: Callable[..., SessionSite]) -> None:
    """The path is found below the mount and as a full path; the cookie is limited to the mount."""
    client = make_site().client()
    answer = client.put("b", "a", b"1", SCRIPT_NAME="/my app")
    assert "; Path=/my%20app;" in (answer.header("Set-Cookie") or "")
    assert client.get("b", SCRIPT_NAME="/my app").names == ["a"]
    whole = make_site(path="/app/files").client()
    whole.cookies = client.cookies
    assert whole.send("GET", "/files/b/", SCRIPT_NAME="/app").names == ["a"]
    assert whole.send("GET", "/app/files/b/").names == ["a"]
    umlaut = make_site(path="/anhänge").client()
    assert umlaut.send("PUT", "/anh%C3%A4nge/b/a/", "", b"1").names == ["a"]


def test_responses_and_logs_contain_no_path_or_identifier(
    site: SessionSite, client: SessionClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither responses nor logs contain a server path or an identifier."""
    caplog.set_level("DEBUG")
    identifier = site.manager.create_identifier()
    answers = [
        client.put("b", "a", b"x", identifier),
        client.put("b", "a", b"x", identifier),
        client.put("b", "a", b"x", "forged"),
        client.get("b", "absent"),
        client.send("GET", "/attachments/"),
    ]
    secret = next(iter(client.cookies.values()))
    for text in [caplog.text, *(answer.body.decode() for answer in answers)]:
        assert str(site.directory) not in text
        assert identifier not in text
        assert secret[:32] not in text
        assert "Traceback" not in text


def test_a_failing_pool_is_answered_without_a_traceback(
    site: SessionSite, client: SessionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the index cannot be written, the response is an error without a path, and nothing is left."""
    client.put("b", "a", b"1")
    before = {path for path in site.directory.rglob("*") if path.is_file()}

    def fail(*_: Any, **__: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(site.pool.index), "put", fail)
    assert client.put("b", "a", b"2").outcome == (507, "pool-full")
    assert {path for path in site.directory.rglob("*") if path.is_file()} == before
    assert client.contents("b") == {"a": b"1"}


def test_paste_loads_a_filter_and_an_app(tmp_path: Path) -> None:
    """Paste loads a filter and an app, with their own directives and those of the pool."""
    (tmp_path / "paste.ini").write_text(
        f"""
[pipeline:main]
pipeline = attachments page
[filter:attachments]
use = egg:fileupload#attachments
path = /files
directory = {tmp_path / "pool"}
max_bundle_size = 1
min_free_space = 0
[app:page]
use = egg:fileupload#page
[app:alone]
use = egg:fileupload#attachments
directory = {tmp_path / "pool"}
cookie_name = other
min_free_space = 0
"""
    )
    app = webtest.TestApp(loadapp(f"config:{tmp_path / 'paste.ini'}"))
    assert app.put("/files/b/a/", b"x").json[0]["name"] == "a"
    app.put("/files/b/a/", bytes((1 << 20) + 1), status=413)
    assert app.get("/files/b/a/").body == b"x"
    assert app.get("/static/page.js").status_int == 200
    alone = webtest.TestApp(loadapp(f"config:{tmp_path / 'paste.ini'}", name="alone"))
    assert alone.put("/attachments/b/a/", b"x").json[0]["size"] == 1
    alone.get("/", status=404)
    assert "other" in alone.cookies


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("max_bundle_sise", "1", "did you mean 'max_bundle_size'"),
        ("path", "", "a path such as /attachments"),
        ("path", "/a/", "a path such as"),
        ("max_bundle_files", "0", "a whole number of at least 1"),
        ("cookie_name", "a b", "a cookie name of"),
        ("session", "nowhere:at_all", "package.module:function"),
        ("session", "os.path:absent", "package.module:function"),
        ("session", "os:sep", "package.module:function"),
        ("session", "os", "package.module:function"),
        ("session", "a b", "package.module:function"),
        ("trusted_origins", "*", "would disable the CSRF check"),
        ("trusted_origins", "a.example", "origins such as"),
    ],
)
def test_bad_settings_stop_the_start(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    """An unknown or invalid setting is refused with its name and the accepted values."""
    with pytest.raises(SettingError) as caught:
        SessionSite(tmp_path / "pool", **{name: value})
    assert name in str(caught.value)
    assert sentence in str(caught.value)


def test_the_settings_are_documented() -> None:
    """The table in docs/attachments.txt names each setting of session attachments."""
    import dataclasses

    from fileupload.apps.session_attachments.settings import SessionSettings
    from fileupload.settings import Settings

    text = (Path(__file__).parents[4] / "docs" / "attachments.txt").read_text(encoding="utf-8")
    own = {field.name for field in dataclasses.fields(SessionSettings)} - {
        field.name for field in dataclasses.fields(Settings)
    }
    assert own <= set(re.findall(r"^``(\w+)``", text, re.MULTILINE))
