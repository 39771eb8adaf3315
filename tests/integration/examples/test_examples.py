"""Each example, run under a real server and used with a browser or a client that fills in its form."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urljoin

import pytest
import requests

from tests.integration.examples.example_form import send_form
from tests.support.accessibility import overflow, violations
from tests.support.chromium import open_context
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.integration.examples.conftest import ExampleSite

EXAMPLES = Path(__file__).parents[3] / "examples"
FILENAME = "Übergröße – 大きなファイル 🎈.bin"
TITLE = 'Ein <b>Titel</b> & "mehr" für 大'
SIZE = 5_000_011

# Requests the status until it is killed, in a process of its own; prints each answer as a line.
POLL = """
import sys, time, urllib.error, urllib.request
while True:
    try:
        answer = urllib.request.urlopen(sys.argv[1], timeout=120).read().decode()
    except urllib.error.HTTPError as error:
        answer = error.read().decode()
    print(answer, flush=True)
    time.sleep(0.03)
"""


Start = Callable[..., "ExampleSite"]
Launch = Callable[..., str]


class Page(HTMLParser):
    """The form, links and messages of an HTML page."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self.url = url
        self.form: dict[str, str] = {}
        self.hidden: dict[str, str] = {}
        self.scripts: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self._inside: set[str] = set()
        self.feed(text)

    @property
    def action(self) -> str:
        return urljoin(self.url, self.form["action"])

    @property
    def identifier(self) -> str:
        return self.action.partition("?X-Progress-ID=")[2]

    @property
    def status_url(self) -> str:
        return self.action.replace("/upload?", "/upload/status?")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside.add(tag)
        if tag == "form":
            self.form = values
        elif tag == "input" and values.get("type") == "hidden":
            self.hidden[values["name"]] = values["value"]
        elif tag == "script":
            self.scripts.append(urljoin(self.url, values["src"]))
        elif tag == "a":
            self.links.append(urljoin(self.url, values["href"]))
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside.discard(tag)

    def handle_data(self, data: str) -> None:
        assert "script" not in self._inside or not data.strip(), "an inline script"
        if "td" in self._inside:
            self.rows[-1][-1] += data.strip()


class BodyWithPause(io.BytesIO):
    """A body whose second half is sent when the progress of the first one has been observed."""

    def __init__(self, body: bytes, is_seen: Callable[[], bool]) -> None:
        super().__init__(body)
        self._half = len(body) // 2
        self._is_seen = is_seen
        self.seen = False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.seen and self.tell() >= self._half:
            wait_until(self._is_seen)
            self.seen = True
        return super().read(size)


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(7).randbytes(SIZE)


def visit(browser: requests.Session, url: str) -> Page:
    response = browser.get(url, timeout=PATIENCE)
    assert response.status_code == 200
    return Page(response.url, response.text)


def send(browser: requests.Session, page: Page, content: bytes, **options: Any) -> requests.Response:
    """Send the form of *page*, with its fields filled in."""
    fields = {**page.hidden, "title": TITLE}
    return browser.post(page.action, fields, files={"file": (FILENAME, content)}, timeout=PATIENCE, **options)


def assert_listed(browser: requests.Session, url: str, content: bytes) -> None:
    """Check that the one upload is listed, and is downloaded as it was sent."""
    page = visit(browser, url)
    digest = hashlib.sha256(content).hexdigest()
    assert page.rows[1:] == [[TITLE, FILENAME, str(len(content)), digest]]
    download = browser.get(page.links[0], timeout=PATIENCE)
    assert hashlib.sha256(download.content).hexdigest() == digest
    disposition = download.headers["Content-Disposition"]
    assert disposition.startswith("attachment")
    assert quote(FILENAME, safe="") in disposition
    assert download.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.full_with(name="django-waitress")
@pytest.mark.full_with(name="pyramid-granian")
@pytest.mark.parametrize("name", ["flask", "django", "django-waitress", "pyramid", "pyramid-granian"])
def test_an_upload_by_form_is_listed_and_leaves_the_pool(
    name: str, start: Start, browser: requests.Session, content: bytes
) -> None:
    """A file sent with the form is listed, is downloaded byte for byte, and has left the pool."""
    site = start(name)
    page = visit(browser, site.url)
    assert page.form["method"] == "post"
    assert page.form["enctype"] == "multipart/form-data"
    response = send(browser, page, content)
    assert (response.status_code, response.url) == (200, f"{site.url}/entries")
    assert_listed(browser, response.url, content)
    assert site.in_pool() == []
    assert browser.get(page.status_url, timeout=PATIENCE).json()["state"] == "unknown"


