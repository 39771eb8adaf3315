"""``fileupload records import``, run as a user runs it, with a real Kinto and files as kinto-attachment leaves them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import webtest
from kinto import main as make_kinto_app

from fileupload.apps.record_attachments.file_import import ImportVerdict, RecordImport
from fileupload.apps.record_attachments.garbage_collection import RecordGarbage, Verdict
from fileupload.apps.record_attachments.ledger import RecordLedger
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.deploy import RecordAttachments, make_manager
from fileupload.pool.s3.store import open_store
from tests.support.kinto_site import ADMIN, CommandLine, KintoSite, running_site
from tests.support.records.kinto_harness import MAT
from tests.support.stores.fixtures import Place
from tests.support.waiting import PATIENCE

KINDS = [verdict.value for verdict in ImportVerdict]


def attribute(location: str, content: bytes, filename: str = "Photo.JPG", **others: Any) -> dict[str, Any]:
    """Return the attribute that kinto-attachment writes for a file."""
    digest = hashlib.sha256(content).hexdigest()
    found = {"filename": filename, "location": location, "hash": digest, "mimetype": "image/jpeg", "size": len(content)}
    return {**found, **others}


class OldSite:
    """A Kinto whose files kinto-attachment has stored, and the command."""

    def __init__(self, site: KintoSite, folder: Path) -> None:
        self.site = site
        self._run = CommandLine(folder)

    def lay(self, collection: str, record: str, content: bytes, *, base_url: str = "/files/", **others: Any) -> Path:
        """Store a file and its record as kinto-attachment does: under a random name in the folder of its collection."""
        relative = f"blog/{collection}/{uuid.uuid4()}.jpg"
        path = self.site.public / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.write(collection, record, attribute(base_url + relative, content, **others))
        return path

    def write(self, collection: str, record: str, attachment: Any) -> None:
        """Write a record without the filter."""
        self.site.write(collection, record, {"attachment": attachment})

    def run(self, *options: str, command: str = "import", auth: str = ":".join(ADMIN), status: int = 0) -> Any:
        """Run the command; return its answer."""
        arguments = (command, self.site.config, "--server", self.site.url, "--json", *options)
        done = self._run(*arguments, FILEUPLOAD_KINTO_AUTH=auth)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    def counts(self, *options: str, status: int = 0) -> dict[str, int]:
        """Run the command; return the number of each result that occurred."""
        return {name: count for name, count in self.run(*options, status=status)["summary"].items() if count}

    def state(self) -> dict[str, bytes]:
        """Return the content of all files of the site but its log, by path."""
        roots = (self.site.public, self.site.folder / "pool")
        return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}

    def path(self, collection: str, record: str) -> str:
        """Return the path of a record below the version."""
        return f"/buckets/blog/collections/{collection}/records/{record}"

    def served(self, path: Path) -> requests.Response:
        """Request a file from the server."""
        location = path.relative_to(self.site.public)
        return requests.get(f"{self.site.url.removesuffix('/v1')}/files/{location}", timeout=PATIENCE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KintoSite]:
    """Return a Kinto in a separate process, which lists two records on each page."""
    reads = "".join(f"kinto.{name}_read_principals = system.Authenticated\n" for name in ("bucket", "collection"))
    with running_site(tmp_path_factory.mktemp("site"), more=reads) as running:
        yield running


@pytest.fixture
def old(site: KintoSite, tmp_path: Path) -> Iterator[OldSite]:
    """Return a site without records and files."""
    yield OldSite(site, tmp_path)
    site.request("POST", "/__flush__")
    for path in [*site.public.rglob("*")]:
        if path.is_file() or path.is_symlink():
            path.unlink()


def test_imported_files_are_served_replaced_deleted_and_collected(old: OldSite) -> None:
    """After the import the server knows the files of all pages of all collections like its own."""
    pages = [old.lay("pages", f"r{number}", b"page %d" % number) for number in range(5)]
    (other,) = [old.lay("others", "one", b"other")]
    assert old.served(pages[0]).status_code == 404
    assert old.run()["summary"] == {**dict.fromkeys(KINDS, 0), "imported": 6}
    answer = old.served(pages[0])
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"page 0", "image/jpeg")
    assert 'filename="Photo.JPG"' in answer.headers["Content-Disposition"]
    # Replaced, detached, deleted with its record, deleted with its collection.
    new = {"attachment": ("b.jpg", b"new", "image/jpeg")}
    assert old.site.request("POST", f"{old.path('pages', 'r0')}/attachment", files=new).status_code == 200
    assert old.site.request("DELETE", f"{old.path('pages', 'r1')}/attachment").status_code == 204
    assert old.site.request("DELETE", old.path("pages", "r2")).ok
    assert old.site.request("DELETE", "/buckets/blog/collections/others").ok
    assert [path.exists() for path in [*pages, other]] == [False, False, False, True, True, False]
    # Deleted in a way that the filter does not see.
    assert old.site.request("DELETE", old.path("pages", "r3"), behind=True).ok
    assert old.run(command="gc")["summary"]["removed"] == 1
    assert old.site.stored() == sorted([b"new", b"page 4"])


def test_a_repeated_import_changes_nothing(old: OldSite) -> None:
    """The second run knows all files, and the state of the pool and of the files is the same, byte for byte."""
    old.lay("pages", "one", b"one")
    old.lay("pages", "two", b"two")
    assert old.counts() == {"imported": 2}
    before = old.state()
    assert old.counts() == {"known": 2}
    assert old.counts("--verify") == {"known": 2}
    assert old.state() == before


def test_a_dry_run_changes_nothing(old: OldSite) -> None:
    """It reports what would be imported."""
    path = old.lay("pages", "one", b"one")
    before = old.state()
    answer = old.run("--dry-run")
    assert (answer["summary"]["imported"], answer["dry-run"]) == (1, True)
    assert answer["files"][0]["location"].endswith(path.name)
    assert old.state() == before
    assert old.served(path).status_code == 404


def test_our_own_files_are_known(old: OldSite) -> None:
    """Files that were uploaded through the filter are left as they are."""
    old.lay("pages", "one", b"one")
    assert old.site.request("POST", f"{old.path('pages', 'two')}/attachment", files={"attachment": ("b.jpg", b"b")}).ok
    assert old.counts() == {"imported": 1, "known": 1}
    assert old.counts() == {"known": 2}


def test_missing_changed_and_foreign_files_are_reported_and_left(old: OldSite, tmp_path: Path) -> None:
    """Each record whose file cannot be imported is named with the reason; the others are imported, none is removed."""
    old.lay("pages", "good", b"good")
    old.lay("pages", "gone", b"gone").unlink()
    longer = old.lay("pages", "longer", b"longer")
    longer.write_bytes(b"longer than before")
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    link = old.lay("pages", "linked", b"outside")
    link.unlink()
    link.symlink_to(outside)
    foreign = ["https://cdn.example.com/a.jpg", "/files/../site.ini", "/files//a.jpg", "/files/.heartbeat-1", "/a.jpg"]
    for number, location in enumerate(foreign):
        old.write("pages", f"foreign{number}", attribute(location, b"x"))
    for number, value in enumerate([{"location": 1}, {}, "text", {"filename": "a"}]):
        old.write("pages", f"invalid{number}", value)
    old.write("pages", "detached", None)
    before = old.state()
    answer = old.run(status=1)
    expected = {"imported": 1, "missing": 2, "different": 1, "foreign": len(foreign), "invalid": 4}
    assert {name: count for name, count in answer["summary"].items() if count} == expected
    reasons = {file["record"].rpartition("/")[2]: file["reason"] for file in answer["files"]}
    assert reasons["gone"] == reasons["linked"] == "there is no such file"
    assert reasons["longer"] == "the file has 18 bytes, not those of the record"
    assert reasons["foreign0"] == "its location is not below base_url"
    assert before.items() <= old.state().items()
    assert outside.read_bytes() == b"outside"


def test_a_content_that_has_changed_is_found_on_request(old: OldSite) -> None:
    """With --verify the hash is compared too, and a file with other bytes of the same size is not imported."""
    path = old.lay("pages", "one", b"before")
    path.write_bytes(b"after!")
    assert old.counts("--dry-run") == {"imported": 1}
    assert old.counts("--verify", status=1) == {"different": 1}
    assert old.served(path).status_code == 404


def test_the_values_of_records_are_not_trusted(old: OldSite) -> None:
    """A record's own texts become no headers: a hash that is none is computed, and a filename is cleaned."""
    path = old.lay(
        "pages", "one", b"one", hash="x\r\nSet-Cookie: a=b", filename="../a\r\nb.jpg", mimetype="text/html\r\n"
    )
    assert old.counts() == {"imported": 1}
    answer = old.served(path)
    assert answer.headers["ETag"] == f'"{hashlib.sha256(b"one").hexdigest()}"'
    assert "Set-Cookie" not in answer.headers
    assert (answer.status_code, answer.headers["Content-Disposition"]) == (
        200,
        "attachment; filename=\"ab.jpg\"; filename*=UTF-8''ab.jpg",
    )


