"""The upload page of a real ``fileupload serve`` in a real Chromium."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Dialog, FileChooser, FilePayload, Locator, Page, expect

from tests.support.accessibility import violations
from tests.support.chromium import on_disk, slow_down, wait_on
from tests.support.folders import files_in
from tests.support.processes import kill_group, reserved_port, start_group, wait_for_line
from tests.support.waiting import PATIENCE

OpenPage = Callable[..., Page]
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class PageServer:
    """A running dedicated server."""

    url: str
    pool: Path
    process: subprocess.Popen[bytes]

    def stored(self) -> dict[str, int]:
        """Return the SHA-256 and the size of every file in the pool."""
        paths = self.pool.glob("*/*/*/[0-9]*")
        return {hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in paths}

    def leftovers(self) -> list[Path]:
        """Return the names of all files of uploads in the pool, finished or not."""
        return [path for path in files_in(self.pool) if path.parent != self.pool and path.name != "lock"]

    def identifier(self, *options: str) -> str:
        """Make an identifier as an application does."""
        return self._command("identifier", *options)

    def _command(self, name: str, *options: str) -> str:
        command = [sys.executable, "-m", "fileupload", name, "--directory", str(self.pool), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()


Serve = Callable[..., PageServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start ``fileupload serve`` with options; it ends with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(*options: str, port: int = 0) -> PageServer:
        log = tmp_path / f"server-{len(processes)}.log"
        pool = tmp_path / "pool"
        command = [sys.executable, "-m", "fileupload", "serve", "--port", str(port), "--directory", str(pool)]
        process = start_group([*command, *options], log)
        processes.append(process)
        (url,) = wait_for_line(process, log, r"(http://127\.0\.0\.1:\d+/)")
        return PageServer(url, pool, process)

    yield run
    for process in processes:
        kill_group(process)


def payload(name: str, size: int, content_type: str = "application/octet-stream") -> FilePayload:
    """Return a file to choose, whose bytes are derived from its name."""
    return {"name": name, "mimeType": content_type, "buffer": random.Random(name).randbytes(size)}


def sha256(file: FilePayload) -> str:
    return hashlib.sha256(file["buffer"]).hexdigest()


def row(page: Page, name: str) -> Locator:
    """Return the row of the upload called *name*."""
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name, exact=True, level=3))


def expect_state(entry: Locator, state: str) -> None:
    expect(entry).to_have_attribute("data-state", state)


def begin_slow_upload(server: PageServer, page: Page, folder: Path) -> tuple[FilePayload, Callable[[], None]]:
    """Start a throttled upload and wait until bytes arrive; return it, and a function that removes the throttling."""
    speed_up = slow_down(page)
    film = payload("film.mkv", 20 * MEGABYTE)
    page.get_by_label("Choose files").set_input_files(on_disk(folder, film))
    wait_on(page, server.leftovers)
    return film, speed_up


def test_chosen_files_are_stored_unchanged(serve: Serve, open_page: OpenPage) -> None:
    """Several files are stored with their bytes, and each row shows the name, size, type and SHA-256."""
    server = serve("--anonymous")
    page = open_page(server.url)
    files = [
        payload("notes.txt", 1536, "text/plain"),
        payload("empty.dat", 0),
        payload("Größe 大きい 🎈.bin", 3 * MEGABYTE),
        payload("disc.iso", 5 * MEGABYTE, "application/x-iso9660-image"),
        payload("<b>bold</b> & co.html", 700, "text/html"),
    ]
    page.get_by_label("Choose files").set_input_files(files)
    for file in files:
        entry = row(page, file["name"])
        expect_state(entry, "done")
        expect(entry.locator("[data-fact=sha256]")).to_have_text(sha256(file))
        expect(entry.locator("[data-fact=type]")).to_have_text(file["mimeType"])
    expect(row(page, "notes.txt").locator("[data-fact=size]")).to_have_text("1.5 KB")
    expect(page.locator("#summary")).to_have_text("5 of 5 done, 8 MB of 8 MB")
    assert server.stored() == {sha256(file): len(file["buffer"]) for file in files}


def test_three_uploads_run_at_once_and_the_others_wait(serve: Serve, open_page: OpenPage) -> None:
    """Of five files three are sent, with percentage, speed and time left; the others start as slots become free."""
    page = open_page(serve("--anonymous").url)
    speed_up = slow_down(page)
    page.get_by_label("Choose files").set_input_files([payload(f"{n}.bin", MEGABYTE) for n in range(5)])
    expect(page.locator("[data-state=sending]")).to_have_count(3)
    expect(page.locator("[data-state=queued]")).to_have_count(2)
    told = re.compile(r"^\d+\s%\s·\s[\d.]+\s(bytes|KB)\sof\s1\sMB\s·\s[\d.]+\s(bytes|KB)/s\s·\s\d+\s(s|min)\sleft$")
    expect(row(page, "0.bin").locator(".entry-detail")).to_have_text(told)
    expect(page.locator("#summary")).to_have_text(re.compile(r"^0 of 5 done, [\d.]+ (bytes|KB|MB) of 5 MB$"))
    expect(row(page, "4.bin")).to_contain_text("waiting for its turn")
    page.get_by_role("button", name="Cancel 0.bin").click()
    expect_state(row(page, "3.bin"), "sending")
    speed_up()
    expect(page.locator("#summary")).to_have_text("4 of 4 done, 4 MB of 4 MB")


def test_files_can_be_dropped_on_the_page(serve: Serve, open_page: OpenPage, tmp_path: Path) -> None:
    """Files dropped anywhere are uploaded; a folder among them is refused with instructions."""
    page = open_page(serve("--anonymous").url)
    folder = tmp_path / "album"
    folder.mkdir()
    songs = [tmp_path / "one.ogg", tmp_path / "two.ogg"]
    for song in songs:
        song.write_bytes(random.Random(song.name).randbytes(100_000))
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in [*songs, folder]], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 20, "y": 20, "data": data})
    for song in songs:
        expect(row(page, song.name).locator("[data-fact=sha256]")).to_have_text(
            hashlib.sha256(song.read_bytes()).hexdigest()
        )
    expect_state(row(page, "album"), "failed")
    expect(row(page, "album")).to_contain_text("This is a folder, and only files can be uploaded. Open it,")
    expect(page.locator("body")).not_to_have_class("dropping")


def test_cancelling_leaves_nothing_behind(serve: Serve, open_page: OpenPage, tmp_path: Path) -> None:
    """A cancelled upload is stopped and discarded on the server too, and can be started again."""
    server = serve("--anonymous")
    page = open_page(server.url)
    film, speed_up = begin_slow_upload(server, page, tmp_path)
    with page.expect_request_finished(lambda request: request.method == "DELETE") as removal:
        page.get_by_role("button", name="Cancel film.mkv").click()
    expect_state(row(page, "film.mkv"), "cancelled")
    wait_on(page, lambda: not server.leftovers())
    answer = requests.get(removal.value.url, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["state"]) == (404, "unknown")
    speed_up()
    page.get_by_role("button", name="Retry film.mkv").click()
    expect(row(page, "film.mkv").locator("[data-fact=sha256]")).to_have_text(sha256(film))


def test_a_file_above_the_limit_is_refused_before_anything_is_sent(serve: Serve, open_page: OpenPage) -> None:
    """The refusal names both sizes, no request is sent, and a file of exactly the limit is accepted."""
    page = open_page(serve("--anonymous", "--max-size", "1").url)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    expect(page.locator("#hint")).to_have_text("At most 1 MB for each file.")
    page.get_by_label("Choose files").set_input_files(payload("big.bin", MEGABYTE + 200_000))
    expect_state(row(page, "big.bin"), "failed")
    expect(row(page, "big.bin")).to_contain_text("This is 1.2 MB, and at most 1 MB can be sent. Choose a smaller file.")
    expect(row(page, "big.bin").get_by_role("button")).to_have_text(["Remove"])
    assert not sent
    page.get_by_label("Choose files").set_input_files(payload("fits.bin", MEGABYTE))
    expect_state(row(page, "fits.bin"), "done")
    row(page, "big.bin").get_by_role("button", name="Remove").click()
    expect(page.locator("#summary")).to_have_text("1 of 1 done, 1 MB of 1 MB")


def test_the_servers_refusal_is_shown(serve: Serve, open_page: OpenPage) -> None:
    """A refusal that only the server can decide on is shown in the row with the server's message."""
    server = serve()
    page = open_page(f"{server.url}?X-Progress-ID={server.identifier('--content-type', 'image/png')}")
    with page.expect_response(lambda response: response.request.method == "POST") as refusal:
        page.get_by_label("Choose files").set_input_files(payload("big.bin", 3 * MEGABYTE))
    assert refusal.value.status == 415
    expect_state(row(page, "big.bin"), "failed")
    expect(row(page, "big.bin").locator(".entry-error")).to_have_text(refusal.value.json()["detail"])
    assert not server.stored()


