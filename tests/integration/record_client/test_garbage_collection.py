"""Garbage collection of files without a record: with a real Kinto, a REST app in this process, and a command."""

from __future__ import annotations

import base64
import http.server
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import webtest
from kinto import main as make_kinto_app

from fileupload.apps.record_attachments.app import RecordAttachments
from fileupload.apps.record_attachments.garbage_collection import Finding, RecordGarbage, Verdict
from fileupload.apps.record_attachments.ledger import RecordLedger, record_owner
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import Storage
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate, index_key
from fileupload.deploy import make_manager
from fileupload.errors import StorageFailed
from fileupload.identifiers import new_id
from fileupload.pool.s3.store import open_store
from fileupload.status import State, UploadStatus, timestamp
from tests.support.clock import Clock
from tests.support.kinto_site import ALICE, CommandLine, KintoSite, running_site
from tests.support.rest_app import RestApp
from tests.support.stores.fixtures import Place
from tests.support.threaded_server import running

REST_URL = "/api/{kind}/{id}"
HOUR = 3600.0
YEAR = 365 * 86400.0
USER = {"Authorization": "Basic " + base64.b64encode(":".join(ALICE).encode()).decode()}


@dataclass
class AttachmentsApp:
    """An app with its attachments, with access through the filter and behind it.

    :ivar behind: the app without the filter, for changes that the filter does not see.
    :ivar answers: answers that replace those of the app.
    """

    front: webtest.TestApp
    behind: webtest.TestApp
    settings: RecordSettings
    storage: Storage
    record: str
    answers: list[tuple[int, Any] | OSError] = field(default_factory=list)

    @property
    def address(self) -> RecordAddress:
        """Return the address of the record."""
        address = RecordTemplate(self.settings.record_url).record(self.record)
        assert address is not None
        return address

    @property
    def files(self) -> RecordLedger:
        """Return the ledger of files."""
        return RecordLedger(self.storage, self.settings)

    def attach(self, content: bytes = b"content", record: str = "") -> str:
        """Attach a file; return its location, as the storage has it."""
        answer = self.front.post(
            f"{record or self.record}/attachment", upload_files=[("attachment", "a.txt", content)], headers=USER
        )
        return str(answer.json["location"]).removeprefix(self.storage.address)

    def write(self, attachment: Any) -> None:
        """Write the record's attachment, behind the filter."""
        attributes = {"attachment": attachment}
        body = {"data": attributes} if self.settings.uses_kinto_api else attributes
        self.behind.put_json(self.record, body, headers=USER)

    def forget_link(self) -> str:
        """Restore the index as after a crash when the app has stored the file; return the bucket's id."""
        (entry,) = self.files.entries(())
        assert self.storage.pool.index.remove(entry.key, f"{entry.bucket_id}-linked")
        return entry.bucket_id

    def ask(self, path: str) -> tuple[int, Any]:
        """Request a record from the app, as a user with permission to read all."""
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer
        response = self.behind.get(path, headers=USER, expect_errors=True)
        return response.status_code, response.json if response.content_type == "application/json" else None

    def collect(self, older_than: float = HOUR, *, dry_run: bool = False) -> list[Finding]:
        """Collect the garbage."""
        garbage = RecordGarbage(self.storage, self.settings, self.ask, older_than=older_than, dry_run=dry_run)
        return list(garbage.collect())

    def verdicts(self, older_than: float = HOUR) -> list[Verdict]:
        """Collect the garbage; return the verdict on each file."""
        return [finding.verdict for finding in self.collect(older_than)]

    def stored(self) -> list[str]:
        """Return the locations of all stored files."""
        there = []
        for file in self.storage.registered():
            with self.storage.open(file) as opened:
                there.append(file.location)
                assert opened.read()
        return there

    def assert_empty(self) -> None:
        """Check that nothing is left, neither in the pool nor in the public storage."""
        assert self.stored() == []
        assert list(self.storage.pool.index.keys(())) == []
        assert list(self.storage.pool.buckets()) == []
        if self.settings.is_in_store:
            store, prefix = open_store(self.settings, self.settings.base_path)
            assert [*store.list(prefix), *store.list_multipart_uploads(prefix)] == []
        assert [path for path in Path(self.settings.base_path or "/absent").rglob("*") if path.is_file()] == []