def test_a_file_of_several_records_is_not_entered_for_one_of_them(old: OldSite) -> None:
    """Its first record would take it along, so it is left alone, unless old files are kept."""
    path = old.lay("pages", "one", b"shared")
    copied = attribute(f"/files/{path.relative_to(old.site.public)}", b"shared")
    old.write("pages", "two", copied)
    answer = old.run(status=1)
    assert answer["summary"]["shared"] == 2
    assert answer["files"][0]["reason"] == "2 records refer to this file, without keep_old_files"
    assert old.counts("--set", "keep_old_files=true") == {"imported": 1, "known": 1}
    assert old.counts("--set", "keep_old_files=true") == {"known": 2}
    assert old.served(path).content == b"shared"


def test_an_import_that_was_interrupted_is_repeated(old: OldSite) -> None:
    """If the process ends after the entry, or after the registration, the next run completes it."""
    for left in ("entry", "registration"):
        old.lay("pages", left, left.encode())
    settings = RecordSettings.parse({"directory": str(old.site.folder / "pool"), "base_path": str(old.site.public)})
    storage = make_storage(make_manager(settings).pool, settings)
    assert old.counts() == {"imported": 2}
    index = storage.pool.index
    for entry in RecordLedger(storage, settings).entries(()):
        assert index.remove(entry.key, f"{entry.bucket_id}-linked")
        if entry.path[-1] == "entry":
            *folder, name = entry.location.split("/")
            assert index.remove(("files", *folder), name)
    assert old.counts() == {"imported": 2}
    assert old.counts() == {"known": 2}


