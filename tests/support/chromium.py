"""The system's Chromium, and operations of tests on its pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, Playwright, expect, sync_playwright

from tests.support.waiting import PATIENCE

MILLISECONDS = PATIENCE * 1000
ARGUMENTS = [
    "--no-sandbox",  # needed to run as root, as CI often does
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
SLOW = 30 * 1024  # bytes a second


def _launch(playwright: Playwright) -> Browser:
    """Start Chromium."""
    expect.set_options(timeout=MILLISECONDS)
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS, timeout=MILLISECONDS)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Return the system's Chromium, started once; skip the test if there is none, unless all programs are required."""
    program = shutil.which("chromium")
    if program is None and os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1":
        pytest.fail("chromium is not installed")
    if program is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        yield browser
        browser.close()


def open_context(browser: Browser, **options: Any) -> BrowserContext:
    """Return a separate browser context, with Playwright's options."""
    context = browser.new_context(**options)
    context.set_default_timeout(MILLISECONDS)
    return context


def slow_down(page: Page) -> Callable[[], None]:
    """Throttle the uploads of *page*; return a function that ends the throttling."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def set_speed(bytes_a_second: int) -> None:
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
        session.send("Network.emulateNetworkConditions", conditions)

    set_speed(SLOW)
    return lambda: set_speed(-1)


def wait_on(page: Page, holds: Callable[[], object]) -> None:
    """Wait until *holds* returns something true, while the page keeps running."""
    for _ in range(PATIENCE * 10):
        if holds():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"it did not come to pass in {PATIENCE} seconds")


def on_disk(folder: Path, file: FilePayload) -> Path:
    """Write *file* into *folder*, since passing large files from a test to the browser is slow."""
    path = folder / file["name"]
    path.write_bytes(file["buffer"])
    return path
