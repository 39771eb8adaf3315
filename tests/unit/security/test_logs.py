"""Logs and responses: a refused request is one log line, and neither contains an identifier."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wsgi_client import Answer, Stream, UploadSite, field_part, file_part, form, part


@pytest.fixture
def site(tmp_path: Path) -> UploadSite:
    """Return a site with restrictive settings."""
    settings = {
        "max_size": "100B",
        "max_files": 2,
        "max_fields": 2,
        "extensions": "txt",
        "jsonp": True,
        "cors_origins": "https://a.example",
    }
    return UploadSite(tmp_path / "pool", **settings)


def twice(site: UploadSite, identifier: str) -> Answer:
    site.put(b"x", identifier)
    return site.put(b"x", identifier)


def without_successes(records: list[logging.LogRecord]) -> list[logging.LogRecord]:
    """Return the records of this package except those of finished uploads."""
    return [each for each in records if each.name.startswith("fileupload") and "upload done" not in each.getMessage()]


Send = Callable[[UploadSite, str], Answer]

REFUSALS: dict[str, Send] = {
    "invalid-identifier": lambda site, identifier: site.put(b"x", identifier[:-3] + "abc"),
    "too-large": lambda site, identifier: site.put(b"x" * 101, identifier),
    "limit-exceeded": lambda site, identifier: site.post(form(*(file_part("x") for _ in range(3))), identifier),
    "type-not-allowed": lambda site, identifier: site.put(b"x", identifier, "a.exe"),
    "unsupported-request": lambda site, identifier: site.put(b"x", identifier, HTTP_CONTENT_ENCODING="gzip"),
    "malformed-form": lambda site, identifier: site.post(b"------gap5\r\nx\r\n\r\n", identifier),
    "incomplete": lambda site, identifier: site.put(Stream([b"x"]), identifier, CONTENT_LENGTH="9"),
    "length-required": lambda site, identifier: site.put(Stream([]), identifier, SERVER_SOFTWARE="Granian"),
    "already-done": twice,
    "method-not-allowed": lambda site, identifier: site.send("PATCH", "/upload/status", f"X-Progress-ID={identifier}"),
    "bad-callback": lambda site, identifier: site.send(
        "GET", "/upload/status", f"X-Progress-ID={identifier}&callback=(x)"
    ),
    "origin-not-allowed": lambda site, identifier: site.send(
        "OPTIONS",
        "/upload",
        f"X-Progress-ID={identifier}",
        HTTP_ORIGIN="https://b",
        HTTP_ACCESS_CONTROL_REQUEST_METHOD="PUT",
    ),
}


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_one_line_without_the_identifier(
    site: UploadSite, code: str, accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs and responses contain nothing that gives access to an upload."""
    identifier = site.identifier()
    original = site.send
    site.send = lambda *args, **environ: original(*args, **{"HTTP_ACCEPT": accept, **environ})  # type: ignore[method-assign]
    with caplog.at_level(logging.DEBUG):
        answer = REFUSALS[code](site, identifier)
    # The server is warned of only once.
    lines = [record for record in without_successes(caplog.records) if record.levelno < logging.WARNING]
    assert len(lines) == 1
    assert code in lines[0].getMessage()
    assert code in answer.body.decode()
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    signature = identifier.rpartition(".")[2]
    for text in (caplog.text, answer.body.decode(), str(answer.headers)):
        assert identifier not in text
        assert signature not in text
        assert str(site.directory) not in text


@pytest.mark.parametrize("count", [1, 500])
def test_a_request_with_many_faults_is_one_log_line(
    site: UploadSite, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A request with many faults is one log line (python-multipart CVE-2024-53981, CVE-2026-40347)."""
    with caplog.at_level(logging.DEBUG):
        site.post(b"--" * count + form(*(part("Bad: header", "x") for _ in range(count))) + b"\r\n--" * count)
    assert len([record for record in caplog.records if record.name.startswith(("fileupload", "multipart"))]) == 1


@pytest.mark.parametrize("name", ["a\r\n2026 ERROR forged", "\x1b[2J", "%s%n{0}", "a\u2028b"])
def test_names_do_not_reach_the_log(site: UploadSite, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Client data can neither forge a log line nor send control sequences to a terminal."""
    with caplog.at_level(logging.DEBUG):
        site.put(b"x", filename=name)
        site.post(form(field_part(name.replace("\r\n", "%0D%0A"), b"\xff")))
        site.put(b"x", name)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("fileupload")]
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert not any("forged" in line or "%s" in line for line in lines)


def test_the_address_of_a_client_does_not_forge_a_line(site: UploadSite, caplog: pytest.LogCaptureFixture) -> None:
    """What is no address is left out: a server or a proxy may pass on what a client wrote."""
    with caplog.at_level(logging.DEBUG):
        site.put(b"x", REMOTE_ADDR="::1\r\n2026 ERROR size=9")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "ERROR" not in line
    assert "client=" not in line
    assert line.isprintable()


MARKUP = '"><script>alert(1)</script>'


def test_names_of_fields_are_escaped_in_error_pages(site: UploadSite) -> None:
    """An error page escapes names of fields."""
    body = form(part('Content-Disposition: form-data; name="' + MARKUP.replace('"', "%22") + '"', b"\xff"))
    answer = site.post(body, HTTP_ACCEPT="text/html")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert b"<script" not in answer.body
    assert b"&lt;script&gt;" in answer.body
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_finished_upload_is_one_line(site: UploadSite, caplog: pytest.LogCaptureFixture) -> None:
    """The end of an upload is one line; a request for its status is none, since the server has its own log."""
    identifier = site.identifier()
    with caplog.at_level(logging.DEBUG):
        site.put(b"x", identifier, REMOTE_ADDR="192.0.2.1")
        site.status(identifier)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"upload done bucket={identifier[:32]} files=1 size=1 seconds=")
    assert record.getMessage().endswith(" client=192.0.2.1 protocol=put")
    assert identifier not in caplog.text