def test_the_page_enforces_the_size_limit_of_the_identifier(serve: Serve, open_page: OpenPage) -> None:
    """A file that the identifier does not allow is refused by the page before a byte of it is sent."""
    server = serve()
    page = open_page(f"{server.url}?X-Progress-ID={server.identifier('--max-size', '1')}")
    page.get_by_label("Choose files").set_input_files(payload("big.bin", 3 * MEGABYTE))
    expect_state(row(page, "big.bin"), "failed")
    expect(row(page, "big.bin").locator(".entry-error")).to_contain_text("at most 1 MB can be sent")
    assert not server.stored()


def test_an_application_identifier_accepts_one_upload_of_all_files(serve: Serve, open_page: OpenPage) -> None:
    """With an identifier of the application all files go in one form; afterwards the page accepts no more."""
    server = serve()
    identifier = server.identifier()
    page = open_page(f"{server.url}?X-Progress-ID={identifier}")
    files = [payload("a.txt", 10), payload("b.txt", 20), payload("c.txt", 30)]
    page.get_by_label("Choose files").set_input_files(files)
    entry = row(page, "a.txt and 2 more")
    expect_state(entry, "done")
    expect(entry.locator("[data-fact=sha256]")).to_have_text([sha256(file) for file in files])
    expect(page.locator("#files")).to_be_disabled()
    expect(page.locator("#hint")).to_have_text("This link takes one upload.")
    status = requests.get(f"{server.url}upload/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE).json()
    assert [file["filename"] for file in status["files"]] == ["a.txt", "b.txt", "c.txt"]


def test_the_page_explains_a_missing_identifier(serve: Serve, open_page: OpenPage) -> None:
    """A page that requires an identifier shows a visitor without one an explanation, and no form."""
    page = open_page(serve().url)
    expect(page.get_by_role("heading", name="This page needs an upload link")).to_be_visible()
    expect(page.locator("form")).to_be_hidden()


def test_the_page_is_operable_by_keyboard(serve: Serve, open_page: OpenPage) -> None:
    """Tab, Enter and Space choose, cancel, retry and copy; the focus is visible, and is never lost."""
    page = open_page(serve("--anonymous").url)
    speed_up = slow_down(page)
    file = payload("notes.txt", 3 * MEGABYTE)
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))

    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
    assert outline_of(page.locator(".picker")) >= 2
    page.keyboard.press("Enter")
    wait_on(page, lambda: choosers)
    choosers[0].set_files(file)
    expect_state(row(page, "notes.txt"), "sending")

    page.keyboard.press("Tab")
    cancel = page.get_by_role("button", name="Cancel notes.txt")
    expect(cancel).to_be_focused()
    assert outline_of(cancel) >= 2
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Retry notes.txt")).to_be_focused()

    page.keyboard.press("Space")
    expect(cancel).to_be_focused()
    speed_up()
    expect_state(row(page, "notes.txt"), "done")
    expect(row(page, "notes.txt")).to_be_focused()

    page.keyboard.press("Tab")
    copy = page.get_by_role("button", name="Copy SHA-256 of notes.txt")
    expect(copy).to_be_focused()
    page.evaluate(RECORD_TEXTS, "[data-action=copy]")
    page.keyboard.press("Space")
    wait_on(page, lambda: "Copied" in page.evaluate("texts"))  # for two seconds, which a busy machine may miss
    page.context.grant_permissions(["clipboard-read"])
    assert page.evaluate("navigator.clipboard.readText()") == sha256(file)


