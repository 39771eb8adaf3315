"""Plain HTML forms in a real Chromium: pages in older charsets, files that are left out, files of one name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Page

from fileupload import SessionAttachments, UploadMiddleware
from tests.support.threaded_server import served

OpenPage = Callable[..., Page]


class FormSite:
    """A page in a charset, whose form posts to the middleware; the app answers with the descriptor."""

    def __init__(self, directory: Path, charset: str, fields: str) -> None:
        self._charset, self._fields = charset, fields
        self.middleware = UploadMiddleware(self._app, directory=str(directory), durable=False, min_free_space=0)

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "fileupload.bucket" in environ:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]
        start_response("200 OK", [("Content-Type", f"text/html; charset={self._charset}")])
        action = f"/upload?X-Progress-ID={self.middleware.manager.create_identifier()}"
        page = f"""<!doctype html><title>Form</title><form method="post" enctype="multipart/form-data"
            action="{action}">{self._fields}<button>Send</button></form>"""
        return [page.encode(self._charset)]


def send(page: Page) -> dict[str, Any]:
    """Submit the form; return the descriptor that the app got, or the problem."""
    with page.expect_navigation():
        page.locator("button").click()
    found: dict[str, Any] = json.loads(page.inner_text("body"))
    return found


@pytest.mark.parametrize(
    ("charset", "text"), [("iso-8859-1", "Grüße für 5 €"), ("gbk", "文件"), ("shift_jis", "表"), ("utf-8", "Ä 文")]
)
def test_a_page_in_an_older_charset(open_page: OpenPage, tmp_path: Path, charset: str, text: str) -> None:
    """The first field _charset_, which the browser fills in, makes names and texts readable."""
    fields = '<input type="hidden" name="_charset_"><input name="text"><input type="file" name="file">'
    site = FormSite(tmp_path / "pool", charset, fields)
    with served(site.middleware) as url:
        page = open_page(url)
        page.locator("[name=text]").fill(text)
        page.locator("[name=file]").set_input_files(FilePayload(name=f"{text}.txt", mimeType="", buffer=b"x"))
        found = send(page)
    assert (found["fields"]["text"], found["filename"], found["content-type"]) == ([text], f"{text}.txt", "text/plain")


def test_a_page_in_an_older_charset_without_the_field(open_page: OpenPage, tmp_path: Path) -> None:
    """Without _charset_, the browser shows a sentence that says what the page lacks."""
    site = FormSite(tmp_path / "pool", "iso-8859-1", '<input name="text"><input type="file" name="file">')
    with served(site.middleware) as url:
        page = open_page(url)
        page.locator("[name=text]").fill("é")
        with page.expect_navigation():
            page.locator("button").click()
        assert "is not in utf-8" in page.inner_text("body").lower()
        assert "_charset_" in page.inner_text("body")


def test_a_file_that_is_left_out(open_page: OpenPage, tmp_path: Path) -> None:
    """The app gets the text of a form whose file input is empty."""
    site = FormSite(tmp_path / "pool", "utf-8", '<input name="story"><input type="file" name="picture">')
    with served(site.middleware) as url:
        page = open_page(url)
        page.locator("[name=story]").fill("A long story")
        found = send(page)
    assert (found["state"], found["files"], found["fields"]) == ("done", [], {"story": ["A long story"]})


def test_photos_of_one_name(open_page: OpenPage, tmp_path: Path) -> None:
    """Photos that a phone calls image.jpg are all in the bundle."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [
            b'<!doctype html><form method="post" enctype="multipart/form-data" action="/attachments/letter/">'
            b'<input type="file" name="f" multiple><button>Send</button></form>'
        ]

    component = SessionAttachments(app, directory=str(tmp_path / "pool"), durable=False, min_free_space=0)
    photos = [FilePayload(name="image.jpg", mimeType="image/jpeg", buffer=str(n).encode()) for n in range(3)]
    with served(component) as url:
        page = open_page(url)
        page.locator("[name=f]").set_input_files(photos)
        listed = send(page)
        contents = [page.request.get(f"{url}/attachments/letter/{each['name']}/").body() for each in listed]  # type: ignore[index]
    assert [each["name"] for each in listed] == ["image.jpg", "image (2).jpg", "image (3).jpg"]  # type: ignore[index]
    assert contents == [b"0", b"1", b"2"]
