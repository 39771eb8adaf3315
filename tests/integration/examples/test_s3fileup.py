"""The example s3fileup: its page in Chromium, with a directory and with a real store, and its commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from fileupload.pool.s3.bucket_rules import install_cors
from fileupload.pool.s3.store import S3Store
from tests.integration.examples.conftest import ExampleSite, Start
from tests.support.accessibility import overflow, violations
from tests.support.chromium import on_disk, open_context, slow_down
from tests.support.stores.fixtures import CEPH_KEYS, access
from tests.support.waiting import PATIENCE, wait_until

NAME = "Übergröße – 大 🎈.bin"
SIZE = 300_000


@pytest.fixture(params=["directory", "ceph"])
def site(request: pytest.FixtureRequest, start: Start) -> ExampleSite:
    """Start the example with a directory, as it is, or with a real store and a public ACL."""
    if request.param == "directory":
        return start("s3fileup")
    store: S3Store = request.getfixturevalue("ceph_store")
    prefix = uuid.uuid4().hex
    settings = {
        "pool": f"s3://{store.s3_bucket}/{prefix}",
        "acl": "public-read",
        **access(store.client.meta.endpoint_url, CEPH_KEYS),
    }
    site = start("s3fileup", **{f"FLASK_FILEUPLOAD_{name.upper()}": value for name, value in settings.items()})
    install_cors(store, prefix, [site.url])
    return site


def choose(page: Page, *files: Path) -> None:
    page.set_input_files("input[type=file]", files)
    page.click("button")


def test_files_are_sent_with_progress_and_linked(site: ExampleSite, chromium: Browser, tmp_path: Path) -> None:
    """Each chosen file is sent with visible progress; at the end there is a link, from which it can be read."""
    contents = {NAME: os.urandom(SIZE), "empty.txt": b""}
    files = [on_disk(tmp_path, {"name": n, "mimeType": "", "buffer": content}) for n, content in contents.items()]
    context = open_context(chromium)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.url)
    speed_up = slow_down(page)
    choose(page, *files)
    row = page.locator("li", has_text=NAME)
    expect(row.locator("output")).to_have_text(re.compile("^[1-9][0-9]? %$"))
    expect(row.get_by_role("progressbar", name=f"Progress of {NAME}")).to_be_visible()
    speed_up()
    for name, content in contents.items():
        row = page.locator("li", has_text=name)
        expect(row.locator("output")).to_have_text("Uploaded")
        link = row.get_by_role("link", name=name).get_attribute("href")
        assert link
        assert requests.get(link, timeout=PATIENCE).content == content
    assert errors == []
    context.close()


def test_a_refusal_is_shown(start: Start, chromium: Browser, tmp_path: Path) -> None:
    """The page shows the sentence of a refusal beside the file that was refused."""
    site = start("s3fileup", FLASK_FILEUPLOAD_EXTENSIONS="txt")
    context = open_context(chromium)
    page = context.new_page()
    page.goto(site.url)
    choose(page, *(on_disk(tmp_path, {"name": n, "mimeType": "", "buffer": b"x"}) for n in ("a.exe", "b.txt")))
    expect(page.locator("li", has_text="b.txt").locator("output")).to_have_text("Uploaded")
    expect(page.locator("li", has_text="a.exe").locator("output.error")).to_contain_text("txt")
    context.close()


def test_the_page_suits_phones_and_passes_axe(
    start: Start, chromium: Browser, tmp_path: Path, need: Callable[..., Any]
) -> None:
    """On a phone in light and dark mode, the page does not scroll sideways or violate a rule of axe-core."""
    need("axe_playwright_python")
    site = start("s3fileup", FLASK_FILEUPLOAD_EXTENSIONS="txt")
    files = [on_disk(tmp_path, {"name": n, "mimeType": "", "buffer": b"x"}) for n in ("a.exe", "n" * 100 + ".txt")]
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = open_context(chromium, viewport={"width": 360, "height": 640}, color_scheme=scheme)
        page = context.new_page()
        page.goto(site.url)
        assert page.locator("meta[name=viewport]").count() == 1
        assert (violations(page), overflow(page)) == ([], 0)
        choose(page, *files)
        expect(page.locator("li", has_text="nnn").locator("output")).to_have_text("Uploaded")
        expect(page.locator("li", has_text="a.exe").locator("output.error")).to_be_visible()
        assert (violations(page), overflow(page)) == ([], 0)
        context.close()


def test_the_commands_of_the_readme(start: Start, need: Callable[..., Any]) -> None:
    """The commands with curl in the README upload a file, and print a link to it."""
    need(program="curl")
    site = start("s3fileup")
    text = (site.folder / "README.txt").read_text(encoding="utf-8")
    commands = text.partition("The same with curl::")[2].partition("With an object store")[0]
    script = "set -e\n" + commands.replace("http://127.0.0.1:8000", site.url)
    answer = subprocess.run(
        ["bash", "-c", script], cwd=site.folder, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    link = json.loads(answer.stdout)["url"]
    assert requests.get(link, timeout=PATIENCE).content == (site.folder / "app.py").read_bytes()


def test_the_app_takes_note_of_an_upload(start: Start, tmp_path: Path) -> None:
    """The webhook of a finished upload is verified, and noted once; without a signature it is refused."""
    before = start("s3fileup")  # creates the pool, which the second process shares; the second one calls the first
    site = start(
        "s3fileup",
        FLASK_FILEUPLOAD_CALLBACK_URL=f"{before.url}/uploaded",
    )
    forged = requests.post(f"{before.url}/uploaded", json={"filename": "x"}, timeout=PATIENCE)
    assert forged.status_code == 403
    signed = requests.post(f"{site.url}/s3fileup/s3put/", {"s3_object_name": "a.txt"}, timeout=PATIENCE).json()
    requests.put(signed["url"], b"bytes", timeout=PATIENCE)
    for _ in range(2):
        requests.post(f"{site.url}/s3fileup/s3get/", {"key": signed["key"]}, timeout=PATIENCE)
    notes = site.folder / "instance/uploaded.jsonl"
    wait_until(notes.exists)
    assert [json.loads(line) for line in notes.read_text().splitlines()] == [
        {"filename": "a.txt", "content-type": "text/plain", "size": 5}
    ]
