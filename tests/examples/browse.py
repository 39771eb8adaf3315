"""Uses an example's form in Chromium: ``browse.py CHROMIUM URL FILE`` prints what a person would have seen.

A program of its own, since Playwright can run only once in a process, and other tests keep it running.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

UPLOAD_RATE = 1_000_000  # bytes a second, so that there is progress to be seen
LOOK = "({message: document.querySelector('output')?.value ?? '', path: location.pathname})"


def use_form(page: Page, file: str) -> list[str]:
    """Send the form; return the messages that appeared until it led elsewhere, or told of an error."""
    page.fill("[name=title]", "A title")
    page.set_input_files("[name=file]", file)
    page.click("button")
    messages: list[str] = []
    for _ in range(600):
        try:
            now: dict[str, Any] = page.evaluate(LOOK)
        except Error:  # the page is just being left
            continue
        if now["message"] not in messages:
            messages.append(now["message"])
        if now["path"] != "/" or (messages and page.locator("progress").is_hidden()):
            break
        page.wait_for_timeout(100)
    return messages


def main(program: str, url: str, file: str) -> None:
    """Print the messages, the address where the form led, and the text of the page there, as JSON."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": UPLOAD_RATE}
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", conditions)
        messages = use_form(page, file)
        # The script hides the progress just before it leaves the page: give it the time to do so.
        page.wait_for_timeout(1000)
        page.wait_for_load_state("load")
        answer = {"messages": messages, "url": page.url, "text": page.inner_text("body"), "errors": errors}
        browser.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