@pytest.fixture(scope="module")
def kinto() -> Any:
    """Return a Kinto, with its records in memory."""
    backends = {f"kinto.{name}_backend": f"kinto.core.{name}.memory" for name in ("storage", "cache", "permission")}
    settings = {"kinto.userid_hmac_secret": "x", "multiauth.policies": "basicauth", "kinto.http_scheme": "https"}
    return make_kinto_app({}, **backends, **settings, **{"kinto.record_read_principals": "system.Authenticated"})


@pytest.fixture
def make_attachments_app(kinto: Any, tmp_path: Path) -> Callable[..., AttachmentsApp]:
    """Make an app with attachments: Kinto, or with ``api=rest`` another."""

    def make(**values: Any) -> AttachmentsApp:
        rest = values.get("api") == "rest"
        if rest:
            values["record_url"] = REST_URL
        settings = RecordSettings.parse({"directory": str(tmp_path / "pool"), "min_free_space": 0, **values})
        app = RestApp() if rest else kinto
        manager = make_manager(settings)
        front, behind = webtest.TestApp(RecordAttachments.from_manager(app, manager, settings)), webtest.TestApp(app)
        storage = make_storage(manager.pool, settings)
        if rest:
            return AttachmentsApp(front, behind, settings, storage, "/api/pages/one")
        behind.delete("/v1/buckets/blog", headers=USER, expect_errors=True)
        behind.put_json("/v1/buckets/blog", {}, headers=USER)
        behind.put_json("/v1/buckets/blog/collections/pages", {}, headers=USER)
        return AttachmentsApp(front, behind, settings, storage, "/v1/buckets/blog/collections/pages/records/one")

    return make


@pytest.fixture(params=["pool", "folder", "store", "rest"])
def attachments_app(
    request: pytest.FixtureRequest, make_attachments_app: Callable[..., AttachmentsApp], tmp_path: Path
) -> AttachmentsApp:
    """Return Kinto with its files in the pool, in a public folder and in an object store, and a REST app."""
    if request.param == "store":
        place: Place = request.getfixturevalue("any_place")
        return make_attachments_app(base_path=f"s3://{place.store.s3_bucket}/public-{uuid.uuid4().hex}", **place.access)
    options = {"pool": {}, "folder": {"base_path": str(tmp_path / "public")}, "rest": {"api": "rest"}}
    return make_attachments_app(**options[request.param])


def test_a_file_is_kept_while_its_record_refers_to_it(attachments_app: AttachmentsApp) -> None:
    """A file stays as long as its record refers to it, at any age."""
    location = attachments_app.attach()
    assert attachments_app.verdicts(0) == [Verdict.KEPT]
    assert attachments_app.stored() == [location]


def test_the_file_of_a_record_deleted_behind_the_filter_is_removed(attachments_app: AttachmentsApp) -> None:
    """After a deletion that the filter did not see, the file and its entry are removed."""
    attachments_app.attach()
    attachments_app.behind.delete(attachments_app.record, headers=USER)
    (finding,) = attachments_app.collect()
    assert (finding.verdict, finding.record, finding.reason) == (
        Verdict.REMOVED,
        attachments_app.record,
        "the record is gone",
    )
    attachments_app.assert_empty()
    assert attachments_app.collect() == []


@pytest.mark.parametrize("attachment", [None, {"location": "another.txt"}, {"location": 1}, "text"])
def test_the_file_of_a_record_changed_behind_the_filter_is_removed(
    attachments_app: AttachmentsApp, attachment: Any
) -> None:
    """A file is removed too if its record was changed to another one behind the filter."""
    attachments_app.attach()
    attachments_app.write(attachment)
    (finding,) = attachments_app.collect()
    assert finding.verdict is Verdict.REMOVED
    assert finding.reason.startswith("the record refers to ")
    attachments_app.assert_empty()


