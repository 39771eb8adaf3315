"""The log of uploads: one line for the end of each upload, for each way in, and its fields."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from fileupload import RecordAttachments, S3Fileup
from tests.support.session_client import SessionSite
from tests.support.wsgi_client import FORM_TYPE, Stream, UploadSite, call, file_part, form, make_environ

NAME = "secret-name.txt"


@pytest.fixture
def site(tmp_path: Path) -> UploadSite:
    return UploadSite(tmp_path / "pool", max_size="1K")


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fileupload")


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the lines about uploads; no line contains the name of a file."""
    assert NAME not in caplog.text
    return [record.event for record in caplog.records if hasattr(record, "event")]


@pytest.mark.parametrize(("protocol", "method"), [("form", "POST"), ("put", "PUT")])
def test_the_end_of_an_upload_has_all_its_fields(
    site: UploadSite, caplog: pytest.LogCaptureFixture, protocol: str, method: str
) -> None:
    """The line of a finished upload has its bucket, size, duration, rate, client and protocol."""
    identifier = site.identifier()
    send = site.post if method == "POST" else site.put
    body = form(file_part(b"x" * 500, NAME)) if method == "POST" else b"x" * 500
    assert send(body, identifier, REMOTE_ADDR="192.0.2.1").status == 200
    (event,) = events(caplog)
    assert event["seconds"] >= 0
    assert "rate" in event or event["seconds"] < 0.001
    expected = {"outcome": "done", "bucket": identifier[:32], "files": 1, "size": 500, "client": "192.0.2.1"}
    assert expected.items() <= event.items()
    assert event["protocol"] == protocol