# Records each text that an element shows from now on.
RECORD_TEXTS = """(selector) => {
    window.texts = [];
    const element = document.querySelector(selector);
    new MutationObserver(() => texts.push(element.textContent)).observe(element, {childList: true});
}"""


def outline_of(element: Locator) -> float:
    """Return the width of the outline that shows the focus, in pixels."""
    width: float = element.evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)")
    return width


def test_the_form_works_without_javascript(serve: Serve, open_page: OpenPage) -> None:
    """With scripts off, the plain form sends all files and answers with a page that lists them."""
    server = serve("--anonymous")
    page = open_page(server.url, java_script_enabled=False)
    files = [payload("a.txt", 1000, "text/plain"), payload("Größe <1>.pdf", 2000, "application/pdf")]
    page.get_by_label("Choose files").set_input_files(files)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="Upload complete")).to_be_visible()
    for file in files:
        cells = page.get_by_role("row").filter(has_text=file["name"]).get_by_role("cell")
        expect(cells.last).to_have_text(sha256(file))
    assert page.locator("body").evaluate("body => getComputedStyle(body).margin") == "0px", "the style is linked"
    page.get_by_role("link", name="Upload more files").click()
    expect(page.get_by_role("button", name="Upload")).to_be_visible()


def test_a_parent_page_reads_the_answer_to_a_form_in_an_iframe(serve: Serve, open_page: OpenPage) -> None:
    """The data attributes of the answer carry the state and the whole descriptor, with any name in it."""
    # CSP is bypassed for the parent, which stands for a page of an application in front of the same server.
    page = open_page(serve("--anonymous").url, bypass_csp=True)
    file = payload("\"quoted\" & <i>odd</i> 'name'.bin", 100)
    page.evaluate(POST_INTO_FRAME)
    page.locator("#framed input").set_input_files(file)
    with page.expect_response(lambda response: "/upload?" in response.url):
        page.locator("#framed").evaluate("form => form.submit()")
    body = page.frame_locator("iframe[name=answer]").locator("body[data-fileupload-state]")
    expect(body).to_have_attribute("data-fileupload-state", "done")
    descriptor = json.loads(page.evaluate("frames.answer.document.body.dataset.fileuploadStatus"))
    assert (descriptor["state"], descriptor["sha256"]) == ("done", sha256(file))


