"""The settings of records, for all of them and for those below one address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.records.kinto_harness import RECORD, File, Kinto, running

BUCKET = RECORD.replace("fennec", "{}")
SETTINGS: dict[str, Any] = {
    "max_size_bytes": 10,
    "mimetypes": ".txt:text/vnd.graphviz;.ftl:application/vnd.fluent",
    "resources.large.max_size_bytes": "0",
    "resources.large.some.max_size_bytes": "4",
    "resources.named.randomize": "false",
    "resources.pattern.randomize": "false",
    "resources.pattern.filename_pattern": "{rid}_{datetime}_{filename}",
    "resources.prefixed.filename_pattern": "{rid}_{filename}",
    "cache_control": "public, max-age=3600",
    "resources.any.extensions": "any",
    "resources.more.extensions": "images+video+ftl",
    "resources.flat.folder": "",
    "resources.fixed.folder": "some/blog-assets",
    "resources.fixed.other.folder": "{collection_id}-of-{bucket_id}",
    "resources.typed.mimetypes": ".txt:text/x-typed",
    "resources.typed.extensions": "txt",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kinto, Kinto]]:
    """Return two servers with many settings."""
    with running(tmp_path_factory.mktemp("settings"), **SETTINGS) as both:
        yield both


@pytest.fixture(params=[0, 1], ids=["pool", "folder"])
def server(request: pytest.FixtureRequest, servers: tuple[Kinto, Kinto]) -> Kinto:
    """Return Kinto with many settings, and files in the pool or in a public folder."""
    return servers[request.param]


def attach(server: Kinto, bucket: str, *files: File, collection: str = "fonts") -> Any:
    server.make_collection(bucket, collection)
    return server.attach(BUCKET.format(bucket).replace("fonts", collection), *files)


def location(server: Kinto, bucket: str, *files: File, collection: str = "fonts") -> str:
    answer = attach(server, bucket, *files, collection=collection)
    assert answer.status_code in {200, 201}, answer.text
    url = answer.json()["location"]
    assert server.fetch(url).status_code == 200
    return str(url.removeprefix(server.url + "/files/"))


@pytest.mark.parametrize(
    ("bucket", "collection", "limit"), [("fennec", "fonts", 10), ("large", "some", 4)], ids=["all", "collection"]
)
def test_a_file_above_the_limit_is_refused(server: Kinto, bucket: str, collection: str, limit: int) -> None:
    """A file at the limit is accepted; one above it is refused in Kinto's format, and leaves nothing."""
    assert attach(server, bucket, ("a.jpg", b"x" * limit), collection=collection).status_code in {200, 201}
    before = server.contents()
    for size in (limit + 1, 1 << 20, 8 << 20):
        answer = attach(server, bucket, ("a.jpg", b"x" * size), collection=collection)
        data = answer.json()
        assert (answer.status_code, data["errno"]) == (400, 107)
        assert data["message"] == f"body: File size exceeds the limit ({limit} bytes)."
        assert server.contents() == before


def test_a_bucket_may_lift_the_limit(server: Kinto) -> None:
    """A limit of 0 for a bucket lifts the general limit."""
    assert attach(server, "large", ("a.jpg", b"x" * 100_000)).ok


def test_a_location_has_the_filename_without_randomize(server: Kinto) -> None:
    """Without randomize, the location has the file's name in plain characters, shortened if it is long."""
    names = [
        ("report.pdf", "report.pdf"),
        ("Größe & Gewicht.pdf", "Grosse_Gewicht.pdf"),
        ("Γραμματοσειρά.pdf", "file.pdf"),
        ("-rf.pdf", "-rf.pdf"),
        ("a;b?c#d%41<script>.pdf", "a_b_c_d_41_script.pdf"),
        ("x" * 300 + ".pdf", "x" * 96 + ".pdf"),
    ]
    for filename, expected in names:
        plain = expected.replace("Grosse", "Groe")
        assert location(server, "named", (filename, b"x")) in {f"named/fonts/{expected}", f"named/fonts/{plain}"}


def test_two_files_of_a_name_get_two_locations(server: Kinto) -> None:
    """A file with the name of another record's file gets a number; neither replaces the other."""
    server.make_collection("named", "same")
    records = [BUCKET.format("named").replace("fonts", "same").replace("logo", f"r{number}") for number in range(3)]
    found = [server.attached(record, ("a.txt", record.encode()[-8:])) for record in records]
    names = [attachment["location"].rpartition("/")[2] for attachment in found]
    assert names == ["a.txt", "a-1.txt", "a-2.txt"]
    for record, attachment in zip(records, found, strict=True):
        assert server.fetch(attachment["location"]).content == record.encode()[-8:]
    # The same name for the same record gets another location, as a cache may hold the first.
    assert server.attached(records[0], ("a.txt", b"new"))["location"].endswith("/a-3.txt")


def test_a_pattern_determines_the_name_of_a_file(server: Kinto) -> None:
    """The pattern may hold the record's id, the time, and the name."""
    found = location(server, "pattern", ("my report.pdf", b"x"))
    assert re.fullmatch(r"pattern/fonts/logo_\d{14}_my_report\.pdf", found)


@pytest.mark.parametrize(
    ("bucket", "collection", "folder"),
    [("flat", "fonts", ""), ("fixed", "fonts", "some/blog-assets/"), ("fixed", "other", "other-of-fixed/")],
)
def test_the_folder_can_be_set_for_a_bucket_or_a_collection(
    server: Kinto, bucket: str, collection: str, folder: str
) -> None:
    """Files are in the folder that is set for the bucket, or for the collection."""
    found = location(server, bucket, collection=collection)
    assert found.rpartition("/")[0] + "/" == folder or (not folder and "/" not in found)


@pytest.mark.parametrize(
    ("bucket", "name", "taken"),
    [
        ("fennec", "a.txt", True),
        ("fennec", "a.TXT", True),
        ("fennec", "a.mp4", False),
        ("any", "a.exe", True),
        ("any", "README", True),
        ("more", "a.mp4", True),
        ("more", "a.ftl", True),
        ("more", "a.png", True),
        ("more", "a.txt", False),
    ],
)
def test_the_allowed_extensions_can_be_set(server: Kinto, bucket: str, name: str, taken: bool) -> None:
    """Groups and single extensions add up, and 'any' allows all."""
    answer = attach(server, bucket, (name, b"x"))
    assert answer.ok == taken, answer.text
    if not taken:
        assert answer.json()["message"] == "body: File extension is not allowed."


def test_types_are_set_by_extension(server: Kinto) -> None:
    """A media type of the settings overrides that of the client; that of a bucket overrides the general one."""
    assert attach(server, "fennec", ("kinto.txt", b"x", "text/plain")).json()["mimetype"] == "text/vnd.graphviz"
    assert attach(server, "typed", ("kinto.TXT", b"x")).json()["mimetype"] == "text/x-typed"


def test_a_random_name_is_made_by_a_pattern_too(server: Kinto) -> None:
    """With randomize, the pattern holds as well: its {filename} is the random name."""
    found = location(server, "prefixed", ("my report.pdf", b"x"))
    assert re.fullmatch(r"prefixed/fonts/logo_[0-9a-f-]{36}\.pdf", found)


def test_files_are_served_with_the_cache_control_of_the_settings(server: Kinto) -> None:
    """The header is that of the setting, also in the answer that a file is unchanged."""
    url = attach(server, "large", ("a.jpg", b"x")).json()["location"]
    answer = server.fetch(url)
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    unchanged = server.request("GET", url.removeprefix(server.url), headers={"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status_code, unchanged.headers["Cache-Control"]) == (304, "public, max-age=3600")
