"""The steps of a direct upload, with a real server and a real client, in a folder and in a store."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from fileupload.pool.object.pool import ObjectPool
from tests.integration.direct.conftest import Open
from tests.support.clock import Clock
from tests.support.direct_site import DirectSite, outcome, slices

MEBIBYTE = 1 << 20
CONTENT = b"some bytes"
MOMENTS = {"identifier", "started", "updated", "finished"}


def test_the_app_gets_the_same_descriptor_as_after_a_put(site: DirectSite) -> None:
    """Behind the middleware a direct upload looks like any other, except that a store gives no SHA-256."""
    put, direct = site.identifier(), site.identifier()
    query = {"filename": "a ü.png"}
    expected = site.ask("PUT", "", put, params=query, data=CONTENT, headers={"Content-Type": "image/png"}).json()
    offered = site.offer(direct, len(CONTENT), **{"content-type": "image/png"})
    assert (offered["method"], offered["headers"], offered["received"]) == ("PUT", {}, 0)
    assert offered["identifier"] == direct
    assert site.put(offered["url"], CONTENT).status_code == 200
    answer = site.complete(direct)
    assert (answer.status_code, answer.headers["X-App"]) == (200, "yes")
    given = answer.json()
    assert given["identifier"] == direct
    if isinstance(site.pool, ObjectPool):
        del expected["sha256"], expected["files"][0]["sha256"]
    assert {name: given[name] for name in given if name not in MOMENTS} == {
        name: expected[name] for name in expected if name not in MOMENTS
    }
    assert given.keys() == expected.keys()
    assert site.status(direct) == given
    assert site.stored(direct) == CONTENT


def test_the_app_gets_a_post_of_the_descriptor(site: DirectSite) -> None:
    """The app sees a POST of the descriptor, and has the bucket of the upload."""
    identifier = site.identifier()
    site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT)
    site.complete(identifier, json={}, headers={"Content-Disposition": "attachment"})
    bucket = site.seen["fileupload.bucket"]
    assert (bucket.id, bucket.identifier) == (identifier[:32], identifier)
    with bucket.open() as file:
        assert file.read() == CONTENT
    assert site.seen["fileupload"] is site.manager
    assert site.seen["REQUEST_METHOD"] == site.seen["fileupload.request_method"] == "POST"
    assert site.seen["CONTENT_TYPE"] == "application/json"
    assert site.seen["PATH_INFO"] == "/upload/direct/complete"
    assert "HTTP_CONTENT_DISPOSITION" not in site.seen


def test_the_status_shows_the_received_bytes_of_parts(site: DirectSite) -> None:
    """From the offer on, the status has the expected size, and then the number of received bytes."""
    identifier = site.identifier()
    offered = site.offer(identifier, 6 * MEBIBYTE, **{"content-type": "text/plain"})
    status = site.status(identifier)
    assert (status["state"], status["filename"], status["content-type"], status["size"], status["received"]) == (
        "uploading", "a ü.png", "text/plain", 6 * MEBIBYTE, 0,
    )  # fmt: skip
    assert status.keys() == {
        "identifier", "state", "filename", "content-type", "size", "received", "started", "updated",
    }  # fmt: skip
    site.put(offered["parts"][1]["url"], bytes(MEBIBYTE))
    assert site.status(identifier)["received"] == MEBIBYTE
    assert site.renewed(identifier)["received"] == MEBIBYTE


def test_parts_are_sent_and_listed_and_sent_again(site: DirectSite) -> None:
    """Stored parts are listed with ETags; new addresses are as valid as the first; a part may be sent again."""
    content = os.urandom(12 * MEBIBYTE)
    identifier = site.identifier()
    offered = site.offer(identifier, len(content), sha256=hashlib.sha256(content).hexdigest())
    assert [(part["number"], part["offset"], part["size"]) for part in offered["parts"]] == [
        (1, 0, 5 * MEBIBYTE), (2, 5 * MEBIBYTE, 5 * MEBIBYTE), (3, 10 * MEBIBYTE, 2 * MEBIBYTE),
    ]  # fmt: skip
    assert offered["part_size"] == 5 * MEBIBYTE
    assert "url" not in offered
    addresses = list(slices(content, offered))
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda each: site.put(*each), [addresses[2], addresses[0]]))
    etags = {3: answers[0].headers["ETag"], 1: answers[1].headers["ETag"]}
    again = site.renewed(identifier)
    assert [part.get("etag") for part in again["parts"]] == [etags[1], None, etags[3]]
    assert again["received"] == 7 * MEBIBYTE
    assert [part["number"] for part in site.renewed(identifier, **{"from": 3})["parts"]] == [3]
    assert site.renewed(identifier, **{"from": 4})["parts"] == []
    for url in (addresses[1][0], list(slices(content, again))[1][0]):
        etags[2] = site.put(url, addresses[1][1]).headers["ETag"]
    named = [{"number": number, "etag": etag} for number, etag in etags.items()]
    answer = site.complete(identifier, json={"parts": named})
    assert (answer.status_code, answer.json()["sha256"]) == (200, hashlib.sha256(content).hexdigest())
    assert site.stored(identifier) == content
    assert len(site.leftovers(identifier)) == 1


@pytest.mark.parametrize("kind", ["directory", "swift", "ceph"])
def test_a_form_is_stored_under_the_agreed_name(site: DirectSite) -> None:
    """A form is posted to the store, or to our own server, and stored under the agreed name."""
    identifier = site.identifier()
    offered = site.offer(identifier, len(CONTENT), method="POST", **{"content-type": "text/plain"})
    assert offered["method"] == "POST"
    assert site.post(offered, CONTENT).status_code == 201
    assert site.status(identifier)["received"] == len(CONTENT)
    given = site.complete(identifier).json()
    assert (given["state"], given["filename"], given["content-type"]) == ("done", "a ü.png", "text/plain")
    assert site.stored(identifier) == CONTENT
    assert len(site.leftovers(identifier)) == 1


def test_an_empty_file_has_one_part(site: DirectSite) -> None:
    """An empty file has one part, which is sent too."""
    identifier = site.identifier()
    assert site.put(site.offer(identifier, 0)["url"], b"").status_code == 200
    assert site.complete(identifier).json()["size"] == 0
    assert site.stored(identifier) == b""


def test_a_long_list_of_parts_is_paginated(site: DirectSite) -> None:
    """A list of very many parts comes in pages of a thousand, and takes few requests to the store."""
    identifier = site.identifier()
    asked: list[object] = []
    if isinstance(site.pool, ObjectPool):
        site.pool.store.client.meta.events.register("before-call.s3", lambda **_: asked.append(None))  # type: ignore[attr-defined]
    offered = site.offer(identifier, 1001 * 5 * MEBIBYTE - 1)
    assert (len(offered["parts"]), offered["next"]) == (1000, 1001)
    assert len({part["url"] for part in offered["parts"]}) == 1000
    assert len(asked) < 20
    rest = site.renewed(identifier, **{"from": offered["next"]})
    assert [(part["number"], part["offset"], part["size"]) for part in rest["parts"]] == [
        (1001, 1000 * 5 * MEBIBYTE, 5 * MEBIBYTE - 1)
    ]
    assert "next" not in rest
    assert site.ask("DELETE", "/status", identifier).json() == {"success": True}
    assert site.leftovers(identifier) == []


def test_an_expired_identifier_can_complete_its_upload(site: DirectSite, clock: Clock) -> None:
    """With an expired identifier no upload begins, but one that has begun can be completed."""
    identifier, other = site.identifier(max_age=60), site.identifier(max_age=60)
    site.offer(identifier, len(CONTENT))
    clock.advance(62)  # the age is counted in whole seconds
    assert site.refused(other, {"filename": "a", "size": 1}) == (403, "invalid-identifier")
    site.put(site.renewed(identifier)["url"], CONTENT)
    assert site.complete(identifier).status_code == 200
    assert site.refused(identifier, {"filename": "a", "size": 1}) == (403, "invalid-identifier")


def test_anonymous_clients_may_upload_if_that_is_set(open_site: Open) -> None:
    """With ``anonymous``, a client that has only the address can make a complete upload."""
    site = open_site(anonymous=True)
    identifier = site.ask("POST", "/identifier").json()["identifier"]
    site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT)
    assert site.complete(identifier).json()["state"] == "done"


def test_a_set_path_is_the_only_one_for_direct_uploads(open_site: Open) -> None:
    """With ``path`` the addresses are below it alone, and all others are the app's."""
    site = open_site(path="/files/in")
    identifier = site.identifier()
    assert site.ask("POST", "/direct", identifier, json={}).headers["X-App"] == "yes"
    site.upload = "/files/in"
    assert site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT).status_code == 200
    assert site.complete(identifier).status_code == 200
    assert site.seen["PATH_INFO"] == "/files/in/direct/complete"


