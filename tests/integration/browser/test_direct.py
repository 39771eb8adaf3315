"""A direct upload by a script in a real Chromium, from a page of another origin than that of the upload server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.direct_site import DirectSite
from tests.support.threaded_server import served

OpenPage = Callable[..., Page]
SIZE = 12 << 20

SEND = """async ([address, identifier, size]) => {
    const bytes = new Uint8Array(size).map((_, at) => at * 7 + (at >> 8));
    const file = new File([bytes], 'photo ü.png', {type: 'image/png'});
    const at = path => `${address}${path}?X-Progress-ID=${encodeURIComponent(identifier)}`;
    const check = async answer => {
        if (!answer.ok) throw new Error((await answer.json()).detail);
        return answer;
    };
    const offer = await (await check(await fetch(at('/direct'), {
        method: 'POST',
        body: JSON.stringify({filename: file.name, 'content-type': file.type, size: file.size}),
    }))).json();
    const parts = await Promise.all(offer.parts.map(async ({number, offset, size, url}) => {
        const answer = await check(await fetch(url, {method: 'PUT', body: file.slice(offset, offset + size)}));
        return {number, etag: answer.headers.get('ETag')};
    }));
    const status = await (await check(await fetch(at('/status')))).json();
    const done = await check(await fetch(at('/direct/complete'), {
        method: 'POST',
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({parts}),
    }));
    return {parts, received: status.received, descriptor: await done.json()};
}"""

REFUSED = """async address => {
    try {
        return (await fetch(address, {method: 'PUT', body: 'x'})).status;
    } catch (error) {
        return String(error);
    }
}"""


@pytest.fixture
def page_url() -> Iterator[str]:
    """Return the address of a page that a separate server serves."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [b"<!doctype html><title>Other</title>"]

    with served(app) as address:
        yield address


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., DirectSite]]:
    """Start an upload server."""
    with ExitStack() as held:

        def run(**settings: Any) -> DirectSite:
            place = {"directory": str(tmp_path / "pool"), "durable": False, "min_free_space": 0}
            return held.enter_context(DirectSite({**place, "direct_part_size": "5M", **settings}).served())

        yield run


def test_a_cross_origin_script_uploads_parts_and_reads_etags(
    serve: Callable[..., DirectSite], open_page: OpenPage, page_url: str
) -> None:
    """A script of another origin sends parts in parallel, reads their ETags and gets the descriptor."""
    site = serve(cors_origins=page_url)
    identifier = site.identifier()
    sent = open_page(page_url).evaluate(SEND, [f"{site.base}/upload", identifier, SIZE])
    assert [part["number"] for part in sent["parts"]] == [1, 2, 3]
    assert all(part["etag"] for part in sent["parts"])
    assert sent["received"] == SIZE
    descriptor = sent["descriptor"]
    assert (descriptor["state"], descriptor["filename"], descriptor["content-type"], descriptor["size"]) == (
        "done", "photo ü.png", "image/png", SIZE,
    )  # fmt: skip
    assert site.stored(identifier) == bytes((at * 7 + (at >> 8)) & 255 for at in range(SIZE))


def test_a_script_of_an_unlisted_origin_sends_no_part(
    serve: Callable[..., DirectSite], open_page: OpenPage, page_url: str
) -> None:
    """From an origin that is not listed, a browser sends no part, even with a valid address."""
    site = serve(cors_origins="https://good.example.com")
    identifier = site.identifier()
    address = site.offer(identifier, 1)["url"]
    assert "Failed to fetch" in open_page(page_url).evaluate(REFUSED, address)
    assert site.status(identifier)["received"] == 0