def test_a_dry_run_changes_nothing(attachments_app: AttachmentsApp) -> None:
    """A dry run reports the files to remove or link, and the next one reports the same."""
    location = attachments_app.attach()
    attachments_app.behind.delete(attachments_app.record, headers=USER)
    first = attachments_app.collect(dry_run=True)
    assert [finding.verdict for finding in first] == [Verdict.REMOVED]
    assert attachments_app.collect(dry_run=True) == first
    assert attachments_app.stored() == [location]


@pytest.mark.parametrize(
    "answer",
    [
        (401, None), (403, {}), (500, None), (503, {}), (301, None), (204, None), OSError("refused"),
        (200, None), (200, "text"), (200, []), (200, {"data": []}), (200, 5),
    ],
)  # fmt: skip
def test_nothing_is_removed_without_a_clear_answer(
    make_attachments_app: Callable[..., AttachmentsApp], answer: Any
) -> None:
    """A refusal, a failure, or a page instead of a record is no reason to remove a file."""
    attachments_app = make_attachments_app()
    location = attachments_app.attach()
    attachments_app.answers.append(answer)
    (finding,) = attachments_app.collect(0)
    assert finding.verdict is Verdict.UNKNOWN
    assert attachments_app.stored() == [location]
    assert attachments_app.verdicts() == [Verdict.KEPT]


@pytest.mark.parametrize("status", [404, 410])
def test_answers_404_and_410_mean_that_a_record_is_deleted(attachments_app: AttachmentsApp, status: int) -> None:
    """The answers 404 and 410 mean the same here (RFC 9110, 15.5.11)."""
    attachments_app.attach()
    attachments_app.answers.append((status, None))
    assert attachments_app.verdicts() == [Verdict.REMOVED]
    attachments_app.assert_empty()


def test_a_wrong_record_url_removes_nothing(make_attachments_app: Callable[..., AttachmentsApp]) -> None:
    """With a wrong ``record_url``, no record can be requested, and nothing is removed."""
    attachments_app = make_attachments_app()
    attachments_app.attach()
    settings = RecordSettings.parse({"directory": attachments_app.settings.directory, "record_url": "/api/{id}"})
    garbage = RecordGarbage(attachments_app.storage, settings, attachments_app.ask, older_than=0)
    assert [finding.verdict for finding in garbage.collect()] == [Verdict.UNKNOWN]
    assert len(attachments_app.stored()) == 1


def test_a_file_of_a_record_is_linked_after_a_crash(attachments_app: AttachmentsApp) -> None:
    """A file that its record has, and that is not linked yet, is linked, and later removed like any other."""
    attachments_app.attach()
    attachments_app.forget_link()
    assert attachments_app.verdicts(HOUR) == [Verdict.LEFT]
    assert attachments_app.verdicts(0) == [Verdict.LINKED]
    assert attachments_app.verdicts() == [Verdict.KEPT]
    attachments_app.front.delete(f"{attachments_app.record}/attachment", headers=USER)
    attachments_app.assert_empty()


def test_a_file_of_no_record_is_removed_after_a_crash(attachments_app: AttachmentsApp) -> None:
    """A file that no record ever had is kept for a while, and then removed."""
    location = attachments_app.attach()
    attachments_app.forget_link()
    attachments_app.behind.delete(attachments_app.record, headers=USER)
    assert attachments_app.verdicts() == [Verdict.LEFT]
    assert attachments_app.stored() == [location]
    assert attachments_app.verdicts(0) == [Verdict.REMOVED]
    attachments_app.assert_empty()


def test_an_upload_interrupted_by_a_crash_is_removed(attachments_app: AttachmentsApp) -> None:
    """An upload that ended without a file leaves nothing either."""
    bucket_id = new_id()
    attachments_app.files.begin(attachments_app.address, bucket_id)
    owner = record_owner(attachments_app.address.segments)
    status = UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp(), owner=owner)
    attempt = attachments_app.storage.pool.begin(bucket_id, status)
    assert attachments_app.verdicts(0) == [Verdict.LEFT]
    attempt.fail(status.failed(StorageFailed()))
    assert attachments_app.verdicts(HOUR) == [Verdict.LEFT]
    assert attachments_app.verdicts(0) == [Verdict.REMOVED]
    attachments_app.assert_empty()


