"""Session attachments in a real Chromium: the session cookie, forms, and the handling of cross-origin pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fileupload import SessionAttachments
from fileupload.apps.session_attachments.bundles import remove_outdated
from tests.support.session_client import check_tidy
from tests.support.threaded_server import served

OpenPage = Callable[..., Page]
Serve = Callable[..., str]

PAGE = """<!doctype html><meta charset="utf-8"><title>Letter</title>
<form method="post" enctype="multipart/form-data" action="{action}">
<input type="file" name="first" multiple><input type="file" name="second"><button>Send</button></form>"""

SEND = """async ([address, credentials]) => {
    const form = new FormData();
    form.append('f', new File(['from a script'], 'script ü.txt', {type: 'text/plain'}));
    try {
        const answer = await fetch(address, {method: 'POST', body: form, credentials});
        return [answer.status, await answer.json()];
    } catch (error) {
        return [0, String(error)];
    }
}"""


@pytest.fixture
def origins() -> list[tuple[str | None, str | None]]:
    """Return the headers Origin and Sec-Fetch-Site of the uploads that the sites receive."""
    return []


@pytest.fixture
def serve(tmp_path: Path, origins: list[tuple[str | None, str | None]]) -> Iterator[Serve]:
    """Start a site with attachments, whose page has a form that posts to *action*."""
    sites: list[Any] = []

    def run(action: str = "/attachments/letter/", policy: str = "", **settings: Any) -> str:
        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            headers = [("Content-Type", "text/html; charset=utf-8"), ("Referrer-Policy", policy)]
            start_response("200 OK", headers if policy else headers[:1])
            return [PAGE.format(action=action).encode()]

        directory = tmp_path / f"pool-{len(sites)}"
        component = SessionAttachments(app, directory=str(directory), durable=False, min_free_space=0, **settings)
        sites.append((component, directory))

        def noting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] == "POST":
                origins.append((environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")))
            return component(environ, start_response)

        return running.enter_context(served(noting))

    with ExitStack() as running:
        yield run
    for component, directory in sites:
        check_tidy(component.manager.pool, directory)
        list(remove_outdated(component.manager.pool, -1))
        assert list(component.manager.pool.buckets()) == []


def names(page: Page, base: str) -> list[str]:
    """Return the names of the files in the session's bundle, as the page's browser sees them."""
    found: list[str] = page.evaluate(
        "async address => (await (await fetch(address)).json()).map(each => each.name)", f"{base}/attachments/letter/"
    )
    return found


def files(*given: str) -> list[Any]:
    return [{"name": name, "mimeType": "text/plain", "buffer": name.encode()} for name in given]


def test_files_of_forms_and_scripts_are_in_the_bundle_of_their_session(serve: Serve, open_page: OpenPage) -> None:
    """Files sent by a form or a script, with names in any script, are in the bundle of their own session only."""
    base = serve()
    page = open_page(base)
    page.set_input_files("[name=first]", files("brief ü.txt", '"quotes".txt', "🎉.txt", "100%.txt"))
    page.click("button")
    expect(page.locator("body")).to_contain_text("brief")
    page.goto(base)
    status, sent = page.evaluate(SEND, [f"{base}/attachments/letter/", "same-origin"])
    assert (status, [each["name"] for each in sent]) == (200, ["script ü.txt"])
    assert names(page, base) == ["brief ü.txt", '"quotes".txt', "🎉.txt", "100%.txt", "script ü.txt"]
    assert page.evaluate("document.cookie") == ""
    assert names(open_page(base), base) == []


def test_a_same_origin_form_with_a_null_origin_is_accepted(
    serve: Serve, open_page: OpenPage, origins: list[tuple[str | None, str | None]]
) -> None:
    """A page with Referrer-Policy: no-referrer sends Origin: null; the browser says that it is the site's own."""
    base = serve(policy="no-referrer")
    page = open_page(base)
    page.set_input_files("[name=first]", files("hidden.txt"))
    page.click("button")
    expect(page.locator("body")).to_contain_text("hidden.txt")
    assert origins == [("null", "same-origin")]
    page.goto(base)
    assert names(page, base) == ["hidden.txt"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["other site", "other port"])
