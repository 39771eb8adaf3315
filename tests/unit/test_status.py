"""The status: one JSON form, which comes back as it went."""

import json

import pytest

from fileupload.errors import TooLarge
from fileupload.status import State, UploadedFile, UploadStatus, seconds_of, timestamp

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
def test_a_record_comes_back_as_it_went(status: UploadStatus) -> None:
    """What a pool writes it reads again; the identifier is not in it."""
    record = json.loads(json.dumps(status.to_record()))
    assert "identifier" not in record
    again = UploadStatus.from_record(record)
    assert again.to_record() == status.to_record()


def test_a_running_status_speaks_of_the_body() -> None:
    """While it runs there are the bytes of the body, and no files."""
    assert RUNNING.to_json() == {
        "identifier": "I",
        "state": "uploading",
        "filename": "x",
        "content-type": "a/b",
        "size": 10,
        "received": 4,
    }


def test_a_finished_status_speaks_of_the_first_file() -> None:
    """When done, the keys at the top are those of the first file."""
    done = RUNNING.done(FILES, {"title": ("one",)})
    assert (done["filename"], done["size"], done["received"], done["sha256"]) == ("ü.txt", 3, 3, "ab")
    assert done["files"][1] == {"field": "b", "filename": "", "content-type": "image/png", "size": 0}
    assert done["fields"] == {"title": ["one"]}
    assert done.running is False


def test_a_failed_status_says_why() -> None:
    """An error is a sentence and a code, and no file is left in it."""
    failed = RUNNING.done(FILES, {}).failed(TooLarge("too big"))
    assert (failed["state"], failed["error"], failed["code"]) == ("error", "too big", "too-large")
    assert "files" not in failed


def test_an_unknown_status_says_nothing_else() -> None:
    """Of what is not there, only that is told."""
    assert UploadStatus(state=State.UNKNOWN, identifier="I").to_json() == {"identifier": "I", "state": "unknown"}


def test_it_reads_like_a_mapping() -> None:
    """Code that was written for a dictionary works."""
    assert dict(RUNNING)["content-type"] == RUNNING.content_type
    assert RUNNING.get("nothing") is None
    assert len(RUNNING) == 6


def test_times_are_rfc_3339_in_utc() -> None:
    """Times have milliseconds and a Z, and come back as seconds."""
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert seconds_of(timestamp(12.25)) == 12.25