def rewrite_entry(attachments_app: AttachmentsApp, bucket_id: str, seconds: float) -> None:
    """Rewrite the entry as of an upload that began *seconds* ago, and has no location yet."""
    text = {"path": attachments_app.address.segments, "begun": timestamp(time.time() - seconds), "location": ""}
    attachments_app.storage.pool.index.put(index_key(attachments_app.address.segments), bucket_id, json.dumps(text))


@pytest.mark.parametrize(("seconds", "verdict"), [(HOUR - 60, Verdict.LEFT), (HOUR, Verdict.REMOVED)])
def test_an_upload_without_a_record_is_removed_at_the_given_age(
    make_attachments_app: Callable[..., AttachmentsApp], seconds: float, verdict: Verdict
) -> None:
    """An upload without a record is removed once it has the given age."""
    attachments_app = make_attachments_app()
    rewrite_entry(attachments_app, new_id(), seconds)
    assert attachments_app.verdicts(HOUR) == [verdict]


def test_an_upload_from_a_clock_ahead_is_left_alone_for_as_long_as_it_is_said(
    make_attachments_app: Callable[..., AttachmentsApp], clock: Clock
) -> None:
    """A file without a record whose times are years ahead is kept for its age by the pool's clock, then removed."""
    attachments_app = make_attachments_app()
    clock.advance(10 * YEAR)
    attachments_app.attach()
    attachments_app.forget_link()
    clock.advance(-10 * YEAR)
    attachments_app.behind.delete(attachments_app.record, headers=USER)
    assert attachments_app.verdicts(HOUR) == [Verdict.LEFT]
    clock.advance(HOUR + 60)
    assert attachments_app.verdicts(HOUR) == [Verdict.REMOVED]
    attachments_app.assert_empty()


def test_an_entry_without_an_upload_from_a_clock_ahead_is_removed(
    make_attachments_app: Callable[..., AttachmentsApp],
) -> None:
    """The entry of an upload that never began does not stay because its time is years ahead."""
    attachments_app = make_attachments_app()
    rewrite_entry(attachments_app, new_id(), -10 * YEAR)
    assert attachments_app.verdicts(HOUR) == [Verdict.REMOVED]


def test_the_age_of_an_upload_is_counted_from_its_end(make_attachments_app: Callable[..., AttachmentsApp]) -> None:
    """The age of an upload is counted from its end: its file may be on the way into its record."""
    attachments_app = make_attachments_app()
    attachments_app.attach()
    rewrite_entry(attachments_app, attachments_app.forget_link(), 3 * HOUR)
    assert attachments_app.verdicts(HOUR) == [Verdict.LEFT]
    assert len(attachments_app.stored()) == 1


@pytest.mark.parametrize("location", ["", "folder/"])
def test_an_upload_without_a_location_is_not_linked(attachments_app: AttachmentsApp, location: str) -> None:
    """An upload that never got a location is not linked to the file of a record, whatever the record has."""
    attachments_app.attach()
    attachments_app.write({"location": location})
    rewrite_entry(attachments_app, attachments_app.forget_link(), HOUR)
    assert Verdict.LINKED not in attachments_app.verdicts(0)
    assert list(attachments_app.files.entries(())) == []


def test_a_missing_file_is_reported_on_every_run(attachments_app: AttachmentsApp) -> None:
    """A record whose file was removed is reported on every run, and nothing is changed."""
    location = attachments_app.attach()
    file = attachments_app.storage.find(location)
    assert file is not None
    attachments_app.storage.remove_bytes(file)
    for _ in range(2):
        (finding,) = attachments_app.collect()
        assert finding.verdict is Verdict.MISSING
        assert finding.reason == "the record refers to a file that is gone"