POST_INTO_FRAME = """() => {
    const frame = document.createElement('iframe');
    frame.name = 'answer';
    const form = document.getElementById('upload-form').cloneNode(false);
    Object.assign(form, {id: 'framed', target: 'answer'});
    const input = document.createElement('input');
    Object.assign(input, {type: 'file', name: 'file'});
    form.append(input);
    document.body.append(frame, form);
}"""


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port on which a server can be started more than once."""
    with reserved_port() as number:
        yield number


def test_an_upload_can_be_retried_after_a_server_crash(
    serve: Serve, port: int, open_page: OpenPage, tmp_path: Path
) -> None:
    """After the server is killed the row reports the broken connection; Retry then sends the whole file."""
    server = serve("--anonymous", port=port)
    page = open_page(server.url)
    film, speed_up = begin_slow_upload(server, page, tmp_path)
    kill_group(server.process)
    entry = row(page, "film.mkv")
    expect_state(entry, "failed")
    expect(entry).to_contain_text("The connection to the server was lost. Check your connection, then retry.")
    serve("--anonymous", port=port)
    speed_up()
    with page.expect_request(lambda request: request.method == "POST") as request:
        page.get_by_role("button", name="Retry film.mkv").click()
    assert "X-Progress-ID=" in request.value.url, "the identifier is kept"
    expect(entry.locator("[data-fact=sha256]")).to_have_text(sha256(film))
    assert list(server.stored()) == [sha256(film)]


class Relay:
    """Forwards connections to *port*, and breaks those that carry an upload when the answer arrives.

    :ivar losses: the number of answers still to lose.
    """

    def __init__(self, port: int, losses: int) -> None:
        self._port = port
        self.losses = losses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                uploading = threading.Event()
                threading.Thread(target=self._send_on, args=(client, server, uploading), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, uploading), daemon=True).start()

    def _send_on(self, client: socket.socket, server: socket.socket, uploading: threading.Event) -> None:
        with contextlib.suppress(OSError), client:
            while data := client.recv(65536):
                if b"POST /upload?" in data:
                    uploading.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, uploading: threading.Event) -> None:
        with contextlib.suppress(OSError), server:
            while data := server.recv(65536):
                if uploading.is_set() and self.losses > 0:
                    self.losses -= 1
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("losses", [1, 1000])
def test_an_upload_succeeds_despite_a_lost_answer(serve: Serve, open_page: OpenPage, losses: int) -> None:
    """When the answer is lost, once or at each retry of the browser, the page finds that the upload is complete."""
    server = serve("--anonymous")
    relay = Relay(urlsplit(server.url).port or 0, losses)
    page = open_page(relay.url)
    file = payload("notes.txt", 300_000)
    page.get_by_label("Choose files").set_input_files(file)
    expect(row(page, "notes.txt").locator("[data-fact=sha256]")).to_have_text(sha256(file))
    assert relay.losses < losses
    page.context.close()
    relay.close()


def test_a_used_identifier_is_refused_before_anything_is_sent(serve: Serve, open_page: OpenPage) -> None:
    """A link whose upload is complete is refused, and not counted as the success of the next upload."""
    server = serve()
    url = f"{server.url}?X-Progress-ID={server.identifier()}"
    for state in ("done", "failed"):
        page = open_page(url)
        page.get_by_label("Choose files").set_input_files(payload("a.txt", 10))
        expect_state(row(page, "a.txt"), state)
    expect(row(page, "a.txt")).to_contain_text("Go back to the application and open a new upload link.")
    expect(row(page, "a.txt").get_by_role("button")).to_have_text(["Remove"])


def test_a_deleted_file_is_distinguished_from_a_broken_connection(
    serve: Serve, open_page: OpenPage, tmp_path: Path
) -> None:
    """A file deleted before its turn fails with the reason, and the other uploads continue."""
    server = serve("--anonymous")
    page = open_page(server.url)
    speed_up = slow_down(page)
    paths = [on_disk(tmp_path, payload(f"{n}.bin", MEGABYTE)) for n in range(4)]
    page.get_by_label("Choose files").set_input_files(paths)
    expect_state(row(page, "3.bin"), "queued")
    paths[3].unlink()
    speed_up()
    expect_state(row(page, "3.bin"), "failed")
    expect(row(page, "3.bin")).to_contain_text("This file can no longer be read: it was changed, moved or deleted")
    expect(row(page, "3.bin").locator(".entry-advice")).to_have_text("Choose it again.")
    expect(page.locator("#summary")).to_contain_text("3 of 4 done")


def test_the_browser_warns_before_leaving_during_an_upload(serve: Serve, open_page: OpenPage) -> None:
    """The browser warns while an upload runs, and no longer when all uploads have ended."""
    page = open_page(serve("--anonymous").url)
    speed_up = slow_down(page)
    questions: list[str] = []

    def stay(dialog: Dialog) -> None:
        questions.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.get_by_role("heading", name="Upload files").click()  # browsers warn only after an interaction with the page
    page.get_by_label("Choose files").set_input_files(payload("a.bin", 3 * MEGABYTE))
    expect_state(row(page, "a.bin"), "sending")
    page.close(run_before_unload=True)
    wait_on(page, lambda: questions == ["beforeunload"])
    speed_up()
    expect_state(row(page, "a.bin"), "done")
    page.reload()
    assert questions == ["beforeunload"]


def test_the_live_region_announces_start_and_end_but_not_progress(serve: Serve, open_page: OpenPage) -> None:
    """The live region announces the start and the end of an upload, but not each step of its progress."""
    page = open_page(serve("--anonymous").url)
    announcer = page.get_by_role("status")
    expect(announcer).to_have_attribute("aria-live", "polite")
    page.evaluate(RECORD_TEXTS, "[aria-live]")
    speed_up = slow_down(page)
    page.get_by_label("Choose files").set_input_files(payload("a.bin", 2 * MEGABYTE))
    expect(announcer).to_have_text("1 file added.")
    value = row(page, "a.bin").get_by_role("progressbar", name="Progress of a.bin")
    wait_on(page, lambda: value.evaluate("bar => bar.value") > 0.05)
    speed_up()
    expect(announcer).to_have_text("a.bin is uploaded.")
    assert page.evaluate("texts") == ["1 file added.", "a.bin is uploaded."]


# Roles whose elements convey nothing without a name.
NAMED = {"button", "link", "progressbar", "textbox", "heading", "region", "form", "list"}


def accessible(page: Page) -> list[tuple[str, str]]:
    """Return the role and the name of each node in Chromium's accessibility tree."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]


