"""Attacks on session attachments: foreign uploads, cookies, headers, and broken connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fileupload.apps.session_attachments.bundle_index import SESSIONS
from tests.support.folders import files_in
from tests.support.open_resources import open_resources
from tests.support.read_failures import Stop, broken, killed, silence
from tests.support.session_client import SessionClient, SessionSite
from tests.support.wsgi_client import FORM_TYPE, Stream, UploadSite, field_part, file_part, form, in_steps

BODY = form(field_part("a", "text"), file_part(b"1" * 40, "1.txt"), file_part(b"2" * 40, "2.txt"))


@pytest.fixture
def attachments_site(tmp_path: Path) -> SessionSite:
    """Return a site with attachments."""
    return SessionSite(tmp_path / "pool")


def stored(site: SessionSite) -> set[Path]:
    """Return the files in the pool, which an aborted upload must leave unchanged.

    The register of refusals is created with the first refusal, and has a fixed size.
    """
    return {path for path in files_in(site.directory) if path.name != ".refusals"}


@pytest.mark.parametrize("end", [silence, broken, killed])
@pytest.mark.parametrize("moment", range(0, len(BODY), 29))
def test_an_abort_leaves_nothing(attachments_site: SessionSite, moment: int, end: Callable[[], None]) -> None:
    """A connection that breaks at any point leaves no entry, no status and no byte of its upload."""
    client = attachments_site.client()
    client.put("b", "1.txt", b"old")
    before, running = stored(attachments_site), open_resources()

    def pieces() -> Iterator[bytes]:
        yield from in_steps(BODY[:moment], 10)
        end()

    environ = {"CONTENT_TYPE": FORM_TYPE, "CONTENT_LENGTH": str(len(BODY))}
    try:
        assert client.send("POST", "/attachments/b/", "", Stream(pieces()), **environ).status == 400
    except Stop:
        assert end is killed
    assert stored(attachments_site) == before
    assert open_resources() <= running
    assert client.contents("b") == {"1.txt": b"old"}
    attachments_site.check_tidy()


def test_the_finished_upload_of_another_client_cannot_be_added(attachments_site: SessionSite, tmp_path: Path) -> None:
    """A client with the identifier of another's finished upload can neither take it into a bundle nor damage it."""
    uploads = UploadSite(tmp_path / "pool")
    identifier = uploads.identifier()
    uploads.put(b"theirs", identifier)
    client = attachments_site.client()
    assert client.put("b", "a", b"mine", identifier).outcome == (409, "already-done")
    assert client.post("b", ("a", b"mine"), HTTP_X_PROGRESS_ID=identifier).outcome == (409, "already-done")
    assert client.get("b").json == []
    assert uploads.contents(identifier) == [b"theirs"]
    assert list(attachments_site.pool.index.keys((SESSIONS,))) == []


@pytest.mark.parametrize(
    "cookie",
    [
        "x=1; " * 10_000,
        "fileupload_session=" * 5_000,
        "fileupload_session=" + "a" * 60_000,
        "fileupload_session=" + "." * 60_000,
        "fileupload_session; ; ;=;;",
        "fileupload_session=\xff\xfe",
        'fileupload_session="',
    ],
    ids=range(7),
)
def test_an_invalid_cookie_header_gives_no_session_and_no_error(attachments_site: SessionSite, cookie: str) -> None:
    """An invalid cookie header gives neither a session nor an error."""
    answer = attachments_site.client().get("b", HTTP_COOKIE=cookie)
    assert answer.json == []
    assert answer.header("Set-Cookie")


@pytest.mark.parametrize("mount", ["/a;b", "/a\r\nX-Evil: 1", "/a, b", "/a b", "/\xc3\xa4"])
def test_a_mount_cannot_write_headers(attachments_site: SessionSite, mount: str) -> None:
    """The cookie path is the percent-encoded mount, and cannot inject an attribute or a header."""
    cookie = attachments_site.client().get("b", SCRIPT_NAME=mount).header("Set-Cookie") or ""
    (path,) = [part for part in cookie.split("; ") if part.startswith("Path=")]
    assert path.isascii()
    assert not set(path) & set(";, \r\n")


@pytest.mark.parametrize("name", ["a%0D%0ASet-Cookie:%20x=y", "a%00b", "a%1b%5B31m"])
def test_names_cannot_write_headers(attachments_site: SessionSite, name: str) -> None:
    """Control characters are removed from a name, and so cannot reach the header of a download."""
    client = attachments_site.client()
    (stored,) = client.send("PUT", "/attachments/b/", f"filename={name}", b"1").names
    answer = client.get("b", stored)
    assert answer.status == 200
    assert (answer.header("Content-Disposition") or "").isprintable()
    assert answer.header("Set-Cookie") is None


def test_active_content_is_not_run(attachments_site: SessionSite) -> None:
    """A file of any type is downloaded and not shown, and its scripts could not run if it were shown."""
    client = attachments_site.client()
    for kind in ("text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "multipart/mixed"):
        client.put("b", "a", b"<script>alert(1)</script>", CONTENT_TYPE=kind)
        answer = client.get("b", "a", HTTP_SEC_FETCH_DEST="document")
        assert (answer.header("Content-Disposition") or "").startswith("attachment;")
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert "sandbox" in (answer.header("Content-Security-Policy") or "")


def test_sessions_cannot_be_guessed_or_fixed(attachments_site: SessionSite) -> None:
    """Each client gets a session of 128 random bits; a session chosen by the client is not accepted."""
    secrets = set()
    for _ in range(50):
        client = attachments_site.client()
        client.get("b", HTTP_COOKIE="fileupload_session=" + "0" * 32)
        secrets.add(client.cookies["fileupload_session"][:32])
    assert len(secrets) == 50
    assert "0" * 32 not in secrets


def test_links_in_the_index_expose_no_attachment(attachments_site: SessionSite, tmp_path: Path) -> None:
    """A link in place of a session's folder exposes no attachment, and gives an error without a path."""
    owner: SessionClient = attachments_site.client()
    owner.put("b", "a", b"1")
    (folder,) = (attachments_site.directory / ".index" / "+sessions").iterdir()
    other = attachments_site.client()
    other.put("b", "x", b"1")
    (theirs,) = set((attachments_site.directory / ".index" / "+sessions").iterdir()) - {folder}
    theirs.rename(tmp_path / "aside")
    theirs.symlink_to(folder)
    assert other.get("b").json == []
    answer = other.put("b", "y", b"1")
    assert answer.status == 500
    assert str(attachments_site.directory) not in answer.body.decode()
    assert owner.contents("b") == {"a": b"1"}