@pytest.mark.parametrize("options", [{"keep_old_files": "true"}, {"resources.blog.keep_old_files": "true"}])
@pytest.mark.parametrize("crashed", [False, True])
def test_only_the_entry_is_removed_with_keep_old_files(
    make_attachments_app: Callable[..., AttachmentsApp], options: dict[str, str], crashed: bool
) -> None:
    """With keep_old_files, the bytes stay at their location, and only the entry of the record is removed."""
    attachments_app = make_attachments_app(**options)
    location = attachments_app.attach()
    if crashed:
        attachments_app.forget_link()
    attachments_app.behind.delete(attachments_app.record, headers=USER)
    (finding,) = attachments_app.collect(0)
    assert finding.reason == "the record is gone; the file is kept"
    assert attachments_app.collect(0) == []
    assert attachments_app.stored() == [location]


def test_a_file_without_an_entry_is_removed(
    make_attachments_app: Callable[..., AttachmentsApp], tmp_path: Path
) -> None:
    """A file without an entry, which an earlier setting kept, is removed."""
    base_path = str(tmp_path / "public")
    keeping = make_attachments_app(keep_old_files="true", base_path=base_path)
    keeping.attach(b"old")
    location = keeping.attach(b"new")
    attachments_app = make_attachments_app(base_path=base_path)
    attachments_app.write({"location": location})
    found = {finding.verdict: finding.reason for finding in attachments_app.collect()}
    assert found == {Verdict.KEPT: "", Verdict.REMOVED: "it belongs to no record"}
    assert attachments_app.stored() == [location]


def test_an_entry_that_cannot_be_read_keeps_its_file(attachments_app: AttachmentsApp) -> None:
    """The file of a damaged entry is kept."""
    location = attachments_app.attach()
    (entry,) = attachments_app.files.entries(())
    attachments_app.storage.pool.index.put(entry.key, entry.bucket_id, "{damaged")
    assert attachments_app.collect(0) == []
    assert attachments_app.stored() == [location]


def test_an_upload_during_the_collection_is_safe(attachments_app: AttachmentsApp) -> None:
    """A file that replaces another between the two requests is not touched, nor is the replaced one."""
    attachments_app.attach(b"first")
    replaced: list[str] = []

    def ask(path: str) -> tuple[int, Any]:
        answer = attachments_app.ask(path)
        if not replaced:
            replaced.append(attachments_app.attach(b"second"))
        return answer

    list(RecordGarbage(attachments_app.storage, attachments_app.settings, ask, older_than=0).collect())
    assert attachments_app.stored() == replaced
    assert set(attachments_app.verdicts(0)) == {Verdict.KEPT}


# Tests of the command.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KintoSite]:
    """Return a Kinto in a process of its own."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def gc(site: KintoSite, tmp_path: Path) -> Callable[..., Any]:
    """Run `gc` on that Kinto, as a user with permission to read all records."""
    run = CommandLine(tmp_path)

    def call(*options: str, server: str = "", auth: str = "admin:secret") -> Any:
        arguments = [site.config, "--server", server or site.url, "--auth", auth, *options]
        return run("gc", *arguments)

    return call


@pytest.fixture
def uploaded(site: KintoSite, tmp_path: Path) -> Iterator[KintoSite]:
    """Return two files in records of Kinto, one of which has been deleted behind the filter."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    place = ("--server", site.url, "--bucket", "blog", "--collection", "pages")
    assert CommandLine(tmp_path)("upload", *place, "a.txt", "b.txt").returncode == 0
    (gone,) = (name for name, record in site.records("pages").items() if record["attachment"]["filename"] == "b.txt")
    assert site.request("DELETE", f"/buckets/blog/collections/pages/records/{gone}", behind=True).ok
    yield site
    site.request("POST", "/__flush__")


def test_the_command_reports_and_then_removes_garbage(gc: Callable[..., Any], uploaded: KintoSite) -> None:
    """A dry run reports the garbage, the next run removes it, and a third one finds none."""
    dry = gc("--dry-run")
    assert dry.returncode == 0
    assert ".txt: would be removed, the record is gone\n1 kept, 0 linked, 0 left, 1 would be removed" in dry.stdout
    assert uploaded.stored() == [b"a.txt", b"b.txt"]
    answer = json.loads(gc("--json").stdout)
    assert answer["summary"] == {"kept": 1, "linked": 0, "left": 0, "removed": 1, "missing": 0, "unknown": 0}
    assert answer["files"][0]["record"].startswith("/v1/buckets/blog/collections/pages/records/")
    assert uploaded.stored() == [b"a.txt"]
    assert "1 kept, 0 linked, 0 left, 0 removed" in gc().stdout


