"""Clients that only send their file to the presigned URL, as those of django-s3fileup do."""

from __future__ import annotations

import threading
import time
from typing import Any
from wsgiref.simple_server import demo_app

import pytest
import requests

from fileupload import UploadMiddleware
from fileupload.apps.s3fileup import background
from fileupload.apps.s3fileup import webhook as callback
from fileupload.apps.s3fileup.errors import CallbackFailed
from fileupload.status import State
from tests.integration.s3fileup.conftest import Open
from tests.support.s3fileup_site import Application, S3FileupSite
from tests.support.waiting import PATIENCE, wait_until
from tests.support.wsgi_client import call, make_environ

CONTENT = b"some bytes"
MEBIBYTE = 1 << 20
ACL = {"x-amz-acl": "public-read"}


@pytest.fixture
def in_background(monkeypatch: pytest.MonkeyPatch, no_opportunistic_deliveries: None) -> None:
    """Let the app look for sent files all the time, and complete them at once."""
    monkeypatch.setattr(background, "_INTERVAL", 1.0)
    monkeypatch.setattr(background, "_SETTLING_TIME", 0.0)


def begin(site: S3FileupSite, name: str = "a ü.txt", **other: str) -> dict[str, Any]:
    """Begin an upload as the predecessor's page does, without its size."""
    return site.got("GET", "/s3put/", params={"s3_object_name": name, "s3_object_type": "text/plain", **other})


def send(offered: dict[str, Any], content: bytes = CONTENT, **headers: str) -> requests.Response:
    """Send the file as the predecessor's page does, with its type; return the answer."""
    headers = {"Content-Type": "text/plain", **offered["headers"], **headers}
    return requests.put(offered["url"], content, headers=headers, timeout=PATIENCE)


def state_of(site: S3FileupSite, key: str) -> State:
    bucket = site.app.manager.access_upload_bucket(key)
    return State.UNKNOWN if bucket is None else bucket.get_status().state


def settle(site: S3FileupSite) -> None:
    """Let the app complete what was sent, as its thread does."""
    completion = site.app._uploads._background
    for bucket_id in site.pool.index.names(background._NOTES):
        completion._settle(bucket_id, late=True)


@pytest.fixture
def no_settling_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the background complete and deliver at once what was sent, though its client may still do so itself."""
    monkeypatch.setattr(background, "_SETTLING_TIME", 0.0)


@pytest.mark.parametrize("acl", ["", "public-read"])
@pytest.mark.parametrize("content", [CONTENT, b"", bytes(6 * MEBIBYTE)], ids=["short", "empty", "long"])
def test_a_size_that_is_not_announced(open_site: Open, application: Application, content: bytes, acl: str) -> None:
    """The size is optional: the file is stored with its real size, and ``s3get`` completes the upload."""
    site = open_site(anonymous=True, acl=acl)
    offered = begin(site)
    assert (offered["size"], offered["method"], offered["headers"]) == (None, "PUT", ACL if acl else {})
    assert send(offered, content).status_code == 200
    link = site.got("GET", "/s3get/", params={"key": offered["key"]})["url"]
    assert requests.get(link, timeout=PATIENCE).content == content
    [(_, descriptor)] = application.deliveries
    assert (descriptor["filename"], descriptor["content-type"], descriptor["size"]) == (
        "a ü.txt", "text/plain", len(content),
    )  # fmt: skip
    assert len(site.leftovers()) == 1


@pytest.mark.parametrize("acl", ["", "public-read"])
def test_the_limit_of_a_size_that_is_not_announced(open_site: Open, acl: str) -> None:
    """A file over max_size is refused while it is sent, or when the upload is completed, and not kept."""
    site = open_site(anonymous=True, max_size="1M", acl=acl)
    for extra, accepted in ((0, True), (1, False)):
        offered = begin(site)
        sent = send(offered, bytes(MEBIBYTE + extra)).status_code
        completed = site.complete(offered["key"])
        assert (sent == completed.status_code == 200) is accepted
        assert sent in {200, 413}
    assert completed.json()["code"] == ("too-large" if sent == 200 else "incomplete")
    assert len(site.leftovers()) == 1


def test_the_limit_in_the_background(open_site: Open, application: Application, in_background: None) -> None:
    """A file over max_size that is found in the background is removed, and no webhook is sent."""
    site = open_site(anonymous=True, max_size="1M")
    offered = begin(site)
    send(offered, bytes(MEBIBYTE + 1))
    if state_of(site, offered["key"]) is State.UPLOADING and site.leftovers():  # in a store
        wait_until(lambda: state_of(site, offered["key"]) is State.ERROR)
    assert site.leftovers() == []
    assert application.deliveries == []


def test_a_client_that_does_not_return(site: S3FileupSite, application: Application, in_background: None) -> None:
    """An upload is completed, and its webhook sent once, although no request follows that of the file."""
    offered = begin(site)
    assert send(offered).status_code == 200
    wait_until(lambda: application.delivered_keys)
    wait_until(lambda: not site.pool.index.names(background._NOTES))
    assert site.stored(offered["key"]) == CONTENT
    assert site.complete(offered["key"]).status_code == 200
    assert application.delivered_keys == [offered["key"]]


@pytest.mark.parametrize("accept", ["application/json", "*/*"], ids=["PUT", "form"])
def test_a_page_with_uppy_that_does_not_return(
    site: S3FileupSite, application: Application, in_background: None, accept: str
) -> None:
    """A single upload by Uppy is completed too, if its page is closed before it completes the upload."""
    query = {"filename": "b.txt", "type": "text/plain"}
    offered = site.got("GET", "/s3/params", params=query, headers={"Accept": accept})
    if offered["method"] == "PUT":
        requests.put(offered["url"], CONTENT, timeout=PATIENCE)
    else:
        requests.post(offered["url"], offered["fields"], files={"file": ("blob", CONTENT)}, timeout=PATIENCE)
    wait_until(lambda: application.delivered_keys)
    assert application.deliveries[0][1]["size"] == len(CONTENT)


def test_an_app_that_was_restarted(open_site: Open, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that was sent before a restart is completed after the next request of any client."""
    before = open_site(anonymous=True)
    offered = begin(before)
    send(offered)
    monkeypatch.setattr(background, "_INTERVAL", 1.0)
    monkeypatch.setattr(background, "_SETTLING_TIME", 0.0)
    after = open_site(anonymous=True)
    after.refused("GET", "/s3get/", params={"key": "x"})
    wait_until(lambda: application.delivered_keys == [offered["key"]])


