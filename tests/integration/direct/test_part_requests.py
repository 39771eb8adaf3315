"""Requests for parts to our own server, for pools without presigned URLs: as strict as a store, and atomic."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from fileupload.identifiers import new_id, new_key
from fileupload.protocols.direct.upload_tokens import TokenSigner, UploadToken
from tests.integration.direct.conftest import Open
from tests.support.clock import Clock
from tests.support.direct_site import DirectSite, outcome
from tests.support.waiting import PATIENCE, wait_until
from tests.support.wsgi_client import UploadSite, field_part, file_part, form

CONTENT = b"some bytes"
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=----gap5"}
MEBIBYTE = 1 << 20


@pytest.fixture
def kind() -> str:
    """Return a pool in a folder; forms have a test in a store too."""
    return "directory"


@pytest.fixture
def identifier(site: DirectSite) -> str:
    return site.identifier()


@pytest.fixture
def url(site: DirectSite, identifier: str) -> str:
    """Return the address of the only part of an upload."""
    url: str = site.offer(identifier, len(CONTENT))["url"]
    return url


def check_completes(site: DirectSite, identifier: str) -> None:
    """Check that the content is exactly the data sent, and that nothing else is left."""
    assert site.complete(identifier).status_code == 200
    assert site.stored(identifier) == CONTENT
    assert len(site.leftovers(identifier)) == 1


@pytest.mark.parametrize("before", [b"", CONTENT], ids=["the first", "another"])
def test_an_interrupted_part_leaves_the_earlier_version(
    site: DirectSite, identifier: str, url: str, before: bytes
) -> None:
    """An interrupted part leaves nothing; an earlier complete version of it still counts."""
    if before:
        site.put(url, before)
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), PATIENCE)) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        connection.sendall(head.encode() + b"zzzz")
        wait_until(lambda: len(site.leftovers(identifier)) == (2 if before else 1))
        connection.shutdown(socket.SHUT_WR)
        assert b"incomplete" in b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert len(site.leftovers(identifier)) == (1 if before else 0)
    assert site.renewed(identifier)["received"] == len(before)
    if not before:
        site.put(url, CONTENT)
    check_completes(site, identifier)


def test_parts_need_a_length(site: DirectSite, identifier: str, url: str) -> None:
    """A chunked part is refused, also by a server that detects its end; so is a compressed one."""

    def chunks() -> Iterator[bytes]:
        yield CONTENT

    assert outcome(site.put(url, chunks())) == (411, "length-required")
    answer = site.put(url, CONTENT, headers={"Content-Encoding": "gzip"})
    assert outcome(answer) == (415, "unsupported-request")
    assert site.leftovers(identifier) == []
    site.put(url, CONTENT)
    check_completes(site, identifier)


def test_a_modified_token_is_refused(site: DirectSite, identifier: str, url: str) -> None:
    """A ticket with any character changed, removed or added is invalid; so is an empty one."""
    ticket = url.partition("ticket=")[2]
    others = [ticket[:at] + ("A" if ticket[at] != "A" else "B") + ticket[at + 1 :] for at in range(0, len(ticket), 7)]
    for other in (
        "",
        ".",
        "ü",
        "\ud800".encode("utf-8", "surrogatepass"),
        identifier,
        ticket[:-1],
        ticket + "A",
        *others,
    ):
        answer = site.ask("PUT", "/direct/part", params={"ticket": other}, data=CONTENT)
        assert outcome(answer) == (403, "address-expired"), other
    assert site.leftovers(identifier) == []


def test_a_token_of_another_key_or_attempt_is_refused(site: DirectSite, identifier: str, url: str) -> None:
    """A ticket that was signed with another key, or for another attempt, is refused."""
    expires = int(time.time()) + 600
    foreign = TokenSigner([new_key()]).sign(UploadToken(identifier[:32], "0" * 16, 1, 0, None, expires))
    assert outcome(site.ask("PUT", "/direct/part", params={"ticket": foreign}, data=CONTENT)) == (
        403, "address-expired",
    )  # fmt: skip
    ours = TokenSigner(site.manager.key_ring.keys)
    for bucket_id, attempt in ((identifier[:32], "0" * 16), (new_id(), "0" * 16)):
        ticket = ours.sign(UploadToken(bucket_id, attempt, 1, 0, None, expires))
        answer = site.ask("PUT", "/direct/part", params={"ticket": ticket}, data=CONTENT)
        assert outcome(answer) == (409, "superseded")
    assert site.leftovers(identifier) == []


def test_an_expired_url_is_refused_and_can_be_renewed(open_site: Open, clock: Clock) -> None:
    """An expired address is refused, and new addresses can be requested."""
    site = open_site(direct_expires=1)
    identifier = site.identifier()
    url = site.offer(identifier, len(CONTENT))["url"]
    clock.advance(3)
    assert outcome(site.put(url, CONTENT)) == (403, "address-expired")
    assert site.leftovers(identifier) == []
    assert site.put(site.renewed(identifier)["url"], CONTENT).status_code == 200
    check_completes(site, identifier)


def test_a_url_signed_with_an_older_key_stays_valid(open_site: Open) -> None:
    """An address that was signed with an older key is valid as long as that key is."""
    old, new = new_key(), new_key()
    before = open_site(upload_key=old)
    identifier = before.identifier()
    query = urlsplit(before.offer(identifier, len(CONTENT))["url"]).query
    after, later = open_site(upload_key=[new, old]), open_site(upload_key=new)
    assert outcome(later.ask("PUT", f"/direct/part?{query}", data=CONTENT)) == (403, "address-expired")
    assert after.ask("PUT", f"/direct/part?{query}", data=CONTENT).status_code == 200
    check_completes(after, identifier)


def test_an_address_is_for_one_method(site: DirectSite, identifier: str, url: str) -> None:
    """The address of a part accepts PUT only, and that of a form POST only, as in a store."""
    answer = site.ask("POST", url, data=CONTENT)
    assert (outcome(answer), answer.headers["Allow"]) == ((405, "method-not-allowed"), "PUT")
    posted = site.offer(identifier, len(CONTENT), method="POST")
    answer = site.put(posted["url"], CONTENT)
    assert (outcome(answer), answer.headers["Allow"]) == ((405, "method-not-allowed"), "POST")
    assert site.leftovers(identifier) == []


GOOD = file_part(CONTENT)
BAD_FORMS = {
    "two files": (form(GOOD, GOOD), "malformed-form"),
    "no file": (form(field_part("a", "b")), "no-file"),
    "none chosen": (form(file_part(b"", "")), "no-file"),
    "broken off": (form(GOOD)[:-6], "incomplete"),
    "too short": (form(file_part(CONTENT[1:])), "incomplete"),
    "too long": (form(file_part(CONTENT + b"x")), "too-large"),
    "no form": (CONTENT, "incomplete"),
    "nothing": (b"", "incomplete"),
}


@pytest.mark.parametrize("kind", ["directory", "swift"])
def test_a_form_that_differs_from_the_signed_one_is_refused(site: DirectSite, kind: str) -> None:
    """A form that differs from the signed one is refused as a whole, and an earlier one still counts."""
    identifier = site.identifier()
    offered = site.offer(identifier, len(CONTENT), method="POST")
    for before in (0, 1):
        for body, code in BAD_FORMS.values():
            answer = site.ask("POST", offered["url"], data=body, headers=FORM_TYPE)
            assert answer.json()["code"] == code
            assert len(site.leftovers(identifier)) == before
        answer = site.ask("POST", offered["url"], data=form(field_part("a", "b"), GOOD), headers=FORM_TYPE)
        assert (answer.status_code, "ETag" in answer.headers) == (201, True)
    assert "ticket" not in answer.headers["Location"]
    check_completes(site, identifier)


@pytest.mark.parametrize("kind", ["directory", "swift"])
def test_a_large_form_is_streamed_to_a_store_in_parts(site: DirectSite, kind: str) -> None:
    """A large form is streamed through our own server."""
    identifier, content = site.identifier(), os.urandom(18 * MEBIBYTE)
    offered = site.offer(identifier, len(content), method="POST")
    assert site.post(offered, content).status_code == 201
    assert site.complete(identifier).status_code == 200
    assert site.stored(identifier) == content


def test_a_direct_upload_is_not_marked_as_buffered(tmp_path: Path) -> None:
    """A direct upload is not marked as buffered on a server that buffers request bodies."""
    site = UploadSite(tmp_path / "pool")
    identifier = site.identifier()
    query = urlencode({"X-Progress-ID": identifier})
    body = json.dumps({"filename": "a", "size": 1}).encode()
    offered = site.send("POST", "/upload/direct", query, body, SERVER_SOFTWARE="waitress")
    assert site.send("PUT", "/upload/direct/part", urlsplit(offered.json["url"]).query, b"x").status == 200
    assert "buffered" not in site.status(identifier)
    assert "buffered" not in site.send("POST", "/upload/direct/complete", query, SERVER_SOFTWARE="waitress").json


def test_a_token_contains_no_identifier_or_server_path(site: DirectSite, identifier: str, url: str) -> None:
    """A part's address is below the requested one, and its ticket holds neither the identifier nor a server path."""
    assert url.startswith(f"{site.base}/upload/direct/part?ticket=")
    fields: list[Any] = TokenSigner(site.manager.key_ring.keys)._serializer.loads(
        parse_qs(urlsplit(url).query)["ticket"][0]
    )
    assert fields[0] == identifier[:32]
    assert fields[2:5] == [1, len(CONTENT), len(CONTENT)]
    assert identifier not in url
