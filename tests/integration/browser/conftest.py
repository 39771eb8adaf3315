"""Pages in the system's Chromium; a violation of the page's CSP, or a script error, fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.support.chromium import open_context


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a browser context of its own, with Playwright's options."""
    contexts = []
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            faults.append(message.text)

    def run(url: str, **options: Any) -> Page:
        context = open_context(chromium, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        return page

    yield run
    for context in contexts:
        context.close()
    assert not faults
