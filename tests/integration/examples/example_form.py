"""Uses the form of an example in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Error, Page

from tests.support.chromium import open_context, slow_down, wait_on

# Read all at one moment, since the page may be left at any time. Other pages have no progress bar.
LOOK = """() => ({
    message: document.querySelector('output')?.value ?? '',
    sending: document.querySelector('progress')?.hidden === false,
})"""


def use_form(page: Page, file: str, speed_up: Callable[[], None]) -> list[str]:
    """Send the form; return the messages until the page redirects or shows an error.

    :param speed_up: called when progress is visible.
    """
    page.fill("[name=title]", "A title")
    page.set_input_files("[name=file]", file)
    page.click("[type=submit]")
    messages: list[str] = []

    def has_ended() -> bool:
        try:
            now: dict[str, Any] = page.evaluate(LOOK)
        except Error:  # the page is being left
            return False
        if now["message"] not in messages:
            messages.append(now["message"])
        if "%" in now["message"]:
            speed_up()
        return not now["sending"]

    wait_on(page, has_ended)
    return messages


def send_form(browser: Browser, url: str, file: str, *, slowly: bool) -> dict[str, Any]:
    """Return the messages, the address of the redirect, the text of the page there, and the errors of scripts."""
    context = open_context(browser)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    messages = use_form(page, file, slow_down(page) if slowly else lambda: None)
    page.wait_for_load_state("load")
    seen = {"messages": messages, "url": page.url, "text": page.inner_text("body"), "errors": errors}
    context.close()
    return seen