def test_the_locations_of_another_base_url_are_given(old: OldSite) -> None:
    """With --base-url, locations are found that were written under another URL."""
    path = old.lay("pages", "one", b"one", base_url="https://old.example.com/f/")
    assert old.counts(status=1) == {"foreign": 1}
    assert old.counts("--base-url", "https://old.example.com/f/") == {"imported": 1}
    assert old.site.request("DELETE", f"{old.path('pages', 'one')}/attachment").status_code == 204
    assert not path.exists()


def test_the_command_needs_to_read_all_and_a_place(old: OldSite) -> None:
    """Without permission to list, or without base_path, nothing is imported and the command says why."""
    old.lay("pages", "one", b"one")
    before = old.state()
    assert "must be permitted to read all records" in old.run(auth="mallory:x", status=1)["error"]
    assert "set base_path" in old.run("--set", "base_path=", status=1)["error"]
    assert "records of Kinto only" in old.run("--set", "api=rest", status=1)["error"]
    assert old.state() == before


def test_a_text_answer_names_each_record(old: OldSite, tmp_path: Path) -> None:
    """Without --json the command prints a line for each file, and a summary."""
    old.lay("pages", "one", b"one")
    done = CommandLine(tmp_path)(
        "import", old.site.config, "--server", old.site.url, FILEUPLOAD_KINTO_AUTH=":".join(ADMIN)
    )
    assert done.returncode == 0
    assert "/records/one /files/blog/pages/" in done.stdout
    assert ".jpg: imported\n1 imported, 0 known, 0 missing" in done.stdout


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a public folder, and of a public object store."""
    if request.param == "folder":
        return {"base_path": str(tmp_path / "public"), "base_url": "https://cdn.example.com/"}
    store: Place = request.getfixturevalue("any_place")
    return {"base_path": f"s3://{store.store.s3_bucket}/public-{uuid.uuid4().hex}", **store.access}


def test_files_in_an_object_store_are_imported_too(place: dict[str, Any], tmp_path: Path) -> None:
    """An object or a file below base_path is entered, and goes when its record gets another one."""
    backends = {f"kinto.{name}_backend": f"kinto.core.{name}.memory" for name in ("storage", "cache", "permission")}
    others = {"kinto.userid_hmac_secret": "x", "multiauth.policies": "basicauth", "kinto.http_scheme": "https"}
    app = make_kinto_app({}, **backends, **others)
    settings = RecordSettings.parse({"directory": str(tmp_path / "pool"), "min_free_space": 0, **place})
    storage = make_storage(make_manager(settings).pool, settings)
    base_url = settings.base_url or storage.address
    lay(settings, "fennec/fonts/old.jpg", b"old")
    front = webtest.TestApp(RecordAttachments.from_manager(app, make_manager(settings), settings))
    behind = webtest.TestApp(app)
    record = "/v1/buckets/fennec/collections/fonts/records/one"
    for path in (record.partition("/collections")[0], record.partition("/records")[0]):
        behind.put_json(path, {}, headers=MAT)
    data = {"attachment": attribute(f"{base_url}fennec/fonts/old.jpg", b"old")}
    behind.put_json(record, {"data": data}, headers=MAT)

    def ask(path: str) -> tuple[int, Any]:
        answer = behind.get(path, headers=MAT, expect_errors=True)
        return answer.status_code, answer.json

    def verdicts() -> list[str]:
        return [each.verdict for each in RecordImport(storage, settings, lambda path: iter([ask(path)])).run()]

    assert [verdicts(), verdicts()] == [["imported"], ["known"]]
    collected = [each.verdict for each in RecordGarbage(storage, settings, ask, older_than=0).collect()]
    assert collected == [Verdict.KEPT]
    front.post(f"{record}/attachment", upload_files=[("attachment", "b.jpg", b"new")], headers=MAT)
    assert storage.size_of("fennec/fonts/old.jpg") is None
    assert [file.filename for file in storage.registered()] == ["b.jpg"]


def lay(settings: RecordSettings, location: str, content: bytes) -> None:
    """Store a file below base_path, as another program does."""
    if settings.is_in_store:
        store, prefix = open_store(settings, settings.base_path)
        store.put(prefix + location, content)
        return
    path = Path(settings.base_path) / location
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