def test_a_failed_upload_is_told_from_a_refused_one(site: UploadSite, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that fails after it has begun has the bytes received; a refused request has none."""
    identifiers = [site.identifier(), site.identifier()]
    site.put(Stream([b"x" * 600]), identifiers[0], CONTENT_LENGTH="1000")
    site.put(b"x" * 2000, identifiers[1])
    failed, refused = events(caplog)
    assert (failed["outcome"], failed["code"], failed["bucket"]) == ("failed", "incomplete", identifiers[0][:32])
    assert (failed["size"], failed["protocol"]) == (600, "put")
    assert (refused["outcome"], refused["code"], refused["bucket"]) == ("refused", "too-large", identifiers[1][:32])
    assert "size" not in refused


def test_a_superseded_upload_is_one_line(site: UploadSite, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that a newer attempt replaces ends as superseded, and the newer one as done."""
    identifier = site.identifier()

    def pieces() -> Iterable[bytes]:
        yield b"x"
        site.put(b"newer", identifier)
        yield b"x"

    assert site.put(Stream(pieces()), identifier, CONTENT_LENGTH="2").status == 409
    done, superseded = events(caplog)
    assert (done["outcome"], done["size"]) == ("done", 5)
    assert (superseded["outcome"], superseded["code"]) == ("superseded", "superseded")
    assert superseded["bucket"] == done["bucket"] == identifier[:32]


def test_a_direct_upload_is_one_line(site: UploadSite, caplog: pytest.LogCaptureFixture) -> None:
    """Begin and parts of a direct upload are no lines; its completion is."""
    identifier = site.identifier()
    query = f"X-Progress-ID={identifier}"
    wanted = json.dumps({"filename": NAME, "size": 4}).encode()
    begun = site.send("POST", "/upload/direct", query, wanted, CONTENT_TYPE="application/json").json
    assert site.send("PUT", "/upload/direct/part", urlsplit(begun["url"]).query, b"four").status == 200
    assert events(caplog) == []
    assert site.send("POST", "/upload/direct/complete", query).status == 200
    (event,) = events(caplog)
    assert (event["outcome"], event["bucket"], event["size"]) == ("done", identifier[:32], 4)
    assert event["protocol"] == "direct"


def test_a_direct_upload_that_does_not_keep_its_terms_is_one_line(
    site: UploadSite, caplog: pytest.LogCaptureFixture
) -> None:
    """A direct upload without its bytes fails when it is completed."""
    query = f"X-Progress-ID={site.identifier()}"
    wanted = json.dumps({"filename": NAME, "size": 4}).encode()
    site.send("POST", "/upload/direct", query, wanted, CONTENT_TYPE="application/json")
    site.send("POST", "/upload/direct/complete", query)
    (event,) = events(caplog)
    assert (event["outcome"], event["code"], event["protocol"]) == ("failed", "incomplete", "direct")


def test_an_attachment_of_a_session_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An accepted attachment is done; one that exceeds a quota after it was received has failed."""
    client = SessionSite(tmp_path / "pool", max_bundle_files=1).client()
    assert client.put("b", NAME, b"12345").status == 200
    assert client.put("b", "other", b"12").status == 413
    done, failed = events(caplog)
    assert (done["outcome"], done["size"], done["protocol"]) == ("done", 5, "put")
    assert (failed["outcome"], failed["code"], failed["size"]) == ("failed", "limit-exceeded", 2)


@pytest.mark.parametrize(("answer", "outcome"), [("200 OK", "done"), ("403 Forbidden", "failed")])
def test_an_attachment_of_a_record_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: str, outcome: str
) -> None:
    """An upload for a record is done if the app accepts the attachment; otherwise it has failed."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(answer if environ["REQUEST_METHOD"] == "PATCH" else "200 OK", [("Content-Type", "text/json")])
        return [b"{}"]

    component = RecordAttachments(app, directory=str(tmp_path), record_url="/{id}", min_free_space=0)
    body = form(file_part(b"12345", NAME, name="attachment"))
    call(component, make_environ("POST", "/1/attachment", "", body, {"CONTENT_TYPE": FORM_TYPE}))
    (event,) = events(caplog)
    assert (event["outcome"], event["size"] >= 5, event["protocol"]) == (outcome, True, "form")


def test_an_upload_through_s3fileup_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The completion of an upload that s3fileup has begun is one line; a second completion is none."""
    component = S3Fileup(directory=str(tmp_path), anonymous=True, min_free_space=0)

    def send(method: str, path: str, query: str, body: bytes = b"") -> bytes:
        return call(component, make_environ(method, path, query, body, {"REMOTE_ADDR": "192.0.2.1"}))[2]

    begun = json.loads(send("GET", "/s3put", f"s3_object_name={NAME}&s3_object_type=text/plain&s3_object_size=4"))
    send("PUT", "/part", urlsplit(begun["url"]).query, b"four")
    for _ in range(2):
        send("POST", "/complete", "key=" + quote(begun["key"]))
    (event,) = events(caplog)
    assert (event["outcome"], event["size"], event["client"]) == ("done", 4, "192.0.2.1")
    assert (event["protocol"], event["bucket"]) == ("direct", begun["key"][:32])


def test_a_disk_that_fails_is_one_line_and_a_traceback(
    site: UploadSite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that the pool cannot store is a line with its fields, beside the traceback."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr("fileupload.pool.directory.attempt.DirectoryAttempt.create_file", fail)
    site.put(b"x")
    (event,) = events(caplog)
    assert (event["outcome"], event["code"]) == ("failed", "storage-failed")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_json_lines_are_objects_with_the_fields() -> None:
    """A formatted record is one line of JSON, with the exception if there is one."""
    from fileupload.events import log_event
    from fileupload.server.log_format import JsonFormatter

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("fileupload")
    logger.addHandler(handler)
    try:
        log_event(logging.INFO, "upload done", {"client": "a\nb", "size": 5, "rate": None}, outcome="done")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("it failed")
    finally:
        logger.removeHandler(handler)
    first, second = map(json.loads, written.getvalue().splitlines())
    assert {"message": "upload done", "client": "a\nb", "size": 5, "outcome": "done", "level": "info"}.items() <= (
        first.items()
    )
    assert set(first) == {"timestamp", "level", "process", "message", "client", "size", "outcome"}
    assert (second["level"], second["message"]) == ("error", "it failed")
    assert "ValueError: two\nlines" in second["exception"]
