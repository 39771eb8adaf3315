"""The upload status and its JSON form."""

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fileupload.errors import TooLarge
from fileupload.status import (
    DirectUploadTerms,
    InvalidRecord,
    State,
    UploadedFile,
    UploadStatus,
    seconds_of,
    timestamp,
)

FILES = (
    UploadedFile(field="a", filename="ü.txt", content_type="text/plain", size=3, sha256="ab"),
    UploadedFile(field="b", filename="", content_type="image/png", size=0),
)
RUNNING = UploadStatus(state=State.UPLOADING, identifier="I", filename="x", content_type="a/b", size=10, received=4)
STATUSES = [
    RUNNING,
    RUNNING.done(FILES, {"title": ("one", "two")}),
    RUNNING.failed(TooLarge("too big")),
    UploadStatus(state=State.STARTING, buffered=True, started=timestamp()),
]


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.state)
def test_a_record_round_trips(status: UploadStatus) -> None:
    """A pool reads the same status that it wrote; the record does not contain the identifier."""
    record = json.loads(json.dumps(status.to_record()))
    assert "identifier" not in record
    again = UploadStatus.from_record(record)
    assert again.to_record() == status.to_record()

    assert UploadStatus.from_stored(status.to_stored()) == again


@pytest.mark.parametrize(
    ("stored", "terms"),
    [
        (
            {"acl": "public-read", "form": False, "part_size": 0, "max_size": 7, "sha256": None},
            DirectUploadTerms(max_size=7, pool_options={"acl": "public-read"}),
        ),
        (
            {"acl": "", "form": True, "part_size": 5 << 20, "max_size": None, "sha256": "ab"},
            DirectUploadTerms(form=True, part_size=5 << 20, sha256="ab"),
        ),
    ],
)
def test_terms_have_the_record_of_earlier_versions(stored: dict[str, Any], terms: DirectUploadTerms) -> None:
    """Records of earlier versions, with 0 for an unknown part size and an ACL, can be read and written."""
    record = RUNNING.to_record() | {"direct": stored}
    read = UploadStatus.from_record(record)
    assert read.direct == terms
    known = {"acl", "form", "part_size", "max_size", "sha256"}
    assert read.to_record()["direct"].keys() <= known
    assert {"acl": "", **read.to_record()["direct"]} == stored


@pytest.mark.parametrize(
    "changed", [{"attempt": "../x"}, {"attempt": 1}, {"state": "odd"}, {"files": 1}, {"direct": 1}]
)
def test_a_changed_record_is_invalid(changed: dict[str, Any]) -> None:
    """A record with an invalid value is refused with one kind of error."""
    with pytest.raises(InvalidRecord):
        UploadStatus.from_record(RUNNING.to_record() | changed)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"state": "done"}', b"\xff\xfe"])
def test_an_invalid_or_incomplete_record_is_refused(text: bytes) -> None:
    """A value that is no record, or an incomplete one, is refused with the same error."""
    with pytest.raises(InvalidRecord):
        UploadStatus.from_stored(text)


def test_a_running_status_has_the_received_bytes_of_the_body() -> None:
    """The status of a running upload has the received bytes of the body, and no files."""
    assert RUNNING.to_json() == {
        "identifier": "I",
        "state": "uploading",
        "filename": "x",
        "content-type": "a/b",
        "size": 10,
        "received": 4,
    }


def test_a_finished_status_has_the_keys_of_the_first_file() -> None:
    """The top-level keys of a finished status are those of the first file."""
    done = RUNNING.done(FILES, {"title": ("one",)})
    assert (done["filename"], done["size"], done["received"], done["sha256"]) == ("ü.txt", 3, 3, "ab")
    assert done["files"][1] == {"field": "b", "filename": "", "content-type": "image/png", "size": 0}
    assert done["fields"] == {"title": ["one"]}
    assert done.running is False


def test_a_failed_status_has_a_message_and_a_code() -> None:
    """A failed status has a message and a code, and no files."""
    failed = RUNNING.done(FILES, {}).failed(TooLarge("too big"))
    assert (failed["state"], failed["error"], failed["code"]) == ("error", "too big", "too-large")
    assert "files" not in failed


def test_an_unknown_status_has_only_an_identifier_and_a_state() -> None:
    """The status of an unknown upload has only its identifier and state."""
    assert UploadStatus(state=State.UNKNOWN, identifier="I").to_json() == {"identifier": "I", "state": "unknown"}


def test_it_reads_like_a_dictionary() -> None:
    """A status can be used like a dictionary."""
    assert dict(RUNNING)["content-type"] == RUNNING.content_type
    assert RUNNING.get("nothing") is None
    assert len(RUNNING) == 6
    assert RUNNING.get("size") == 10
    assert "error" not in RUNNING
    assert isinstance(RUNNING, dict)
    assert {**RUNNING, "x": 1} == RUNNING | {"x": 1} == {**RUNNING.to_json(), "x": 1}


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"sort_keys": True}], ids=str)
@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.state)
def test_it_is_written_by_the_json_module(status: UploadStatus, options: dict[str, Any]) -> None:
    """json.dumps writes a status without an encoder of its own, by its implementation in C and by that in Python."""
    assert json.loads(json.dumps(status, **options)) == status.to_json()
    assert json.loads(json.dumps({"upload": [status]}, **options)) == {"upload": [status.to_json()]}
    assert json.loads("".join(json.JSONEncoder(**options).iterencode(status))) == status.to_json()


@pytest.mark.parametrize(
    "change",
    [
        lambda status: status.__setitem__("state", "done"), lambda status: status.__delitem__("state"),
        lambda status: status.update(state="done"), lambda status: status.pop("state"), lambda status: status.popitem(),
        lambda status: status.setdefault("x", 1), lambda status: status.clear(),
        lambda status: status.__ior__({"x": 1}),
    ],
)  # fmt: skip
def test_its_items_cannot_be_changed(change: Callable[[UploadStatus], object]) -> None:
    """A change of an item is refused, and says how to get a copy that can be changed."""
    before = RUNNING.to_json()
    with pytest.raises(TypeError, match=r"dict\(status\) is a copy"):
        change(RUNNING)
    assert dict(RUNNING) == before
    changed = dict(RUNNING)
    changed["state"] = "done"
    assert RUNNING.copy() == before


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.state)
def test_copies_of_it_are_equal(status: UploadStatus) -> None:
    """A status can be copied, pickled and changed in one field; all of its fields count in a comparison."""
    for same in (copy.copy(status), copy.deepcopy(status), pickle.loads(pickle.dumps(status)), replace(status)):
        assert (type(same), same, same != status, same.to_json()) == (UploadStatus, status, False, status.to_json())
    other = replace(status, attempt="another", filename="y")  # the attempt is not in the JSON form
    assert other["filename"] == "y"
    assert replace(status, attempt="another") != status
    assert status == status.to_json()
    assert status != {**status, "x": 1}


def test_times_are_rfc_3339_in_utc() -> None:
    """Times have milliseconds and a Z, and are parsed to seconds."""
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert seconds_of(timestamp(12.25)) == 12.25
