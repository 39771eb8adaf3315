"""Unit tests of the URLs, storage locations and settings of record attachments."""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fileupload.apps.record_attachments.bodies import read_body
from fileupload.apps.record_attachments.errors import RecordError
from fileupload.apps.record_attachments.form import AttachmentFilter
from fileupload.apps.record_attachments.locations import locations, plain_name
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.storage import StoredFile
from fileupload.apps.record_attachments.subrequests import AppClient
from fileupload.apps.record_attachments.urls import KINTO_RECORD, RecordTemplate, index_key
from fileupload.deploy import RecordAttachments, make_manager, records_filter_factory
from fileupload.errors import SettingError
from fileupload.identifiers import new_id
from fileupload.pool.index import MAX_SEGMENT_BYTES
from fileupload.settings import Settings
from fileupload.status import State, UploadedFile, UploadStatus, timestamp
from tests.support.rest_app import RestApp

KINTO = RecordTemplate(KINTO_RECORD)
REST = RecordTemplate("/api/{collection}/{id}")
RECORD = "/v1/buckets/a/collections/b/records/c"


def as_wsgi(path: str) -> str:
    return path.encode().decode("latin-1")


def parse(**settings: Any) -> RecordSettings:
    return RecordSettings.parse({"directory": "/nowhere", **settings})


@pytest.mark.parametrize("name", ["c", "c-1.x", "ç", "日本", "a b", "attachment"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_record_is_read_from_its_path(name: str, slash: str) -> None:
    """The URL gives the values of the template, and the URL of its attachment gives the same values."""
    path = as_wsgi(RECORD.removesuffix("c") + name)
    record = KINTO.record(path + slash)
    assert record is not None
    assert dict(record.values) == {"bucket_id": "a", "collection_id": "b", "id": name}
    assert record.groups == ("a", "b")
    assert KINTO.endpoint(f"{path}/attachment{slash}") == record
    assert KINTO.at(record.segments) == record


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "v1/buckets/a/collections/b/records/c",
        "/v1/buckets/a/collections/b/records",
        "/v1/buckets/a/collections/b/records/",
        "/v1/buckets//collections/b/records/c",
        "/v1/buckets/./collections/b/records/c",
        "/v1/buckets/../collections/b/records/c",
        "//v1/buckets/a/collections/b/records/c",
        "/v2/buckets/a/collections/b/records/c",
        "/v1/buckets/a/groups/b/records/c",
        "/v1/buckets/a/collections/b/records/c/d",
        "/v1/buckets/a/collections/b/records/\xff",
    ],
)
def test_other_paths_are_no_records(path: str) -> None:
    """A path with dots, empty segments or undecodable bytes is not a record."""
    assert KINTO.record(path) is None
    assert KINTO.endpoint(path + "/attachment") is None or path.endswith("/")


@pytest.mark.parametrize(
    "name", ["é", "日本", "a b", "a%2Fb", "?", "#", ";a=1", "a&b", "'\"<>", "*", "+", "~", ":@", "\u202e", "%00"]
)
def test_any_segment_of_a_path_round_trips(name: str) -> None:
    """A path that is built from a URL and decoded as servers do is that URL again."""
    record = REST.at(("api", "things", name))
    assert record is not None
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return [b"{}"]

    AppClient(app, {"HTTP_X": "y", "SCRIPT_NAME": "/mount"}).request("GET", record.path)
    assert REST.record(seen["PATH_INFO"]) == record
    assert (seen["SCRIPT_NAME"], seen["QUERY_STRING"]) == ("/mount", "")


def test_a_delete_removes_everything_below_it() -> None:
    """A DELETE removes a record with everything below it, or the listed items one segment below."""
    each = {
        "/v1/buckets/a/collections/b/records/c": False,
        "/v1/buckets/a/collections/b/records": True,
        "/v1/buckets/a/collections/b": False,
        "/v1/buckets/a/collections": True,
        "/v1/buckets/a": False,
        "/v1/buckets": True,
    }
    for path, expected in each.items():
        removal = KINTO.removal(path)
        assert removal is not None
        assert removal.each == expected, path
    for path in ("/v1", "/", "/v1/groups", "/v1/buckets/a/groups", "/v1/buckets/a/collections/b/records/c/attachment"):
        assert KINTO.removal(path) is None, path


@pytest.mark.parametrize(
    "template",
    ["", "/", "/records", "/{id}/", "{id}", "/a/{id}/b", "/a/{id}/{id}", "/a/{ID}", "/a/{i d}", "/a?{id}", "/a//{id}"],
)
def test_a_bad_template_stops_the_start(template: str) -> None:
    """A template that is not a path ending in the placeholder of a record is refused."""
    with pytest.raises(SettingError, match=r"setting 'record_url' cannot be .*; it must be a path such as /v1/buckets"):
        parse(record_url=template)


