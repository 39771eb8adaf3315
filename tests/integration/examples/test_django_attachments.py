"""The letters of ``examples/django-attachments``, with real browsers, and with clients that run no script."""

from __future__ import annotations

import email
import email.policy
import hashlib
import html
import random
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import (
    Browser,
    BrowserContext,
    FileChooser,
    FilePayload,
    Locator,
    Page,
    expect,
)

from tests.support.chromium import on_disk, open_context, slow_down, wait_on
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.integration.examples.conftest import ExampleSite

UNICODE = "Übergröße – 大きなファイル 🎈 „100 %“ #1?.bin"
MEGABYTE = 1 << 20
SEPARATOR = b"-" * 79  # after each mail in a file of Django's backend
PAST_LIMITS = "These are too many, or too large. Choose fewer, or smaller ones."
NOT_FOUND = "the server responded with a status of 404"
TOO_LARGE = "the server responded with a status of 413"
DROP = """([names, type]) => {
    const data = new DataTransfer();
    for (const name of names) data.items.add(new File([name], name));
    document.querySelector('.drop').dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true}));
}"""
# Reports for each of two submissions whether the browser may continue with it.
SUBMIT_TWICE = """() => {
    const form = document.querySelector('form');
    const first = new Promise((resolve) => {
        window.addEventListener('submit', (event) => resolve(!event.defaultPrevented), {once: true});
    });
    form.requestSubmit();
    const second = form.dispatchEvent(new SubmitEvent('submit', {cancelable: true}));
    return first.then((allowed) => [allowed, second]);
}"""

T = TypeVar("T")
Start = Callable[..., "ExampleSite"]


@dataclass
class DjangoExample:
    """A site, a browser, and the errors that occur in it."""

    site: ExampleSite
    browser: Browser
    folder: Path
    contexts: list[BrowserContext] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def person(self, **options: Any) -> BrowserContext:
        """Return a new browser context without cookies, with Playwright's options."""
        context = open_context(self.browser, **options)
        self.contexts.append(context)
        context.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.faults.append(str(error.error)))
        return context

    def tab(self, person: BrowserContext, *, scripted: bool = True) -> Page:
        """Open the form of a letter in a new tab; its script has then requested the list of attachments."""
        page = person.new_page()
        with awaiting_attachment_list(page) if scripted else nullcontext():
            page.goto(self.site.url)
        return page

    def expect_fault(self, page: Page, text: str) -> None:
        """Wait until the browser has reported the expected error."""
        assert text in wait_for(page, self.faults)


def awaiting_attachment_list(page: Page) -> AbstractContextManager[object]:
    """Wait, at the end of the block, until the page has received the list of attachments.

    A file attached before that may briefly be listed twice, or in another order; and offline, a request is an error.
    """
    return page.expect_request_finished(lambda request: "/attachments/" in request.url)


@pytest.fixture
def django_example(
    start: Start, need: Callable[..., None], chromium: Browser, tmp_path: Path
) -> Iterator[DjangoExample]:
    """Return the example, and the errors in its visitors' browsers, of which none may be left at the end."""
    need("django", "gunicorn")
    django_example = DjangoExample(start("django-attachments"), chromium, tmp_path)
    yield django_example
    for context in django_example.contexts:
        context.close()
    assert django_example.faults == []


def payload(name: str, size: int = 5_000, seed: str = "", content_type: str = "") -> FilePayload:
    """Return a file to choose, whose bytes are derived from its name and *seed*."""
    return {"name": name, "mimeType": content_type, "buffer": random.Random(name + seed).randbytes(size)}


def too_large(folder: Path) -> Path:
    """Return a file of one byte above the limit."""
    return on_disk(folder, payload("larger.bin", 10 * MEGABYTE + 1))