def test_the_command_accepts_settings_as_options(site: KintoSite, uploaded: KintoSite, tmp_path: Path) -> None:
    """The pool and the public folder can be given as options too, and the server without its version."""
    options = ("--directory", str(site.folder / "pool"), "--set", f"base_path={site.public}")
    server = ("--server", site.url.removesuffix("/v1"), "--auth", "admin:secret")
    assert CommandLine(tmp_path)("gc", *options, *server).returncode == 0
    assert uploaded.stored() == [b"a.txt"]


def test_the_command_needs_permission_to_read_all_records(gc: Callable[..., Any], uploaded: KintoSite) -> None:
    """Without permission to read all records the command reports it, exits with status 1, and removes nothing."""
    done = gc(auth="mallory:x")
    assert done.returncode == 1
    assert "unknown, the server answers 403" in done.stdout
    assert "The --auth user must be permitted to read all records." in done.stdout
    assert uploaded.stored() == [b"a.txt", b"b.txt"]


def test_the_command_refuses_a_server_that_is_not_kinto(gc: Callable[..., Any], uploaded: KintoSite) -> None:
    """A server that is no Kinto, and would answer that all records are gone, is not asked about them."""
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)) as other:
        done = gc(server=f"{other}/v1")
    assert done.returncode == 1
    assert "there is no Kinto server at 127.0.0.1" in done.stderr
    down = gc(server="http://127.0.0.1:1/v1")
    assert (down.returncode, "the server cannot be reached" in down.stderr) == (1, True)
    assert uploaded.stored() == [b"a.txt", b"b.txt"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("absent.ini",), "there is no file 'absent.ini'"),
        (("other.ini",), "'other.ini' has no filters with 'use = egg:fileupload#records'; name one with #"),
        (("two.ini",), "has 2 filters"),
        (("two.ini#b",), "there is no pool in 'b-pool'"),
        (("wrong.ini",), "is not a valid Paste file"),
        (("--directory", "absent"), "there is no pool in 'absent'"),
        (("--directory", ".", "--set", "base_path=absent"), "there is no such directory"),
        (("--directory", ".", "--set", "record_url=x"), "setting 'record_url' cannot be 'x'"),
        (("--older-than", "soon"), "'soon' is not a time"),
    ],
)
def test_the_command_reports_invalid_settings(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """Wrong settings are reported before any request is sent, and nothing is made."""
    section = "[filter:{0}]\nuse = egg:fileupload#records\ndirectory = {0}-pool\n"
    (tmp_path / "two.ini").write_text(section.format("a") + section.format("b"))
    (tmp_path / "other.ini").write_text("[app:main]\nuse = egg:kinto\n")
    (tmp_path / "wrong.ini").write_text("no section")
    before = set(tmp_path.iterdir())
    done = CommandLine(tmp_path)("gc", *arguments, "--server", "http://127.0.0.1:1/v1")
    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) == before


class _ServerWithoutRecords(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        return


def test_the_command_refuses_a_rest_server_without_any_of_the_records(uploaded: KintoSite, tmp_path: Path) -> None:
    """A plain REST server that has none of the records is refused, since nothing else identifies it."""
    run = CommandLine(tmp_path)
    pool = ("--directory", str(uploaded.folder / "pool"), "--set", f"base_path={uploaded.folder / 'public'}")
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ServerWithoutRecords)) as other:
        server = ("--server", other, "--set", "api=rest", "--older-than", "0")
        refused = run("gc", *pool, *server)
        believed = run("gc", *pool, *server, "--all-gone", "--dry-run")
    assert (refused.returncode, "--all-gone" in refused.stderr) == (1, True)
    assert (believed.returncode, believed.stdout.count("the record is gone")) == (0, 2)
    assert uploaded.stored() == [b"a.txt", b"b.txt"]
