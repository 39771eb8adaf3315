"""Files of one name: all that come in one form are kept; a later upload replaces an earlier one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.numbered_names import numbered_names
from tests.support.session_client import SessionClient, SessionSite
from tests.support.wsgi_client import FORM_TYPE, file_part, form


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["image.jpg", "image.jpg", "image.jpg"], ["image.jpg", "image (2).jpg", "image (3).jpg"]),
        (["image.jpg", "image.jpg", "image (2).jpg"], ["image.jpg", "image (3).jpg", "image (2).jpg"]),
        (["image (2).jpg", "image.jpg", "image.jpg"], ["image (2).jpg", "image.jpg", "image (3).jpg"]),
        (["a (2)", "a (2)", "a", "a"], ["a (2)", "a (2) (2)", "a", "a (3)"]),
        (["IMAGE.JPG", "image.jpg"], ["IMAGE.JPG", "image.jpg"]),
        (["é", "e\u0301"], ["é", "e\u0301"]),
        (["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a.tar (2).gz"]),
        ([".profile", ".profile", "name", "name"], [".profile", ".profile (2)", "name", "name (2)"]),
        (["x" * 251 + ".jpg"] * 2, ["x" * 251 + ".jpg", "x" * 247 + " (2).jpg"]),
        (["ä" * 125 + ".jpg"] * 2, ["ä" * 125 + ".jpg", "ä" * 123 + " (2).jpg"]),
        (["x" * 300] * 2, ["x" * 300, "x" * 296 + " (2)"]),
        (["a." + "x" * 300] * 2, ["a." + "x" * 300, "a." + "x" * 296 + " (2)"]),
        (["", ""], ["", ""]),
        ([], []),
    ],
)
def test_equal_names_are_numbered(names: list[str], kept: list[str]) -> None:
    """A number is added before the extension; names that were sent are kept, and names do not grow too long."""
    assert numbered_names(names) == kept


NAMES = ["a", "a (2)", "a (2) (2)", "a (3)", "b.x", "b (2).x", "A", "z" * 255, "z" * 251 + " (2)"]


@given(st.lists(st.sampled_from(NAMES)))
def test_numbered_names_differ(names: list[str]) -> None:
    """All names differ, and the first file of each name keeps it."""
    found = numbered_names(names)
    assert len(set(found)) == len(found) == len(names)
    for name in set(names):
        assert found[names.index(name)] == name
    assert all(len(name.encode()) <= 255 for name in found)


def test_files_of_one_name_in_one_form_are_all_kept(site: SessionSite, client: SessionClient) -> None:
    """Phones call every photo image.jpg: each is listed, downloaded and removed under its own name."""
    names = ["image.jpg", "image (2).jpg", "image (3).jpg"]
    answer = client.post("b", ("image.jpg", b"1"), ("image.jpg", b"2"), ("folder/image.jpg", b"3"), ("b.txt", b"4"))
    assert answer.names == [*names, "b.txt"]
    assert client.contents("b") == {"image.jpg": b"1", "image (2).jpg": b"2", "image (3).jpg": b"3", "b.txt": b"4"}
    site.check_tidy()
    assert client.delete("b", "image (2).jpg").json == [True]
    assert client.get("b").names == ["image.jpg", "image (3).jpg", "b.txt"]
    assert client.get("b", "image (3).jpg").body == b"3"
    assert client.get("b", "image (2).jpg").status == 404
    assert client.delete("b", "image.jpg").json == [True]
    assert client.contents("b") == {"image (3).jpg": b"3", "b.txt": b"4"}
    site.check_tidy()
    assert client.delete("b").json == [[True], [True]]
    site.check_tidy()


def test_a_later_upload_replaces_the_file_of_its_name(site: SessionSite, client: SessionClient) -> None:
    """Between uploads, a name stands for one file, whether it was numbered or sent."""
    client.post("b", ("a.txt", b"1"), ("a.txt", b"2"))
    assert client.post("b", ("a (2).txt", b"3")).names == ["a (2).txt"]
    assert client.contents("b") == {"a.txt": b"1", "a (2).txt": b"3"}
    assert client.post("b", ("a.txt", b"4")).names == ["a.txt"]
    assert client.contents("b") == {"a (2).txt": b"3", "a.txt": b"4"}
    assert client.post("b", ("a.txt", b"5"), ("a.txt", b"6")).names == ["a.txt", "a (2).txt"]
    assert client.contents("b") == {"a.txt": b"5", "a (2).txt": b"6"}
    site.check_tidy()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"max_bundle_files": 2}, "limit-exceeded"),
        ({"max_session_files": 2}, "limit-exceeded"),
        ({"max_bundle_size": "2K"}, "too-large"),
        ({"max_session_size": "2K"}, "too-large"),
    ],
)
def test_each_file_of_one_name_counts(
    make_site: Callable[..., SessionSite], settings: dict[str, object], code: str
) -> None:
    """Files of one name in one form count against the quotas, each of them."""
    site = make_site(**settings)
    client = site.client()
    assert client.post("b", *[("a", bytes(1024))] * 3).outcome == (413, code)
    assert client.get("b").names == []
    assert client.post("b", *[("a", bytes(1024))] * 2).names == ["a", "a (2)"]
    assert client.post("b", *[("a", bytes(1024))] * 2).names == ["a", "a (2)"]  # replaced ones do not count
    site.check_tidy()


def test_the_status_and_the_app_see_the_names_of_the_bundle(site: SessionSite, client: SessionClient) -> None:
    """The status of the upload, and the API of the app, have the same names as the list."""
    identifier = site.manager.create_identifier()
    client.post("b", ("a", b"1"), ("a", b"2"), query=f"X-Progress-ID={identifier}")
    status = client.send("GET", "/attachments/b/", f"status&X-Progress-ID={identifier}").json
    assert [file["filename"] for file in status["files"]] == ["a", "a (2)"]
    assert client.send("GET", "/b").json == ["a", "a (2)"]


def test_a_type_that_is_not_known_is_guessed(make_site: Callable[..., SessionSite]) -> None:
    """application/octet-stream counts as no type, in a form and in a plain body."""
    client = make_site(content_types="image/*").client()
    body = form(file_part("x", "1.heic", kind="application/octet-stream"))
    answer = client.send("POST", "/attachments/b/", "", body, CONTENT_TYPE=FORM_TYPE)
    assert [each["mimetype"] for each in answer.json] == ["image/heic"]
    answer = client.put("b", "2.JFIF", b"x", CONTENT_TYPE="application/octet-stream")
    assert [each["mimetype"] for each in answer.json] == ["image/jpeg"]
    assert client.put("b", "a.zip", b"x", CONTENT_TYPE="application/octet-stream").status == 415


def test_a_form_without_a_file_is_refused(make_site: Callable[..., SessionSite]) -> None:
    """Attachments require a file, whatever the setting require_file says."""
    site = make_site(require_file=False)
    assert site.client().send("POST", "/attachments/b/", "", form(), CONTENT_TYPE=FORM_TYPE).outcome == (400, "no-file")
    assert list(site.pool.buckets()) == []