def test_upload_url_leaves_direct_uploads_to_the_dedicated_server(open_site: Open) -> None:
    """With ``upload_url`` these requests pass to the app, and the identifier is valid at the dedicated server."""
    here, there = open_site(upload_url="https://uploads.example.com/upload"), open_site()
    identifier = here.identifier()
    for method, address in (("POST", "/direct"), ("GET", "/direct"), ("PUT", "/direct/part?ticket=x")):
        answer = here.ask(method, address, identifier)
        assert (answer.status_code, answer.headers["X-App"]) == (200, "yes")
        assert "fileupload.bucket" not in here.seen
    there.put(there.offer(identifier, len(CONTENT))["url"], CONTENT)
    assert here.complete(identifier).json() == {}
    assert there.complete(identifier).json()["state"] == "done"


def test_a_reset_invalidates_the_urls_and_removes_the_parts(site: DirectSite) -> None:
    """After a reset the old addresses are refused, completing fails, nothing is left, and an upload can start again."""
    identifier = site.identifier()
    offered = site.offer(identifier, 6 * MEBIBYTE)
    site.put(offered["parts"][1]["url"], bytes(MEBIBYTE))
    assert site.ask("DELETE", "/status", identifier).status_code == 200
    assert site.status(identifier)["state"] == "unknown"
    assert site.put(offered["parts"][1]["url"], bytes(MEBIBYTE)).status_code in {404, 409}
    assert outcome(site.complete(identifier)) == (404, "not-direct")
    assert outcome(site.ask("GET", "/direct", identifier)) == (404, "not-direct")
    assert site.leftovers(identifier) == []
    site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT)
    assert site.complete(identifier).status_code == 200