def busy_page(serve: Serve, open_page: OpenPage, **options: Any) -> Page:
    """Return a page with a finished, a failed, a running, a waiting and a cancelled upload."""
    page = open_page(serve("--anonymous", "--max-size", "3").url, **options)
    chooser = page.get_by_label("Choose files")
    chooser.set_input_files([payload("done.bin", 10), payload("refused.bin", 4 * MEGABYTE)])
    expect_state(row(page, "done.bin"), "done")
    slow_down(page)
    chooser.set_input_files([payload(f"{n}-{'long-name-' * 12}.bin", 2 * MEGABYTE) for n in range(4)])
    chooser.set_input_files(payload("stopped.bin", 2 * MEGABYTE))
    page.get_by_role("button", name="Cancel stopped.bin").click()
    expect(page.locator("[data-state=sending]")).to_have_count(3)
    return page


def test_every_control_has_an_accessible_name(serve: Serve, open_page: OpenPage) -> None:
    """In the accessibility tree every control, bar, heading and list has a name, and button names differ."""
    page = busy_page(serve, open_page)
    found = accessible(page)
    assert [role for role, name in found if role in NAMED - {"list"} and not name.strip()] == []
    names = [name for role, name in found if role == "button"]
    assert len(names) == len(set(names))
    assert {role for role, _ in found} >= {"main", "heading", "button", "progressbar", "status", "list", "listitem"}
    assert "Progress of 0-" + "long-name-" * 12 + ".bin" in [name for role, name in found if role == "progressbar"]