@pytest.mark.full_with(name="pyramid-granian")
@pytest.mark.parametrize("name", ["flask", "django", "pyramid", "pyramid-granian"])
def test_progress_is_seen_from_another_process(
    name: str, start: Start, browser: requests.Session, content: bytes
) -> None:
    """During an upload, another process reads the number of received bytes at the status address."""
    site = start(name)
    page = visit(browser, site.url)
    form = requests.Request("POST", page.action, data=page.hidden, files={"file": (FILENAME, content)}).prepare()
    body, kind = form.body, form.headers["Content-Type"]
    assert isinstance(body, bytes)
    seen: list[dict[str, Any]] = []
    poller = subprocess.Popen([sys.executable, "-c", POLL, page.status_url], stdout=subprocess.PIPE, text=True)

    def is_seen() -> bool:
        assert poller.stdout
        seen.append(json.loads(next(line for line in poller.stdout if line.strip())))
        return bool(seen[-1]["state"] == "uploading" and seen[-1]["received"] > len(body) // 4)

    try:
        watched = BodyWithPause(body, is_seen)
        response = browser.post(page.action, data=watched, headers={"Content-Type": kind}, timeout=PATIENCE)
    finally:
        poller.kill()
        poller.communicate()
    assert watched.seen
    assert response.url == f"{site.url}/entries"
    assert seen[-1]["filename"] == FILENAME
    assert seen[-1]["size"] == len(body)
    received = [status["received"] for status in seen if status["state"] == "uploading"]
    assert received == sorted(received)


@pytest.mark.parametrize("name", ["flask", "django", "pyramid"])
def test_a_descriptor_is_not_taken_from_a_client(name: str, start: Start, browser: requests.Session) -> None:
    """JSON that a client posts to the view instead of an upload is refused, and nothing is listed."""
    site = start(name)
    forged = {"state": "done", "filename": "x", "size": 1, "sha256": "0" * 64, "fields": {"title": ["x"]}}
    response = browser.post(f"{site.url}/upload", json=forged, timeout=PATIENCE)
    assert response.status_code == 400
    assert visit(browser, f"{site.url}/entries").rows == [[]]


@pytest.mark.parametrize("name", ["flask", "django", "pyramid"])
def test_a_plain_body_is_listed_under_its_filename(
    name: str, start: Start, browser: requests.Session, content: bytes
) -> None:
    """An upload by curl -T has no title, so it is listed under its filename."""
    site = start(name)
    page = visit(browser, site.url)
    headers = {"X-CSRFToken": page.hidden.get("csrfmiddlewaretoken", "")}
    response = browser.put(
        page.action, content, params={"filename": FILENAME}, headers=headers, allow_redirects=False, timeout=PATIENCE
    )
    assert response.status_code in {302, 303}
    assert visit(browser, f"{site.url}/entries").rows[1][:3] == [FILENAME, FILENAME, str(SIZE)]
    assert site.in_pool() == []


def test_django_refuses_a_form_without_its_token(start: Start, browser: requests.Session) -> None:
    """A valid identifier is not enough: the form must hold the CSRF token of the visitor's own cookie."""
    site = start("django")
    for token in (None, "", "x" * 64):
        page = visit(browser, site.url)
        page.hidden = {} if token is None else {"csrfmiddlewaretoken": token}
        assert send(browser, page, b"content").status_code == 403, token
        assert visit(browser, f"{site.url}/entries").rows == [[]]
        assert site.in_pool() == []


def test_django_refuses_a_token_of_another_visitor(start: Start, browser: requests.Session) -> None:
    """A form with the CSRF token of another visitor is refused."""
    site = start("django")
    visit(browser, site.url)
    with requests.Session() as other:
        other.trust_env = False
        assert send(browser, visit(other, site.url), b"content").status_code == 403
    assert site.in_pool() == []


@pytest.fixture
def start_flask_with_server(start: Start, launch: Launch, need: Callable[..., None], tmp_path: Path) -> Start:
    """Start a dedicated upload server, and the Flask example that uses it."""

    def run(origin: str) -> ExampleSite:
        need("granian")
        pool = tmp_path / "flask/instance/pool"
        command = ("-m", "fileupload", "serve", "--port", "0", "--directory", str(pool), "--cors-origin", origin)
        server = launch(command, tmp_path)
        return start("flask", FLASK_FILEUPLOAD_UPLOAD_URL=f"{server}/upload")

    return run


def test_flask_leaves_uploads_to_a_dedicated_server(
    start_flask_with_server: Start, browser: requests.Session, content: bytes
) -> None:
    """With upload_url set, another server receives the file, and the app gets it from the shared pool."""
    origin = "http://app.example"
    site = start_flask_with_server(origin)
    page = visit(browser, site.url)
    assert not page.action.startswith(site.url)
    finish, fields = urljoin(page.url, page.form["data-fileupload-finish"]), {"identifier": page.identifier}
    assert browser.post(finish, fields, timeout=PATIENCE).status_code == 404
    response = send(browser, page, content, headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.json()["state"] == "done"
    response = browser.post(finish, fields, timeout=PATIENCE)
    assert response.url == f"{site.url}/entries"
    assert_listed(browser, response.url, content)
    assert site.in_pool() == []


@pytest.mark.parametrize("name", ["flask", "django", "pyramid"])
def test_the_script_of_the_form_is_served(name: str, start: Start, browser: requests.Session) -> None:
    """The form's only script is that of the middleware, below the address to which the form posts."""
    site = start(name)
    (script,) = visit(browser, site.url).scripts
    assert script == f"{site.url}/upload/fileupload.js"
    response = browser.get(script, timeout=PATIENCE)
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert response.content == files("fileupload").joinpath("static/fileupload.js").read_bytes()


def test_the_examples_have_one_style() -> None:
    """Each example with a form has its own copy of the style sheet, and the copies are equal."""
    first, *others = [path.read_text() for path in EXAMPLES.rglob("style.css") if "s3fileup" not in path.parts]
    assert others == [first, first]


@pytest.mark.parametrize("name", ["flask", "django", "django-attachments", "pyramid"])
def test_the_pages_suit_phones_and_pass_axe(name: str, start: Start, chromium: Browser) -> None:
    """On a phone in light and dark mode, no page scrolls sideways or violates a rule of axe-core."""
    site = start(name)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = open_context(chromium, viewport={"width": 360, "height": 640}, color_scheme=scheme)
        page = context.new_page()
        page.goto(site.url)
        assert page.locator("meta[name=viewport]").count() == 1
        assert (violations(page), overflow(page)) == ([], 0)
        if name != "django-attachments":
            page.fill("[name=title]", "A title")
            page.set_input_files("[name=file]", {"name": "n" * 100, "mimeType": "text/plain", "buffer": b"x"})
            page.click("[type=submit]")
            page.wait_for_url("**/entries")
            assert (violations(page), overflow(page)) == ([], 0)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert [int(part) > 127 for part in re.findall(r"\d+", ground)] == [scheme == "light"] * 3
        context.close()


@pytest.fixture
def in_chromium(chromium: Browser, tmp_path: Path, content: bytes) -> Callable[..., dict[str, Any]]:
    """Send *content* with the form of a site in Chromium, slowly or not; return the messages and the resulting page."""
    file = tmp_path / FILENAME
    file.write_bytes(content)

    def run(site: ExampleSite, *, slowly: bool = False) -> dict[str, Any]:
        seen = send_form(chromium, site.url, str(file), slowly=slowly)
        assert seen["errors"] == []
        return seen

    return run


def assert_progress_was_shown(seen: dict[str, Any], content: bytes) -> None:
    assert any(message.endswith(f" % of {FILENAME}") for message in seen["messages"])
    assert seen["url"].endswith("/entries")
    assert FILENAME in seen["text"]
    assert hashlib.sha256(content).hexdigest() in seen["text"]


@pytest.mark.parametrize("name", ["flask", "django", "pyramid"])
def test_the_script_shows_progress(
    name: str, start: Start, in_chromium: Callable[..., dict[str, Any]], content: bytes
) -> None:
    """In a browser the form shows the progress of the upload, and redirects to the list when it is done."""
    assert_progress_was_shown(in_chromium(start(name), slowly=True), content)


def test_the_script_shows_progress_of_a_dedicated_server(
    start_flask_with_server: Start, in_chromium: Callable[..., dict[str, Any]], content: bytes
) -> None:
    """The script shows the progress of an upload to a dedicated server too, and then notifies the app."""
    site = start_flask_with_server("*")
    assert_progress_was_shown(in_chromium(site, slowly=True), content)
    assert site.in_pool() == []


def test_the_script_shows_why_an_upload_was_refused(start: Start, in_chromium: Callable[..., dict[str, Any]]) -> None:
    """The page shows the message of a refusal by the middleware, and stays open."""
    site = start("flask", FLASK_FILEUPLOAD_MAX_SIZE="1")
    seen = in_chromium(site)
    assert seen["url"] == f"{site.url}/"
    assert "At most 1 MB" in seen["messages"][-1]
