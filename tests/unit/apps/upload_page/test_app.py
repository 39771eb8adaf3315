"""The upload page of the dedicated server, and its receipts."""

import html
import json
import re
from typing import Any
from urllib.parse import urljoin

import pytest
import webtest

from fileupload.deploy import make_server_app
from fileupload.formatting import format_size
from fileupload.settings import Settings

PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def make(directory: str, **settings: Any) -> webtest.TestApp:
    return webtest.TestApp(make_server_app(Settings.parse({"directory": directory, **settings})))


def action(answer: Any) -> str:
    """Return the target of the page's form, resolved as browsers do it, without scheme and host."""
    found = re.search(r'<form[^>]* action="([^"]*)"', answer.text)
    assert found is not None
    url: str = urljoin(answer.request.url, html.unescape(found[1]))
    return url.removeprefix(answer.request.host_url)


def test_the_page_is_not_cached_and_runs_only_its_own_scripts(pool_directory: str) -> None:
    """The page runs only its own scripts, is not cached, and all the files that it links exist."""
    app = make(pool_directory, anonymous=True)
    page = app.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    linked = re.findall(r'(?:src|href)="([^":]+)"', page.text)
    assert sorted(linked) == ["./upload/fileupload.js", "static/fileupload.css", "static/page.js"]
    for address in linked:
        asset = app.get("/" + address.removeprefix("/"))
        assert asset.headers["X-Content-Type-Options"] == "nosniff"
        app.get("/" + address.removeprefix("/"), headers={"If-None-Match": asset.headers["ETag"]}, status=304)


@pytest.mark.parametrize("path", ["/nothing", "/static/", "/static/../cli.py", "/static/upload.html", "/static/%00"])
def test_other_urls_and_templates_are_not_found(pool_directory: str, path: str) -> None:
    """Other URLs, and the templates, are not found."""
    make(pool_directory).get(path, status=404)


def test_a_plain_form_gets_a_page_that_scripts_can_read(pool_directory: str) -> None:
    """A form works without JavaScript; the response page has the escaped status in data attributes."""
    app = make(pool_directory, anonymous=True)
    name = "<b>&\"'.txt"
    answer = app.post(action(app.get("/")), upload_files=[("file", "x", b"<script>")], headers=PAGE)
    assert answer.content_type == "text/html"
    found = re.search(r'data-fileupload-status="([^"]*)"', answer.text)
    assert found is not None
    assert json.loads(html.unescape(found[1]))["files"][0]["size"] == 8
    answer = app.put(action(app.get("/")) + "&filename=%3Cb%3E%26%22%27.txt", b"x", headers=PAGE)
    assert html.escape(name) in answer.text
    assert "<b>" not in answer.text


def test_a_script_gets_json(pool_directory: str) -> None:
    """A script gets the descriptor as JSON."""
    app = make(pool_directory, anonymous=True)
    answer = app.put(action(app.get("/")), b"x", headers={"Accept": "application/json"})
    assert answer.json["state"] == "done"


def test_the_page_explains_a_missing_identifier(pool_directory: str) -> None:
    """If the app issues the identifiers, the page takes one from its URL, or shows an explanation."""
    app = make(pool_directory)
    assert re.search(r"<form[^>]* hidden>", app.get("/").text)
    identifier = app.app.manager.create_identifier()
    page = app.get(f"/?X-Progress-ID={identifier}")
    assert not re.search(r"<form[^>]* hidden>", page.text)
    app.put(action(page), b"x")
    assert re.search(r"<form[^>]* hidden>", app.get("/?X-Progress-ID=forged").text)


def test_a_limit_of_0_bytes_is_shown(pool_directory: str) -> None:
    """A limit of 0 bytes is shown as a limit; without a limit none is shown."""
    app = make(pool_directory)
    identifier = app.app.manager.create_identifier(max_size=0)
    page = app.get(f"/?X-Progress-ID={identifier}").text
    assert 'data-max-size="0" data-max-size-text="0 bytes"' in page
    unlimited = make(pool_directory, max_size=0)
    page = unlimited.get(f"/?X-Progress-ID={unlimited.app.manager.create_identifier()}").text
    assert 'data-max-size="" data-max-size-text=""' in page


def test_the_server_works_under_a_prefix(pool_directory: str) -> None:
    """Under any prefix, the page posts to its own URL, also without a trailing slash."""
    app = make(pool_directory, anonymous=True)
    prefix = {"SCRIPT_NAME": "/files"}
    page = app.get("/", extra_environ=prefix)
    assert action(page).startswith("/files/upload?")
    request = webtest.TestRequest.blank("/", prefix)
    request.path_info, request.query_string = "", "a=b"
    assert app.do_request(request, 302).location == "http://localhost/files/?a=b"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KB"), (1536, "1.5 KB"), (5 << 30, "5 GB"), (1 << 60, "1024 PB")],
)
def test_sizes_are_shown_in_the_unit_that_fits(size: int, text: str) -> None:
    """Sizes are shown in the unit that fits, with the same units as in the settings."""
    assert format_size(size) == text


def test_the_server_demands_a_file(pool_directory: str) -> None:
    """The dedicated server refuses a form without a file, and accepts one with it afterwards."""
    app = make(pool_directory, anonymous=True)
    url = action(app.get("/"))
    answer = app.post(url, upload_files=[("file", "", b"")], headers=PAGE, status=400)
    assert "No file was sent" in answer.text
    assert app.post(url, upload_files=[("file", "a.txt", b"x")]).json["size"] == 1


def test_the_server_accepts_forms_without_a_file_by_its_setting(pool_directory: str) -> None:
    """With require_file = false, an app can use the server for forms in which the file may be left out."""
    app = make(pool_directory, anonymous=True, require_file="false")
    identifier = app.post("/upload/identifier").json["identifier"]
    url = f"/upload?X-Progress-ID={identifier}"
    answer = app.post(url, {"story": "text"}, upload_files=[("file", "", b"")], headers=PAGE)
    assert "No file was sent." in answer.text
    status = app.get(f"/upload/status?X-Progress-ID={identifier}").json
    assert (status["state"], status["files"], status["fields"]) == ("done", [], {"story": ["text"]})