def test_any_segment_becomes_an_index_key_within_the_size_limit() -> None:
    """Different segments of any length become different words of at most MAX_SEGMENT_BYTES bytes."""
    at_limit, longer = "x" * MAX_SEGMENT_BYTES, "x" * (MAX_SEGMENT_BYTES + 1)
    assert index_key((at_limit,)) == ("records", at_limit)
    assert len(index_key((longer,))[1].encode()) <= MAX_SEGMENT_BYTES
    assert index_key((longer,)) != index_key((longer + "x",))
    assert index_key(("é" * MAX_SEGMENT_BYTES,)) != index_key(("è" * MAX_SEGMENT_BYTES,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("../../etc/passwd", "etc_passwd"),
        ("..", "-"),
        ("", "-"),
        (".htaccess", "htaccess"),
        ("a\0b\r\nc", "a_b_c"),
        ("日本", "-"),
        ("Crème brûlée.png", "Creme_brulee.png"),
        ("a.", "a"),
        ("CON", "CON"),
        ("x" * 200 + ".jpg", "x" * 96 + ".jpg"),
        ("a." + "y" * 200, "a." + "y" * 19),
    ],
)
def test_names_in_locations_have_only_safe_characters(text: str, expected: str) -> None:
    """A name in a location has only characters without a meaning in file systems and URLs."""
    name = plain_name(text, "-")
    assert name == expected
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name)


VALUES = {"bucket_id": "../b", "collection_id": ".c", "id": "{bucket_id}"}
FILENAMES = ["a.jpg", "..", "a/../../b.jpg", "日本.jpg", ".jpg", "a.JPG", "x" * 300, "a." + "e" * 300, "\u202egpj.exe"]


@pytest.mark.parametrize("filename", FILENAMES, ids=ascii)
@pytest.mark.parametrize("randomize", [True, False])
def test_a_location_is_unique_and_inside_the_folder(filename: str, randomize: bool) -> None:
    """For any client and URL, the location is inside the folder, and each next location is different."""
    rules = parse(folder="x/{bucket_id}/{collection_id}", filename_pattern="{rid}{filename}", randomize=randomize)
    found = list(islice(locations(rules, VALUES, filename), 50))
    assert len(set(found)) == 50
    for location in found:
        *folder, name = location.split("/")
        assert folder == ["x", "b", "c"]
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,135}", name)


def test_a_random_name_keeps_its_extension() -> None:
    """A random name keeps the extension in lower case, even if nothing else of the name is kept."""
    rules = parse()
    for filename, extension in [("a.JPG", ".jpg"), ("日本.png", ".png"), ("a.tar.gz", ".gz"), ("a", ""), (".x", "")]:
        location = next(locations(rules, {"id": "r"}, filename))
        assert re.fullmatch(r"[0-9a-f-]{36}" + re.escape(extension), location), filename


PATTERNS = [
    ("{filename}", r"[0-9a-f-]{36}\.png"),
    ("{rid}_{filename}", r"r1_[0-9a-f-]{36}\.png"),
    ("{datetime}-{filename}", r"20\d{12}-[0-9a-f-]{36}\.png"),
    ("{datetime}-{rid}", r"20\d{12}-r1(-\d)?\.png"),
]


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
def test_a_pattern_holds_for_random_names(pattern: str, expected: str) -> None:
    """With randomize, {filename} is the random name; a pattern without it gives names that are counted."""
    found = list(islice(locations(parse(filename_pattern=pattern), {"id": "r1"}, "Photo.PNG"), 5))
    assert len(set(found)) == 5
    for location in found:
        assert re.fullmatch(expected, location)


def test_the_random_part_of_a_name_stays_whole() -> None:
    """A long record id is shortened, never the random name beside it."""
    rules = parse(filename_pattern="x" * 13 + "{datetime}{rid}{filename}")
    first, second = islice(locations(rules, {"id": "r" * 300}, "a." + "e" * 20), 2)
    for location in (first, second):
        assert re.fullmatch(r"x{13}\d{14}r+[0-9a-f-]{36}\.e{19,20}", location)
        assert len(location) <= 135


