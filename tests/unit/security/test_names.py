"""File names: the server chooses every name on disk, independently of the name that the client sends."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileupload.pool import local_files
from tests.support.wsgi_client import UploadSite, field_part, file_part, form

MADE_BY_SERVER = re.compile(
    r"[0-9a-f]{2}(/[0-9a-f]{32}(/(lock|status\.json|[0-9a-f]{16}(/[0-9]{1,3})?))?)?|\.upload_key"
)

HOSTILE_NAMES = [
    "..",
    "../../../../tmp/evil",
    "..\\..\\evil",
    "/etc/passwd",
    "C:\\boot.ini",
    "....//....//evil",
    "%2e%2e%2f%2e%2e%2fevil",
    "a\0b",
    "evil\0.png",
    "\u202egnp.exe",
    "a:b",
    "file.txt::$DATA",
    "x" * 300,
    "ä" * 300,
    "CON.txt",
    "NUL",
    "a. . .",
    "status.json",
    "status.json.new",
    "lock",
    ".upload_key",
    "alive",
    "progress.json",
    "0",
    "~root/x",
    "$(touch evil)",
    "`id`",
    "| id",
    "-rf",
    "*",
    "\u2025/\u2025/evil",
    "..\u2215..\u2215evil",
    "..%c0%af..%c0%afevil",
    "\ufeff../evil",
]


def everything(root: Path) -> dict[str, bytes | None]:
    """Return all paths below *root*, with the content of files, links not followed."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in root.rglob("*")
    }


@pytest.fixture(scope="module")
def site_with_siblings(tmp_path_factory: pytest.TempPathFactory) -> UploadSite:
    """Return a site in a folder with siblings, which must stay unchanged."""
    root = tmp_path_factory.mktemp("site_with_siblings")
    for name in ("evil", "etc", "passwd"):
        (root / name).write_text("unchanged")
    site = UploadSite(root / "inner" / "pool")
    site.put(b"x")  # this creates the pool
    return site


def assert_harmless(site: UploadSite, name: str) -> None:
    """Send *name* in each possible way, and check the changes on disk."""
    outside = site.directory.parent.parent
    before = everything(outside)
    identifiers = [site.identifier() for _ in range(4)]
    site.post(form(file_part("x", name), field_part(name, name)), identifiers[0])
    site.post(form(file_part("x", name=name), file_part("x", quote(name, safe=""))), identifiers[1])
    site.put(b"x", identifiers[2], name)
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    site.put(b"x", identifiers[3], HTTP_CONTENT_DISPOSITION=disposition)
    after = everything(outside)
    pool = str(site.directory.relative_to(outside)) + "/"
    assert {path: after.get(path) for path in before} == before
    for path in after.keys() - before.keys():
        inside = path.removeprefix(pool)
        assert inside != path
        assert MADE_BY_SERVER.fullmatch(inside), inside
        assert len(inside) < 36 or any(identifier[:32] in inside for identifier in identifiers)
    for identifier in identifiers:
        kept = site.status(identifier).get("filename", "")
        assert not set(kept) & set("/\\\0\r\n")
        assert kept not in {".", ".."}
        site.manager.clear_upload_bucket(identifier)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:20])
def test_a_hostile_name_changes_nothing_outside_the_bucket(site_with_siblings: UploadSite, name: str) -> None:
    """A hostile name changes and creates nothing outside the bucket (Django CVE-2021-28658, Struts CVE-2024-53677)."""
    assert_harmless(site_with_siblings, name)


path_like = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "\0", "\u202e", "a:b", "CON.txt", " ", "%2e", "%2f", "\u2215", "x" * 300])
    | st.text(st.characters(codec="utf-8"), max_size=5),
    max_size=6,
).map("".join)


@given(name=path_like)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_changes_nothing_outside_the_bucket(site_with_siblings: UploadSite, name: str) -> None:
    """Any text as a name changes and creates nothing outside the bucket."""
    assert_harmless(site_with_siblings, name)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:20])
def test_a_hostile_path_never_becomes_a_path_on_disk(site: UploadSite, name: str) -> None:
    """No part of the URL becomes a path on disk, except a verified id."""
    before = everything(site.directory)
    for identifier in (name, f"{name}/../x", "../" * 8 + "etc"):
        for method in ("POST", "PUT", "GET", "DELETE"):
            for path in ("/upload", "/upload/status"):
                answer = site.send(method, path, f"X-Progress-ID={quote(identifier)}", b"x")
                assert answer.status in {403, 405} or (method, path) in {
                    ("GET", "/upload"),
                    ("DELETE", "/upload"),
                }
    assert everything(site.directory) == before


@pytest.mark.parametrize("umask", [0, 0o077, 0o177, 0o777], ids=oct)
def test_the_pool_is_accessible_to_its_owner_only(tmp_path: Path, umask: int) -> None:
    """Folders are 0700 and files 0600 under any umask, and created parent folders are not open to all."""
    old = os.umask(umask)
    try:
        site = UploadSite(tmp_path / "new" / "pool")
        site.manager.pool.index.put(("some", "key"), "name", "text")
        identifier = site.identifier()
        assert site.post(form(file_part("x")), identifier).status == 200
    finally:
        os.umask(old)
        local_files.note_umask()
    assert (tmp_path / "new").stat().st_mode & 0o022 == 0
    paths = [path for path in [site.directory, *site.directory.rglob("*")] if path.name != ".turn.lock"]
    assert len(paths) > 8
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
