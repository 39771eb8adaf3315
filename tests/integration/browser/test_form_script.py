"""Forms with the attribute data-fileupload in a real Chromium: fileupload.js sends them, and shows what happens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from fileupload import UploadMiddleware
from tests.support.accessibility import violations
from tests.support.chromium import slow_down, wait_on
from tests.support.folders import files_in
from tests.support.threaded_server import served

OpenPage = Callable[..., Page]
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Form</title>
<script src="{script}" defer></script><main><h1>Form</h1>
<form data-fileupload action="{action}" method="post" enctype="multipart/form-data" {attributes}>
<label>Title <input name="title" value="Ä title"></label> <label>File <input type="file" name="file" multiple></label>
<button>Send</button> <button type="reset">Cancel</button>
<progress aria-label="Progress" hidden></progress> <output></output></form></main></html>"""
MEGABYTE = 1 << 20


@dataclass
class App:
    """An application with a form, behind the middleware.

    :ivar attributes: further attributes of the form.
    :ivar answer: status, content type and text of the answer to an upload; or the address to which it redirects.
    :ivar descriptors: the uploads that it has received.
    :ivar finished: the fields of the requests to ``/finished``.
    """

    pool: Path
    attributes: str = ""
    answer: tuple[str, str, str] = ("303 See Other", "text/plain", "/thanks?for=it")
    descriptors: list[dict[str, Any]] = field(default_factory=list)
    finished: list[dict[str, list[str]]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if "fileupload.bucket" in environ:
            self.descriptors.append(json.load(environ["wsgi.input"]))
            return self._answer(start_response)
        if path == "/finished":
            self.finished.append(parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()))
            return self._answer(start_response)
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [b"<!doctype html><title>Thanks</title>" if path == "/thanks" else self._form(environ).encode()]

    def _form(self, environ: dict[str, Any]) -> str:
        uploads = environ["fileupload"]
        address = uploads.upload_url or "/upload"
        action = f"{address}?X-Progress-ID={uploads.create_identifier()}"
        return FORM.format(script=f"{address}/fileupload.js", action=action, attributes=self.attributes)

    def _answer(self, start_response: Any) -> list[bytes]:
        status, content_type, text = self.answer
        headers = [("Location", text)] if status.startswith("3") else [("Content-Type", content_type)]
        start_response(status, headers)
        return [text.encode()]

    def leftovers(self) -> list[Path]:
        """Return the files of uploads in the pool."""
        return [path for path in files_in(self.pool) if path.parent != self.pool and path.name != "lock"]


Serve = Callable[..., tuple[App, str]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start an app behind the middleware, with settings; return it and its address."""
    with ExitStack() as stack:

        def run(**settings: Any) -> tuple[App, str]:
            app = App(tmp_path / "pool")
            common = {"directory": str(app.pool), "durable": False, "min_free_space": 0, **settings}
            return app, stack.enter_context(served(UploadMiddleware(app, **common)))

        yield run


def payload(name: str, size: int) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": bytes(size)}


def send(page: Page, *files: Any) -> None:
    page.set_input_files("[name=file]", list(files))
    page.get_by_role("button", name="Send").click()


def test_the_browser_goes_where_the_answer_redirects(serve: Serve, open_page: OpenPage) -> None:
    """All fields and files of the form reach the app, and the browser follows the redirect."""
    app, url = serve()
    page = open_page(url)
    send(page, payload("ü.bin", 10), payload("two.bin", 20))
    page.wait_for_url("**/thanks?for=it")
    [descriptor] = app.descriptors
    assert [(file["filename"], file["size"]) for file in descriptor["files"]] == [("ü.bin", 10), ("two.bin", 20)]
    assert descriptor["fields"] == {"title": ["Ä title"]}


def test_progress_is_shown_in_tenths(serve: Serve, open_page: OpenPage) -> None:
    """The bar shows the sent bytes; the message changes at each tenth; both are accessible."""
    _, url = serve()
    page = open_page(url)
    speed_up = slow_down(page)
    page.evaluate(
        """() => {
            window.seen = [];
            const output = document.querySelector('output');
            new MutationObserver(() => seen.push(output.value)).observe(output, {childList: true});
        }"""
    )
    send(page, payload("large.bin", 3 * MEGABYTE))
    wait_on(page, lambda: page.evaluate("document.querySelector('progress').position > 0"))
    expect(page.locator("output")).to_have_text(re.compile(r"^\d?0 % of large\.bin$"))
    assert violations(page) == []
    seen = page.evaluate("seen")
    speed_up()
    page.wait_for_url("**/thanks?for=it")
    assert seen[0] == "Sending…"
    assert len(seen) == len(set(seen)) <= 12


def test_a_refusal_is_shown_and_the_form_can_be_sent_again(serve: Serve, open_page: OpenPage) -> None:
    """The server's sentence is shown as text, and another file is accepted afterwards."""
    _, url = serve(max_size=1)
    page = open_page(url)
    send(page, payload("large.bin", 2 * MEGABYTE))
    expect(page.locator("output")).to_contain_text("At most 1 MB")
    expect(page.locator("progress")).to_be_hidden()
    send(page, payload("small.bin", 10))
    page.wait_for_url("**/thanks?for=it")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("200 OK", "text/plain", "Thank <b>you</b>."), "Thank <b>you</b>."),
        (("200 OK", "text/html", "<script>document.title = 'no'</script>"), "The upload is complete."),
        (("400 Bad Request", "text/html", "<b>no</b>"), "The server answers 400."),
        (("409 Conflict", "application/problem+json", '{"detail": "<i>No.</i>"}'), "<i>No.</i>"),
    ],
)
def test_an_answer_without_redirect_is_shown_as_text(
    serve: Serve, open_page: OpenPage, answer: tuple[str, str, str], message: str
) -> None:
    """The page stays, shows a text or a general message, and never runs the answer as HTML."""
    app, url = serve()
    app.answer = answer
    page = open_page(url)
    send(page, payload("a.bin", 10))
    expect(page.locator("output")).to_have_text(message)
    expect(page).to_have_title("Form")


def test_reset_cancels_the_upload(serve: Serve, open_page: OpenPage) -> None:
    """The reset button stops an upload and removes it; the same form can be sent again."""
    app, url = serve()
    page = open_page(url)
    speed_up = slow_down(page)
    send(page, payload("large.bin", 3 * MEGABYTE))
    wait_on(page, app.leftovers)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("output")).to_have_text("The upload is cancelled.")
    wait_on(page, lambda: not app.leftovers())
    speed_up()
    send(page, payload("small.bin", 10))
    page.wait_for_url("**/thanks?for=it")
    assert [descriptor["filename"] for descriptor in app.descriptors] == ["small.bin"]


def test_a_dedicated_server_receives_and_the_app_is_told(serve: Serve, open_page: OpenPage) -> None:
    """With data-fileupload-finish, the identifier and the text fields are posted to the app after the upload."""
    receiver, address = serve(cors_origins="*")
    receiver.answer = ("200 OK", "text/plain", "received")
    app, url = serve(upload_url=address)
    app.attributes = 'data-fileupload-finish="/finished"'
    page = open_page(url)
    send(page, payload("a.bin", 10))
    page.wait_for_url("**/thanks?for=it")
    [descriptor] = receiver.descriptors
    assert app.descriptors == []
    assert app.finished == [{"title": ["Ä title"], "identifier": [descriptor["identifier"]]}]