def test_a_size_in_bytes_is_pointed_out(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A max_size that is rather in bytes than in megabytes gives a warning at the start; one with a unit does not."""
    for value, warned in [("10485760", True), ("300", False), ("10T", False), (None, False), (1 << 20, True)]:
        caplog.clear()
        RecordAttachments(RestApp(), directory=str(tmp_path), max_size=value)
        assert [record.message.startswith("setting 'max_size' is") for record in caplog.records] == [True] * warned
    assert "'max_size_bytes = 1048576'" in caplog.text


BAD = [
    ("filename_pattern", "{rid}{rid}", "each placeholder at most once"),
    ("filename_pattern", "{rid}" + "x" * 40, "at most 40 characters"),
    ("cache_control", "public, max-age=1\r\nX: y", "directives of the header Cache-Control"),
    ("cache_control", "public max-age", "directives of the header Cache-Control"),
    ("base_url", "ftp://a/", "a URL such as https://"),
    ("base_url", "cdn.example.com", "a URL such as https://"),
    ("base_url", "https://a/?b", "a URL without a query"),
    ("folder", "../a", "a relative path such as"),
    ("folder", "a/./b", "a relative path such as"),
    ("folder", "a//b", "a relative path such as"),
    ("folder", ".hidden", "a relative path such as"),
    ("folder", "a\\b", "a relative path such as"),
    ("folder", "a\0b", "a relative path such as"),
    ("folder", "{", "a relative path such as"),
    ("folder", "{0}", "a relative path such as"),
    ("folder", "{bucket_id.__class__}", "a relative path such as"),
    ("folder", "{bucket_id!r}", "a relative path such as"),
    ("folder", "{rid}", "record_url has bucket_id, collection_id, id"),
    ("resources.a.folder", "{other}", "record_url has bucket_id, collection_id, id"),
    ("filename_pattern", "fixed", "{filename}, {datetime} or {rid}"),
    ("filename_pattern", "{name}", "{filename}, {datetime} or {rid}"),
    ("filename_pattern", "{rid}/{filename}", "{filename}, {datetime} or {rid}"),
    ("filename_pattern", "{filename!r}", "{filename}, {datetime} or {rid}"),
    ("filename_pattern", "{filename}}", "{filename}, {datetime} or {rid}"),
    ("extensions", "", "groups ("),
    ("extensions", "a/b", "groups ("),
    ("mimetypes", ".a", "rules such as"),
    ("mimetypes", ".a:b", "rules such as"),
    ("mimetypes", "a b:c/d", "rules such as"),
    ("max_size_bytes", "-1", "a size"),
    ("max_size_bytes", "many", "a size"),
    ("randomize", "maybe", "true or false"),
    ("api", "soap", "kinto or rest"),
    ("base_path", "a\0b", "the path of a directory"),
    ("resources.a.max_size_bytes", "many", "a size"),
]


@pytest.mark.parametrize(("name", "value", "hint"), BAD)
def test_a_bad_value_stops_the_start(name: str, value: str, hint: str) -> None:
    """An invalid value is refused with the name of the setting and the accepted values."""
    with pytest.raises(SettingError) as error:
        parse(**{name: value})
    assert name.rpartition(".")[2] in str(error.value)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resources.fennec.base_path", "for some records one can set extensions, filename_pattern, folder"),
        ("resources.fen.nec.fonts.keep_old_files", "must name 1 to 2 values of the address"),
        ("resources.keep_old_files", "must name 1 to 2 values of the address"),
        ("keep_old_file", "did you mean 'keep_old_files'?"),
        ("resources", "unknown setting"),
    ],
)
def test_an_unknown_setting_stops_the_start(name: str, hint: str) -> None:
    """An unknown setting is refused by its name."""
    with pytest.raises(SettingError) as error:
        parse(**{name: "true"})
    assert name in str(error.value)
    assert hint in str(error.value)


@pytest.mark.parametrize("base_url", ["", "https://cdn.example.com", "/"])
def test_serving_files_requires_a_path(base_url: str) -> None:
    """Serving files requires a path; the root is refused, since it would hide the app."""
    with pytest.raises(SettingError, match="setting 'serve_files' needs a 'base_url' with a path"):
        parse(base_url=base_url, serve_files=True)
    assert parse(extra_base_url="/files", serve_files=True).serve_files


def test_settings_of_a_collection_override_those_of_its_bucket() -> None:
    """The settings of a collection override those of its bucket; the other settings apply to all."""
    settings = parse(
        **{"folder": "all", "resources.blog.folder": "blog", "resources.blog.articles.folder": "articles"},
        **{"resources.blog.randomize": "false", "resources.blog.articles.keep_old_files": "true"},
    )
    assert settings.of(("other", "articles")).folder == "all"
    assert settings.of(("blog", "other")).folder == "blog"
    articles = settings.of(("blog", "articles"))
    assert (articles.folder, articles.randomize, articles.keep_old_files) == ("articles", False, True)


def test_base_urls_end_with_a_slash() -> None:
    """The base URL of locations ends with a slash, whether or not the setting has one."""
    for url in ("http://cdn.com", "http://cdn.com/", "/files"):
        assert parse(base_url=url).base_url == url.rstrip("/") + "/"
    assert parse(base_url="").base_url == ""


def is_allowed(extensions: str, filename: str) -> bool:
    try:
        AttachmentFilter(parse(extensions=extensions)).check_file("attachment", filename, "a/b")
    except RecordError:
        return False
    return True


@pytest.mark.parametrize(
    ("extensions", "filename", "allowed"),
    [
        ("images", "photo.jpg", True),
        ("images", "photo.JPEG", True),
        ("images", "report.pdf", False),
        ("images+documents", "report.pdf", True),
        ("mp4 avi", "film.avi", True),
        ("mp4 avi", "film.mpeg", False),
        ("any", "virus.exe", True),
        ("default+any", "virus.exe", True),
        ("Default+Video", "film.MP4", True),
        ("default", "virus.exe", False),
        ("default", "virus.exe.", False),
        ("default", "virus.exe ", False),
        ("default", "jpg", False),
        ("default", ".jpg", False),
        ("default", "a.jpg\u200b", False),
        ("csv", "data.csv.gz", True),
        ("csv", "data.sh.gz", False),
    ],
)
def test_files_are_checked_by_their_extensions(extensions: str, filename: str, allowed: bool) -> None:
    """A file is checked by its extension in any case; a compressed file also by the extension before."""
    assert is_allowed(extensions, filename) == allowed


@pytest.mark.parametrize("body", [b"{>", b"[" * 100_000, b"[" * 101 + b"]" * 101, b'{"a": ' + b"1" * 5000 + b"}"])
def test_json_that_cannot_be_read_is_refused(body: bytes) -> None:
    """JSON that the app may read differently is refused; an empty body is not read."""
    with pytest.raises(RecordError, match="Invalid JSON"):
        read_body(body, "application/json")
    assert read_body(b"", "application/json").value is None


def test_paste_makes_the_filter(tmp_path: Path) -> None:
    """The factory accepts the strings of an ini file and returns a filter with its own pool."""
    settings = {"directory": str(tmp_path / "pool"), "base_path": str(tmp_path / "public"), "randomize": "no"}
    make = records_filter_factory({}, **settings, **{"resources.blog.keep_old_files": "true"})
    assert make(lambda environ, start_response: []) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool", "public"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o177], ids=oct)
def test_a_new_public_folder_is_readable_by_all_users(tmp_path: Path, umask: int) -> None:
    """New folders and files in a public folder are readable by all users; existing ones keep their mode."""
    settings = {"directory": str(tmp_path / "pool"), "folder": "there/new"}
    base = tmp_path / "above" / "public"
    (tmp_path / "above").mkdir(mode=0o711)
    manager = make_manager(Settings.parse({"directory": settings["directory"]}))
    bucket_id = new_id()
    old = os.umask(umask)
    try:
        rules = RecordSettings.parse({**settings, "base_path": str(base / "deep")})
        storage = make_storage(manager.pool, rules)
        (base / "deep" / "there").mkdir(mode=0o710)
        os.chmod(base / "deep" / "there", 0o710)
        status = UploadStatus(state=State.STARTING, started=timestamp(), updated=timestamp())
        attempt = manager.pool.begin(bucket_id, status)
        attempt.create_file().close()
        file = UploadedFile(field="", filename="a.png", content_type="image/png", size=0)
        attempt.finish(status.done((file,), {}))
        stored = StoredFile(
            location="there/new/a.png", bucket_id=bucket_id, filename="a.png", mimetype="image/png", size=0, hash=""
        )
        storage.store(stored, manager.pool.bucket(bucket_id))
    finally:
        os.umask(old)
    paths = [base.parent, base, *sorted(base.rglob("*"))]
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in paths}
    assert modes == {
        "above": "0o711", "public": "0o755", "deep": "0o755", "there": "0o710", "new": "0o755", "a.png": "0o644"
    }  # fmt: skip


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """A public folder that is not a folder is refused."""
    (tmp_path / "file").touch()
    settings = {"directory": str(tmp_path / "pool"), "base_path": str(tmp_path / "file" / "public")}
    with pytest.raises(SettingError, match="setting 'base_path' cannot be"):
        RecordAttachments(lambda environ, start_response: [], **settings)
