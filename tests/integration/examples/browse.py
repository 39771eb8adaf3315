"""Uses an example's form in Chromium: ``browse.py URL FILE [slowly]`` prints what a person would have seen.

A program of its own, since Playwright can run only once in a process, and other tests keep it running.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.chromium import launch, open_context, slow_down, wait_on

# All at one moment, since the page may be left at any. Another page has no bar.
LOOK = """() => ({
    message: document.querySelector('output')?.value ?? '',
    sending: document.querySelector('progress')?.hidden === false,
})"""


def use_form(page: Page, file: str, speed_up: Callable[[], None]) -> list[str]:
    """Send the form; return the messages until it led elsewhere, or told of an error.

    :param speed_up: called when there is progress to be seen.
    """
    page.fill("[name=title]", "A title")
    page.set_input_files("[name=file]", file)
    page.click("button")
    messages: list[str] = []

    def has_ended() -> bool:
        try:
            now: dict[str, Any] = page.evaluate(LOOK)
        except Error:  # the page is just being left
            return False
        if now["message"] not in messages:
            messages.append(now["message"])
        if "%" in now["message"]:
            speed_up()
        return not now["sending"]

    wait_on(page, has_ended)
    return messages


def main(url: str, file: str, pace: str = "") -> None:
    """Print the messages, the address where the form led, and the text of the page there, as JSON."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = open_context(browser).new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        messages = use_form(page, file, slow_down(page) if pace == "slowly" else lambda: None)
        page.wait_for_load_state("load")
        answer = {"messages": messages, "url": page.url, "text": page.inner_text("body"), "errors": errors}
        browser.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