def wait_for(page: Page, told: list[T]) -> T:
    """Return the first event of *page* as soon as it occurs, and remove it from the list."""
    wait_on(page, lambda: told)
    return told.pop(0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def row(page: Page, name: str) -> Locator:
    """Return the row of the file called *name*."""
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def choose(page: Page, *files: FilePayload | Path) -> None:
    page.set_input_files("[name=files]", list(files))  # type: ignore[arg-type]


def attach(page: Page, *files: FilePayload) -> None:
    """Choose *files*, and wait until they are attached."""
    choose(page, *files)
    for file in files:
        expect(row(page, file["name"])).to_have_attribute("data-state", "attached")


def expect_names(page: Page, *names: str) -> None:
    expect(page.get_by_role("listitem").get_by_role("link")).to_have_text(list(names))


def expect_announcement(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text)


def write(page: Page, subject: str = "A letter", text: str = "Dear office,\nplease see below.") -> None:
    page.get_by_label("Subject").fill(subject)
    page.get_by_label("Text").fill(text)


def send(page: Page) -> None:
    """Send the letter, and check that the page confirms it."""
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading")).to_have_text("Thank you")


def bundle_url(page: Page) -> str:
    return page.evaluate("new URL(document.querySelector('form').dataset.attachments, location).href")  # type: ignore[no-any-return]


def file_url(page: Page, name: str) -> str:
    return f"{bundle_url(page)}{quote(name, safe='')}/"


def listed(person: BrowserContext, url: str) -> list[str]:
    """Return the names that the server lists at the address of a bundle, with the cookies of *person*."""
    return [attachment["name"] for attachment in person.request.get(url).json()]


def mails(site: ExampleSite) -> list[EmailMessage]:
    """Return the mails that were sent."""
    files = sorted((site.folder / "var/mail").glob("*"), key=lambda file: file.stat().st_mtime_ns)
    texts = [text for file in files for text in file.read_bytes().split(SEPARATOR + b"\n") if text.strip()]
    return [email.message_from_bytes(text, policy=email.policy.default) for text in texts]


def attached(mail: EmailMessage) -> dict[str, str]:
    """Return the SHA-256 of each attachment of a mail, by name."""
    parts = list(mail.iter_attachments())
    found = {str(part.get_filename()): sha256(part.get_content()) for part in parts}
    assert len(found) == len(parts)
    return found


def test_each_tab_shows_only_its_own_attachments(django_example: DjangoExample) -> None:
    """With two visitors and two tabs each, each tab shows its own attachments, and no others."""
    people = {name: django_example.person() for name in ("anna", "ben")}
    tabs = {(name, tab): django_example.tab(people[name]) for name in people for tab in ("first", "second")}
    files = {key: [payload("same.txt", seed=str(key)), payload(f"{'-'.join(key)}.txt")] for key in tabs}
    for key, page in tabs.items():
        attach(page, *files[key])
    assert len({bundle_url(page) for page in tabs.values()}) == 4

    for (name, tab), page in tabs.items():
        expect_names(page, "same.txt", f"{name}-{tab}.txt")
        other = people["ben" if name == "anna" else "anna"]
        assert listed(people[name], bundle_url(page)) == ["same.txt", f"{name}-{tab}.txt"]
        assert listed(other, bundle_url(page)) == []
        for file in files[name, tab]:
            url = file_url(page, file["name"])
            assert people[name].request.get(url).body() == file["buffer"]
            assert other.request.get(url).status == 404


def test_the_file_of_another_visitor_is_not_found(django_example: DjangoExample) -> None:
    """A request for another visitor's file by its address gets 404."""
    anna, ben = django_example.person(), django_example.person()
    page = django_example.tab(anna)
    attach(page, payload("diary.txt"))
    tab = django_example.tab(ben)
    response = tab.goto(file_url(page, "diary.txt"))
    assert response is not None
    assert response.status == 404
    django_example.expect_fault(tab, NOT_FOUND)
    assert ben.request.delete(file_url(page, "diary.txt")).json() == [False]
    assert listed(anna, bundle_url(page)) == ["diary.txt"]


def test_a_letter_has_only_the_attachments_of_its_own_tab(django_example: DjangoExample) -> None:
    """A letter has the attachments of its own tab; other tabs, of the same visitor and of others, keep theirs."""
    anna, ben = django_example.person(), django_example.person()
    tabs = [django_example.tab(person) for person in (anna, anna, ben)]
    files = [payload("same.txt", seed=str(number)) for number in range(3)]
    for page, file in zip(tabs, files, strict=True):
        attach(page, file)
    urls = [bundle_url(page) for page in tabs]
    write(tabs[0])
    send(tabs[0])
    (mail,) = mails(django_example.site)
    assert attached(mail) == {"same.txt": sha256(files[0]["buffer"])}
    assert listed(anna, urls[0]) == []
    assert listed(anna, urls[1]) == listed(ben, urls[2]) == ["same.txt"]


def test_the_mail_has_the_attached_files_unchanged(django_example: DjangoExample) -> None:
    """The attachments of a mail have the bytes and names of the files, text files too, and none stays in the pool."""
    page = django_example.tab(person := django_example.person())
    files: list[FilePayload] = [
        payload(UNICODE, 300_001),
        payload("empty", 0),
        {"name": "lines.txt", "mimeType": "text/plain", "buffer": b"unix\nmac\rdos\r\n\xff\n\n"},
        {"name": "page.html", "mimeType": "text/html", "buffer": "<p>größer\r\n".encode("utf-16")},
        {"name": "mail.eml", "mimeType": "message/rfc822", "buffer": b"Subject: x\n\n-- \nFrom here\n"},
        payload("picture.png", content_type="image/png"),
    ]
    attach(page, *files)
    url = bundle_url(page)
    write(page, "Größe: 大", "Grüße\n\n.\nFrom us")
    send(page)
    (mail,) = mails(django_example.site)
    assert attached(mail) == {file["name"]: sha256(file["buffer"]) for file in files}
    types = {part.get_filename(): part.get_content_type() for part in mail.iter_attachments()}
    assert types["picture.png"] == "image/png"
    assert types["page.html"] == "application/octet-stream"
    assert (mail["Subject"], mail["To"]) == ("Größe: 大", "office@example.com")
    body = mail.get_body()
    assert body is not None
    assert body.get_content().split() == ["Grüße", ".", "From", "us"]
    assert listed(person, url) == []
    assert django_example.site.in_pool() == []


def test_a_file_of_the_same_name_replaces_the_first(django_example: DjangoExample) -> None:
    """A file replaces an attachment of the same name."""
    page = django_example.tab(person := django_example.person())
    attach(page, payload("a.txt", 1_000), payload("b.txt"))
    newer = payload("a.txt", 2_000, seed="newer")
    choose(page, newer)
    expect_names(page, "b.txt", "a.txt")
    expect(row(page, "a.txt")).to_contain_text("2 KB")
    assert person.request.get(file_url(page, "a.txt")).body() == newer["buffer"]
    write(page)
    send(page)
    assert attached(mails(django_example.site)[0])["a.txt"] == sha256(newer["buffer"])
    assert django_example.site.in_pool() == []


def test_a_removed_file_is_not_in_the_letter(django_example: DjangoExample) -> None:
    """A removed file is not on the page, not on the server, and not in the letter."""
    page = django_example.tab(person := django_example.person())
    attach(page, payload(UNICODE), payload("b.txt"))
    expect_announcement(page, "b.txt is attached.")
    page.get_by_role("button", name=f"Remove {UNICODE}").click()
    expect_names(page, "b.txt")
    expect_announcement(page, f"{UNICODE} is removed.")
    expect(page.get_by_role("button", name="Remove b.txt")).to_be_focused()
    assert listed(person, bundle_url(page)) == ["b.txt"]
    page.get_by_role("button", name="Remove b.txt").click()
    expect_names(page)
    expect(page.get_by_role("button", name="Files")).to_be_focused()
    assert django_example.site.in_pool() == []
    write(page)
    send(page)
    assert attached(mails(django_example.site)[0]) == {}


def test_a_file_above_the_limit_shows_the_servers_message(django_example: DjangoExample) -> None:
    """A file at the limits is attached; one above them stays on the page with the reason, and blocks nothing."""
    page = django_example.tab(django_example.person())
    largest = payload("largest.bin", 10 * MEGABYTE)
    choose(page, too_large(django_example.folder), on_disk(django_example.folder, largest))
    expect(row(page, "larger.bin").locator(".problem")).to_have_text("A file of at most 10 MB can be sent here.")
    expect(row(page, "largest.bin")).to_have_attribute("data-state", "attached")
    django_example.expect_fault(page, TOO_LARGE)

    choose(page, on_disk(django_example.folder, payload("second.bin", 10 * MEGABYTE)))
    expect(row(page, "second.bin")).to_have_attribute("data-state", "attached")
    choose(page, payload("byte.bin", 1))
    expect(row(page, "byte.bin").locator(".problem")).to_contain_text("at most 20 MB")
    django_example.expect_fault(page, TOO_LARGE)
    expect_announcement(page, "byte.bin is not attached. " + row(page, "byte.bin").locator(".problem").inner_text())

    page.get_by_role("button", name="Remove larger.bin").click()
    expect(row(page, "larger.bin")).to_have_count(0)
    write(page)
    send(page)
    assert attached(mails(django_example.site)[0])["largest.bin"] == sha256(largest["buffer"])
    assert django_example.site.in_pool() == []


def test_too_many_files_show_the_servers_message(django_example: DjangoExample) -> None:
    """Twenty files are attached, the next one is not."""
    page = django_example.tab(django_example.person())
    attach(page, *[payload(f"{number}.bin", 10) for number in range(20)])
    choose(page, payload("one more.bin", 10))
    expect(row(page, "one more.bin").locator(".problem")).to_contain_text("at most 20 files")
    django_example.expect_fault(page, TOO_LARGE)


def test_a_letter_is_sent_after_its_uploads_are_done(django_example: DjangoExample) -> None:
    """A letter submitted during an upload is sent when the upload is done; the page shows the progress."""
    page = django_example.tab(django_example.person())
    write(page)
    speed_up = slow_down(page)
    files = [payload("slow.bin", 6_000_000), payload("next.bin")]
    choose(page, *[on_disk(django_example.folder, file) for file in files])
    bar = page.get_by_role("progressbar", name="Progress of slow.bin")
    expect(bar).not_to_have_js_property("value", 0)
    assert bar.evaluate("bar => bar.value") < 1
    page.get_by_role("button", name="Send").click()
    expect_announcement(page, "The letter will be sent when all files are attached.")
    assert mails(django_example.site) == []
    speed_up()
    expect(page.get_by_role("heading")).to_have_text("Thank you")
    assert attached(mails(django_example.site)[0]) == {file["name"]: sha256(file["buffer"]) for file in files}
    assert django_example.site.in_pool() == []


def test_a_letter_is_not_sent_if_one_of_its_uploads_fails(django_example: DjangoExample) -> None:
    """If an upload fails for which a submitted letter waits, the letter is not sent, and the page shows the reason."""
    page = django_example.tab(django_example.person())
    write(page)
    speed_up = slow_down(page)
    choose(page, on_disk(django_example.folder, payload("slow.bin", 6_000_000)), too_large(django_example.folder))
    page.get_by_role("button", name="Send").click()
    expect_announcement(page, "The letter will be sent when all files are attached.")
    speed_up()
    expect_announcement(
        page, "larger.bin is not attached. A file of at most 10 MB can be sent here. The letter is not sent."
    )
    django_example.expect_fault(page, TOO_LARGE)
    expect_names(page, "slow.bin")
    assert mails(django_example.site) == []


def test_a_file_can_be_removed_while_it_is_sent(django_example: DjangoExample) -> None:
    """A file removed during its upload, or before its turn, is not attached, and those behind it are."""
    page = django_example.tab(person := django_example.person())
    speed_up = slow_down(page)
    choose(page, *[on_disk(django_example.folder, payload(name, 6_000_000)) for name in ("slow.bin", "waiting.bin")])
    choose(page, payload("last.bin"))
    expect(row(page, "slow.bin").get_by_role("progressbar")).not_to_have_js_property("value", 0)
    page.get_by_role("button", name="Remove waiting.bin").click()
    page.get_by_role("button", name="Remove slow.bin").click()
    speed_up()
    expect_names(page, "last.bin")
    expect(row(page, "last.bin")).to_have_attribute("data-state", "attached")
    assert listed(person, bundle_url(page)) == ["last.bin"]
    write(page)
    send(page)
    assert set(attached(mails(django_example.site)[0])) == {"last.bin"}


def test_a_broken_connection_is_reported(django_example: DjangoExample) -> None:
    """Without a connection the row reports it, and the file can be chosen again."""
    page = django_example.tab(person := django_example.person())
    person.set_offline(True)
    choose(page, payload("a.txt"))
    expect(row(page, "a.txt").locator(".problem")).to_contain_text("The connection broke off")
    person.set_offline(False)
    django_example.expect_fault(page, "ERR_INTERNET_DISCONNECTED")
    page.get_by_role("button", name="Remove a.txt").click()
    attach(page, payload("a.txt"))
    assert listed(person, bundle_url(page)) == ["a.txt"]


def test_files_can_be_dropped(django_example: DjangoExample) -> None:
    """Files that are dropped on the page are attached, and the drop zone is highlighted before."""
    page = django_example.tab(person := django_example.person())
    page.evaluate(DROP, [["a.txt"], "dragover"])
    expect(page.locator("body")).to_have_class("dropping")
    page.evaluate(DROP, [["a.txt", UNICODE], "drop"])
    expect(page.locator("body")).to_have_class("")
    expect_names(page, "a.txt", UNICODE)
    assert person.request.get(file_url(page, UNICODE)).body() == UNICODE.encode()


def test_the_page_is_operable_by_keyboard(django_example: DjangoExample) -> None:
    """A letter can be written and sent, and its files attached and removed, with the keyboard alone."""
    page = django_example.tab(django_example.person())
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.keyboard.press("Tab")
    page.keyboard.type("From the keyboard")
    page.keyboard.press("Tab")
    page.keyboard.type("Without a mouse.")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Files")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for(page, choosers).set_files([payload("wrong.txt"), payload("right.txt")])
    expect_names(page, "wrong.txt", "right.txt")
    for _ in range(2):  # the link, then its button
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_announcement(page, "wrong.txt is removed.")
    expect(page.get_by_role("button", name="Remove right.txt")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading")).to_have_text("Thank you")
    (mail,) = mails(django_example.site)
    assert mail["Subject"] == "From the keyboard"
    assert set(attached(mail)) == {"right.txt"}


def test_a_letter_with_a_mistake_keeps_its_attachments(django_example: DjangoExample) -> None:
    """A form that is shown again with an error still shows the attachments, and the text."""
    page = django_example.tab(django_example.person())
    attach(page, payload("a.txt"))
    url = bundle_url(page)
    write(page, subject=" ")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("The letter is not sent yet.")
    expect(page.get_by_label("Subject")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Text")).to_have_value(re.compile("Dear office"))
    expect_names(page, "a.txt")
    assert bundle_url(page) == url
    page.get_by_label("Subject").fill("A subject")
    send(page)
    assert set(attached(mails(django_example.site)[0])) == {"a.txt"}


def test_a_letter_is_sent_once(django_example: DjangoExample) -> None:
    """Two clicks send the letter once, and going back then shows an empty form."""
    page = django_example.tab(django_example.person())
    attach(page, payload("a.txt"))
    write(page)
    assert page.evaluate(SUBMIT_TWICE) == [True, False]
    expect(page.get_by_role("heading")).to_have_text("Thank you")
    assert len(mails(django_example.site)) == 1
    with awaiting_attachment_list(page):
        page.go_back()
    expect(page.get_by_role("heading")).to_have_text("Write us a letter")
    expect_names(page)
    attach(page, payload("b.txt"))
    write(page)
    send(page)
    assert [set(attached(mail)) for mail in mails(django_example.site)] == [{"a.txt"}, {"b.txt"}]


def test_the_form_sends_files_without_javascript(django_example: DjangoExample) -> None:
    """In a browser without JavaScript the same form sends letter and files, up to the limits."""
    page = django_example.tab(django_example.person(java_script_enabled=False), scripted=False)
    files = [payload(UNICODE, 10 * MEGABYTE), payload("lines.txt", 10 * MEGABYTE - 18, content_type="text/plain")]
    files += [payload(f"{number}.bin", 1) for number in range(18)]
    write(page, "By hand")
    choose(page, *[on_disk(django_example.folder, file) for file in files])
    send(page)
    (mail,) = mails(django_example.site)
    assert mail["Subject"] == "By hand"
    assert attached(mail) == {file["name"]: sha256(file["buffer"]) for file in files}


def test_without_a_script_the_limits_are_the_same(django_example: DjangoExample) -> None:
    """Without JavaScript too, files above a limit are refused with a message, and the text is not lost."""
    page = django_example.tab(django_example.person(java_script_enabled=False), scripted=False)
    too_many = [
        [too_large(django_example.folder)],
        [on_disk(django_example.folder, payload(f"{number}.bin", 7 * MEGABYTE - (number < 2))) for number in range(3)],
        [on_disk(django_example.folder, payload(f"{number}.txt", 1)) for number in range(21)],
    ]
    write(page)
    for files in too_many:
        choose(page, *files)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".errorlist")).to_have_text(PAST_LIMITS)
        expect(page.get_by_label("Text")).to_have_value(re.compile("Dear office"))
    assert mails(django_example.site) == []
    send(page)


def test_an_invalid_form_without_javascript_does_not_keep_its_files(django_example: DjangoExample) -> None:
    """Files sent with a form are not kept if the letter could not be sent, and the page says so."""
    page = django_example.tab(django_example.person(java_script_enabled=False), scripted=False)
    write(page, subject=" ")
    choose(page, payload("a.txt"))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Choose them again")).to_be_visible()
    write(page)
    choose(page, payload("a.txt"))
    send(page)
    assert set(attached(mails(django_example.site)[0])) == {"a.txt"}


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def open_form(client: requests.Session, site: ExampleSite) -> tuple[str, dict[str, str]]:
    """Return the address of a letter's attachments, and the hidden fields of its form."""
    page = client.get(site.url, timeout=PATIENCE).text
    address = re.search(r'data-attachments="([^"]+)"', page)
    assert address
    hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]+)"', page)
    return site.url + html.unescape(address[1]), dict(hidden)