def test_a_cross_site_form_with_a_null_origin_is_refused(
    serve: Serve, open_page: OpenPage, origins: list[tuple[str | None, str | None]], host: str
) -> None:
    """The same header from the page of another origin is refused, since the browser says where it comes from."""
    base = serve()
    evil = serve(action=f"{base}/attachments/letter/", policy="no-referrer").replace("127.0.0.1", host)
    page = open_page(evil)
    page.set_input_files("[name=first]", files("planted.txt"))
    page.click("button")
    expect(page.locator("body")).to_contain_text("Attachments can only be changed by pages of this site")
    assert origins == [("null", "cross-site" if host == "localhost" else "same-site")]


def test_a_download_is_saved(serve: Serve, open_page: OpenPage, tmp_path: Path) -> None:
    """The browser saves an attachment under its name, and does not show it."""
    base = serve()
    page = open_page(base)
    page.evaluate(SEND, [f"{base}/attachments/letter/", "same-origin"])
    with page.expect_download() as started:
        page.evaluate("address => { location.href = address }", f"{base}/attachments/letter/script%20%C3%BC.txt/")
    started.value.save_as(tmp_path / "saved")
    assert started.value.suggested_filename == "script ü.txt"
    assert (tmp_path / "saved").read_text() == "from a script"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["other site", "other port"])
def test_a_page_of_another_origin_cannot_access_a_bundle(serve: Serve, open_page: OpenPage, host: str) -> None:
    """A page of another origin can neither add, remove nor list files of a visitor's bundle, by form or by script."""
    base = serve()
    evil = serve(action=f"{base}/attachments/letter/").replace("127.0.0.1", host)
    page = open_page(base)
    page.evaluate(SEND, [f"{base}/attachments/letter/", "same-origin"])
    page.goto(evil)
    page.set_input_files("[name=first]", files("planted.txt"))
    page.click("button")
    expect(page.locator("body")).to_contain_text("Attachments can only be changed by pages of this site")
    page.goto(evil)
    assert page.evaluate(SEND, [f"{base}/attachments/letter/", "include"])[0] == 0
    for path in ("letter/delete/", "letter/script%20%C3%BC.txt/delete/"):
        page.evaluate(
            "address => fetch(address, {method: 'POST', mode: 'no-cors', credentials: 'include'})",
            f"{base}/attachments/{path}",
        )
    page.goto(base)
    assert names(page, base) == ["script ü.txt"]


def test_a_page_of_a_trusted_origin_can_access_a_bundle(serve: Serve, open_page: OpenPage) -> None:
    """A page of a trusted origin at another port may send requests with the visitor's cookie and read the answers."""
    friend = serve()
    base = serve(trusted_origins=friend)
    page = open_page(base)
    page.evaluate(SEND, [f"{base}/attachments/letter/", "same-origin"])
    page.goto(friend)
    status, sent = page.evaluate(SEND.replace("script ü", "friend"), [f"{base}/attachments/letter/", "include"])
    assert (status, [each["name"] for each in sent]) == (200, ["friend.txt"])
    page.goto(base)
    assert names(page, base) == ["script ü.txt", "friend.txt"]


# Sends several files at the same time, each in a request of its own, and then requests the list.
SEND_TOGETHER = """async address => {
    const send = (number) => fetch(`${address}${number}.txt/`, {method: 'PUT', body: String(number)});
    const answers = await Promise.all([...Array(6).keys()].map(send));
    const listed = await (await fetch(address)).json();
    return [answers.map(answer => answer.status), listed.map(({name}) => name).sort()];
}"""
TOGETHER = [[200] * 6, [f"{number}.txt" for number in range(6)]]


def test_the_first_uploads_of_a_page_end_in_one_session(serve: Serve, open_page: OpenPage) -> None:
    """The page has set the cookie, so that uploads at the same time, the first ones of a browser, share a session."""
    base = serve()
    assert open_page(base).evaluate(SEND_TOGETHER, f"{base}/attachments/letter/") == TOGETHER


def test_a_page_from_a_cache_begins_the_session_itself(serve: Serve, open_page: OpenPage) -> None:
    """A page that has not set the cookie requests the list first, as documented; without that, files are lost."""
    base = serve(session_pages=False)
    page = open_page(base)
    page.evaluate("address => fetch(address)", f"{base}/attachments/letter/")
    assert page.evaluate(SEND_TOGETHER, f"{base}/attachments/letter/") == TOGETHER
