"""The upload page and session attachments in a real Chromium, through nginx with TLS and HTTP/2."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.proxy.conftest import Site
from tests.support.chromium import open_context

CONTENT = os.urandom(3 << 20)
SEND = """async address => {
    const form = new FormData();
    form.append('f', new File(['letter'], 'letter.txt'));
    const answer = await fetch(address, {method: 'POST', body: form});
    const listed = await (await fetch(address)).json();
    return [answer.status, listed.map(each => each.name), document.cookie];
}"""


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """Return the page; an error of a script, or an entry in the console such as mixed content, fails the test."""
    context = open_context(chromium, ignore_https_errors=True)
    faults: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(site.url)
    yield page
    context.close()
    assert not faults


def test_the_page_uploads_below_a_prefix_over_http_2(page: Page) -> None:
    """A chosen file is sent below the prefix over HTTP/2, and its row shows the checksum."""
    page.get_by_label("Choose files").set_input_files(
        {"name": "a.bin", "mimeType": "application/x-test", "buffer": CONTENT}
    )
    row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="a.bin", level=3))
    expect(row).to_have_attribute("data-state", "done")
    expect(row.locator("[data-fact=sha256]")).to_have_text(hashlib.sha256(CONTENT).hexdigest())
    protocol = page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
    assert protocol == "h2"


def test_the_browser_keeps_the_session_cookie(page: Page, site: Site) -> None:
    """The cookie is Secure, and is sent with the next request below the prefix."""
    assert page.evaluate(SEND, f"{site.url}attachments/letter/") == [200, ["letter.txt"], ""]
    (cookie,) = page.context.cookies()
    assert (cookie["secure"], cookie["path"]) == (True, site.prefix.removesuffix("/") or "/")