# The lowest contrast of any visible text, with the text (WCAG 2, 1.4.3: at least 4.5).
LOWEST_CONTRAST = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => numbers(color).slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return (numbers(color)[3] ?? 1) > 0 ? color : ground(element.parentElement);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (texts.currentNode.data.trim() && element.checkVisibility() && !element.closest('template')) {
            const pair = [luminance(getComputedStyle(element).color), luminance(ground(element))];
            found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), texts.currentNode.data]);
        }
    }
    return found.sort(([one], [other]) => one - other)[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_is_sufficient_in_both_color_schemes(serve: Serve, open_page: OpenPage, scheme: str) -> None:
    """No text has less contrast than WCAG's level AA requires."""
    page = busy_page(serve, open_page, color_scheme=scheme)
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_passes_axe(serve: Serve, open_page: OpenPage, scheme: str) -> None:
    """The page with uploads in each state violates no rule of axe-core."""
    page = busy_page(serve, open_page, color_scheme=scheme, bypass_csp=True)
    assert violations(page) == []


def test_a_narrow_screen_needs_no_horizontal_scrolling(serve: Serve, open_page: OpenPage) -> None:
    """At a width of 320 pixels all content fits, long names too."""
    page = busy_page(serve, open_page, viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_reduced_motion_disables_transitions_and_animations(serve: Serve, open_page: OpenPage) -> None:
    """With reduced motion no element has a transition or an animation."""
    page = busy_page(serve, open_page, reduced_motion="reduce")
    assert page.evaluate("document.getAnimations().length") == 0
    durations = page.evaluate("[...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)")
    assert set(durations) == {"0s"}


def test_other_scripts_can_use_the_transport(serve: Serve, open_page: OpenPage) -> None:
    """``fileupload.upload`` returns the descriptor, and supports text fields and progress events."""
    page = open_page(serve("--anonymous").url)
    descriptor, steps = page.evaluate(
        """async () => {
            const steps = [];
            const file = new File([new Uint8Array(3000000)], 'zeros.bin');
            const options = {fields: {title: 'My zeros'}, onprogress: (sent, total) => steps.push(sent / total)};
            return [await fileupload.upload(file, options).result, steps];
        }"""
    )
    assert descriptor["sha256"] == hashlib.sha256(bytes(3_000_000)).hexdigest()
    assert descriptor["fields"] == {"title": ["My zeros"]}
    assert steps == sorted(steps)
    assert steps[-1] == 1


def test_the_transport_gives_the_servers_refusal(serve: Serve, open_page: OpenPage) -> None:
    """A refusal carries the server's code, status and message."""
    page = open_page(serve("--anonymous").url)
    refused = page.evaluate(
        """() => fileupload.upload(new File(['x'], 'x'), {identifier: 'forged'}).result
            .catch(({code, status, detail}) => ({code, status, detail}))"""
    )
    assert (refused["code"], refused["status"]) == ("invalid-identifier", 403)
    assert refused["detail"]


def test_a_cancelled_upload_stays_cancelled(serve: Serve, open_page: OpenPage) -> None:
    """Nothing is sent after the last cancel, however quickly cancel and retry alternate."""
    server = serve("--anonymous")
    page = open_page(server.url)
    codes = page.evaluate(
        """async (identifier) => {
            const codes = [];
            for (const options of [{}, {identifier}]) {
                const upload = fileupload.upload(new File(['x'], 'x'), options);
                upload.cancel();
                upload.retry();
                await upload.cancel();
                codes.push(await upload.result.catch((error) => error.code));
            }
            return codes;
        }""",
        server.identifier(),
    )
    assert codes == ["cancelled", "cancelled"]
    assert not server.stored()