def test_a_second_request_restarts_the_upload(site: DirectSite) -> None:
    """A second request restarts the upload: earlier data is discarded, and the earlier addresses are refused."""
    identifier = site.identifier()
    old = site.offer(identifier, 6 * MEBIBYTE)
    site.put(old["parts"][1]["url"], bytes(MEBIBYTE))
    new = site.offer(identifier, len(CONTENT))
    assert new["received"] == site.status(identifier)["received"] == 0
    assert site.put(old["parts"][1]["url"], bytes(MEBIBYTE)).status_code in {404, 409}
    site.put(new["url"], CONTENT)
    assert site.complete(identifier).status_code == 200
    assert site.stored(identifier) == CONTENT
    assert len(site.leftovers(identifier)) == 1


def test_a_finished_upload_is_not_changed_by_later_requests(site: DirectSite) -> None:
    """A finished upload is neither completed again nor restarted, and late data does not change it."""
    identifier = site.identifier()
    url = site.offer(identifier, len(CONTENT))["url"]
    site.put(url, CONTENT)
    site.complete(identifier)
    assert outcome(site.complete(identifier)) == (409, "already-done")
    assert outcome(site.ask("GET", "/direct", identifier)) == (409, "already-done")
    assert site.refused(identifier, {"filename": "b", "size": 1}) == (409, "already-done")
    assert site.put(url, b"z" * len(CONTENT)).status_code in {404, 409}
    assert site.stored(identifier) == CONTENT
    assert len(site.leftovers(identifier)) == 1


def allowed(answer: requests.Response) -> tuple[Any, Any]:
    exposed = answer.headers.get("Access-Control-Expose-Headers", "")
    return answer.headers.get("Access-Control-Allow-Origin"), "ETag" in exposed


def test_only_pages_of_configured_origins_may_upload(open_site: Open) -> None:
    """Pages of configured origins may send and read all requests, errors too; other pages may not."""
    site = open_site(cors_origins="https://good.example.com")
    identifier = site.identifier()
    good, bad = {"Origin": "https://good.example.com"}, {"Origin": "https://bad.example.com"}
    for method, address in (("POST", "/direct"), ("POST", "/direct/complete"), ("PUT", "/direct/part?ticket=x")):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
        answer = site.ask("OPTIONS", address, identifier, headers=good | asked)
        assert (answer.status_code, method in answer.headers["Access-Control-Allow-Methods"]) == (204, True)
        assert allowed(answer)[0] == good["Origin"]
        assert outcome(site.ask("OPTIONS", address, identifier, headers=bad | asked)) == (403, "origin-not-allowed")
        assert allowed(site.ask(method, address, identifier, data=b"{", headers=good)) == (good["Origin"], True)
        assert allowed(site.ask(method, address, identifier, data=b"{", headers=bad)) == (None, False)
    wish = {"filename": "a", "size": 1}
    answer = site.ask("POST", "/direct", identifier, json=wish, headers=good)
    assert allowed(answer) == (good["Origin"], True)
    if answer.json()["url"].startswith(site.base):
        sent = site.put(answer.json()["url"], b"x", headers=good)
        assert (sent.status_code, allowed(sent)) == (200, (good["Origin"], True))
    else:
        site.put(answer.json()["url"], b"x")
    assert allowed(site.complete(identifier, headers=good)) == (good["Origin"], True)


@pytest.mark.parametrize("given", ["application/octet-stream", ""])
def test_a_type_that_the_client_does_not_know(site: DirectSite, given: str) -> None:
    """Without a type, or with application/octet-stream, the extension decides, also for the types of the identifier."""
    identifier = site.identifier(content_types=["image/*"])
    offer = site.ask("POST", "/direct", identifier, json={"filename": "1.HEIC", "content-type": given, "size": 1})
    assert offer.status_code == 200
    assert site.put(offer.json()["url"], b"x").status_code == 200
    assert site.complete(identifier).json()["content-type"] == "image/heic"