def test_a_file_that_is_still_being_sent(site: S3FileupSite, application: Application) -> None:
    """Before the file is there, neither the background nor ``s3get`` ends the upload."""
    offered = begin(site)
    settle(site)
    assert site.refused("GET", "/s3get/", params={"key": offered["key"]}) == (400, "incomplete")
    assert send(offered).status_code == 200
    settle(site)  # the client may send the file again if it has missed the answer
    assert state_of(site, offered["key"]) is State.UPLOADING
    assert send(offered, CONTENT[1:]).status_code == 200
    assert site.got("GET", "/s3get/", params={"key": offered["key"]})["url"]
    assert site.stored(offered["key"]) == CONTENT[1:]
    assert len(application.deliveries) == 1


@pytest.mark.parametrize("kind", ["directory"])
def test_parts_are_left_to_their_client(site: S3FileupSite) -> None:
    """An upload in parts is not completed in the background: only its client knows which part is the last."""
    site.got("POST", "/s3/multipart", json={"filename": "a"})
    assert site.pool.index.names(background._NOTES) == []


@pytest.mark.parametrize("kind", ["directory"])
def test_notes_end(site: S3FileupSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note of an upload that is never sent is removed after a day, that of a removed one at once."""
    kept, cleared = begin(site), begin(site)
    site.app.manager.clear_upload_bucket(cleared["key"])
    settle(site)
    [name] = site.pool.index.names(background._NOTES)
    assert kept["key"].startswith(name)
    completion = site.app._uploads._background
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 + background._LATE_AFTER)
    assert completion._settle(name, late=False) is False
    assert completion._settle(name, late=True) is False
    monkeypatch.setattr(time, "time", lambda: now() + 3601 + background._MAX_TRANSFER_TIME)
    assert completion._settle(name, late=True) is True
    assert site.pool.index.names(background._NOTES) == []


@pytest.mark.parametrize("kind", ["directory"])
def test_another_upload_in_the_bucket(site: S3FileupSite, application: Application) -> None:
    """An upload that another application has made in the bucket since is not announced."""
    offered = begin(site)
    site.app.manager.clear_upload_bucket(offered["key"])
    middleware = UploadMiddleware.from_manager(demo_app, site.app.manager)
    call(middleware, make_environ("PUT", "/upload", f"X-Progress-ID={offered['key']}", b"x", {}))
    assert state_of(site, offered["key"]) is State.DONE
    settle(site)
    assert application.deliveries == []
    assert site.pool.index.names(background._NOTES) == []


def test_a_webhook_that_fails_in_the_background(
    site: S3FileupSite, application: Application, in_background: None
) -> None:
    """If the webhook fails, the upload is complete, and the delivery is retried as for any other."""
    application.answers = [500] * 3
    offered = begin(site)
    send(offered)
    wait_until(lambda: site.pool.index.names(callback._PENDING))
    wait_until(lambda: not site.pool.index.names(background._NOTES))
    assert site.stored(offered["key"]) == CONTENT
    site.app._uploads._webhook._retry()
    assert application.delivered_keys == [offered["key"]]


@pytest.mark.usefixtures("no_settling_time")
def test_two_that_complete_at_once(site: S3FileupSite, application: Application) -> None:
    """While one process delivers the webhook, another does not: the application is told once."""
    offered = begin(site)
    send(offered)
    application.silence.clear()
    first = threading.Thread(target=site.complete, args=(offered["key"],))
    first.start()
    wait_until(lambda: state_of(site, offered["key"]) is State.DONE)
    wait_until(lambda: list(site.pool.index.keys(callback._DELIVERED)))
    assert site.complete(offered["key"]).status_code == 200
    settle(site)
    assert len(site.pool.index.names(background._NOTES)) == 1  # it is not known yet whether the delivery succeeds
    application.silence.set()
    first.join(PATIENCE)
    settle(site)
    assert application.delivered_keys == [offered["key"]]
    assert site.pool.index.names(background._NOTES) == []


@pytest.mark.usefixtures("no_settling_time")
@pytest.mark.parametrize("kind", ["directory"])
def test_a_process_that_crashed_while_it_delivered(
    site: S3FileupSite, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim of a process that crashed during a delivery expires, and another process delivers."""

    def crash(*_: object) -> bool:
        raise SystemExit

    offered = begin(site)
    send(offered)
    with monkeypatch.context() as patch:
        patch.setattr(callback.Webhook, "_post", crash)
        with pytest.raises(SystemExit):
            site.app._uploads.complete(site.app._uploads.find(offered["key"]))
    settle(site)
    assert application.deliveries == []
    monkeypatch.setattr(callback, "_CLAIM_TTL", 0.0)
    settle(site)
    assert application.delivered_keys == [offered["key"]]


@pytest.mark.parametrize("kind", ["directory"])
def test_a_delivery_that_fails_is_no_claim(site: S3FileupSite, application: Application) -> None:
    """After a delivery has failed, the next request delivers at once."""
    application.answers = [500] * 3
    key = site.sent(CONTENT)
    uploads = site.app._uploads
    with pytest.raises(CallbackFailed):
        uploads.complete(uploads.find(key))
    uploads.complete(uploads.find(key))
    assert application.delivered_keys == [key]


def test_an_acl_is_signed(open_site: Open) -> None:
    """With the setting acl, the URL is signed for the header that the answer names; no other ACL is accepted."""
    site = open_site(anonymous=True, acl="public-read")
    for size in ({}, {"s3_object_size": str(len(CONTENT))}):
        offered = begin(site, **size)
        assert offered["headers"] == ACL
        if not offered["url"].startswith(site.base):
            assert "x-amz-acl" in offered["url"].partition("X-Amz-SignedHeaders=")[2].partition("&")[0]
            for wrong in ({"x-amz-acl": "public-read-write"}, {}):
                assert send({**offered, "headers": wrong}).status_code == 403
        assert send(offered).status_code == 200
        assert site.complete(offered["key"]).json()["size"] == len(CONTENT)
        assert send(offered, CONTENT[::-1]).status_code in {200, 403, 404, 409}
        assert site.stored(offered["key"]) == CONTENT


@pytest.mark.parametrize("kind", ["ceph"])
def test_a_file_that_its_client_makes_public(open_site: Open) -> None:
    """In a store with ACLs, the file of a client that sends the ACL can be read by everyone, as an attachment."""
    site = open_site(anonymous=True, acl="public-read")
    offered = begin(site, name="page.html", s3_object_type="text/html")
    send(offered, b"<script>", **{"Content-Type": "text/html"})
    link = site.got("GET", "/s3get/", params={"key": offered["key"]})["url"]
    answer = requests.get(link.partition("?")[0], timeout=PATIENCE)
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("kind", ["directory"])
def test_a_preflight_permits_the_acl(open_site: Open) -> None:
    """A page of another origin may send the header of the ACL to the upload server."""
    site = open_site(anonymous=True, acl="public-read", cors_origins="https://good.example.com")
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type,x-amz-acl"}
    answer = site.ask("OPTIONS", begin(site)["url"], headers={"Origin": "https://good.example.com", **asked})
    assert answer.status_code == 204
    assert "x-amz-acl" in answer.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("kind", ["directory"])
def test_the_background_leaves_a_recent_completion_to_its_client(site: S3FileupSite, application: Application) -> None:
    """A client that completes its upload gets the answer after the delivery, which the background does not begin."""
    offered = begin(site)
    send(offered)
    site.app._uploads.direct.complete(site.app._uploads.find(offered["key"]).bucket_id)
    settle(site)
    assert application.deliveries == []
    assert site.complete(offered["key"]).status_code == 200
    assert application.delivered_keys == [offered["key"]]