WRITTEN = {"subject": "A letter", "text": "Dear office"}


def test_a_letter_that_cannot_be_sent_is_not_lost(start: Start, client: requests.Session) -> None:
    """If no mail server answers, the form is shown again with a message, the text, and all attachments."""
    site = start("django-attachments", DJANGO_EMAIL_HOST="127.0.0.1", DJANGO_EMAIL_PORT="1")
    url, hidden = open_form(client, site)
    client.put(url, b"content", params={"filename": "a.txt"}, timeout=PATIENCE)
    answer = client.post(site.url, {**hidden, **WRITTEN}, timeout=PATIENCE)
    assert answer.status_code == 200
    assert "The letter could not be sent. It is still here: try again later." in answer.text
    assert "Dear office" in answer.text
    assert url.removeprefix(site.url) in answer.text
    assert [file["name"] for file in client.get(url, timeout=PATIENCE).json()] == ["a.txt"]


def test_a_letter_needs_a_csrf_token(start: Start, client: requests.Session) -> None:
    """Another site can neither send a letter on a visitor's behalf nor attach a file to one (CSRF)."""
    site = start("django-attachments")
    url, hidden = open_form(client, site)
    assert client.post(site.url, {"bundle": hidden["bundle"], **WRITTEN}, timeout=PATIENCE).status_code == 403
    other = {"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"}
    assert client.put(url, b"x", params={"filename": "a.txt"}, headers=other, timeout=PATIENCE).status_code == 403
    assert client.delete(url, headers=other, timeout=PATIENCE).status_code == 403
    assert mails(site) == []
    assert site.in_pool() == []


@pytest.mark.parametrize("bundle", [None, "", "../other", "x" * 65, "a b"])
def test_a_letter_with_a_wrong_bundle_name_is_refused(
    bundle: str | None, start: Start, client: requests.Session
) -> None:
    """A form whose hidden field differs from that of the page is answered with a message, and is not sent."""
    site = start("django-attachments")
    _, hidden = open_form(client, site)
    given = {"bundle": bundle} if bundle is not None else {}
    answer = client.post(
        site.url, {"csrfmiddlewaretoken": hidden["csrfmiddlewaretoken"], **given, **WRITTEN}, timeout=PATIENCE
    )
    assert answer.status_code == 400
    assert answer.text == "The letter does not say where its attachments are. Open its page anew."
    assert mails(site) == []


def test_files_of_any_type_and_name_are_mailed_unchanged(start: Start, client: requests.Session) -> None:
    """A mail holds the exact bytes, with any type and name; a subject of several lines becomes one line."""
    site = start("django-attachments")
    _, hidden = open_form(client, site)
    files = [
        ("files", ('quote".txt', b"a\r\n", "nonsense")),
        ("files", ("types.bin", b"b", "image/x\x0b; y")),
        ("files", ("parts.bin", b"c", "multipart/mixed")),
        ("files", ("\u2028line\u0085.bin", b"d", "")),
    ]
    fields = {**hidden, "subject": "One\r\nBcc: other@example.com", "text": "Text"}
    assert client.post(site.url, fields, files=files, timeout=PATIENCE).url == f"{site.url}/thanks"
    (mail,) = mails(site)
    assert mail["Subject"] == "One Bcc: other@example.com"
    assert mail["Bcc"] is None
    assert sorted(attached(mail).values()) == sorted(map(sha256, [b"a\r\n", b"b", b"c", b"d"]))


def test_paths_outside_the_static_files_are_not_found(start: Start, client: requests.Session) -> None:
    """A path outside the static files is not found, and only the owner of the process can read its data."""
    site = start("django-attachments")
    answer = client.get(f"{site.url}/static/../letters/settings.py", timeout=PATIENCE)
    assert answer.status_code == 404
    assert "urlpatterns" not in answer.text
    assert stat.S_IMODE((site.folder / "var").stat().st_mode) == 0o700
    assert stat.S_IMODE((site.folder / "var/secret_key").stat().st_mode) == 0o600
