"""The URLs of the predecessor and of Uppy, with a real server and a real client, in a folder and in a store."""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests

from tests.integration.s3fileup.conftest import Open
from tests.support.s3fileup_site import Application, S3FileupSite
from tests.support.waiting import PATIENCE

MEBIBYTE = 1 << 20
CONTENT = b"some bytes"
LARGE = os.urandom(5 * MEBIBYTE + 3)


def read(url: str, **headers: str) -> requests.Response:
    """Follow a link, without credentials."""
    return requests.get(url, headers=headers, timeout=PATIENCE)


def post_form(offered: dict[str, Any], content: bytes, name: str = "blob") -> requests.Response:
    """Post a file as Uppy does."""
    return requests.post(offered["url"], data=offered["fields"], files={"file": (name, content)}, timeout=PATIENCE)


def create_multipart_upload(site: S3FileupSite, name: str = "a ü.bin") -> tuple[str, str]:
    """Begin an upload in parts; return its address and its key."""
    begun = site.got("POST", "/s3/multipart", json={"filename": name, "type": "image/png", "metadata": {"name": name}})
    return f"/s3/multipart/{begun['uploadId']}", begun["key"]


def send_parts(site: S3FileupSite, address: str, key: str, content: bytes = LARGE) -> list[dict[str, Any]]:
    """Send two parts; return the arguments of the completion."""
    parts = []
    for number, part in ((1, content[: 5 * MEBIBYTE]), (2, content[5 * MEBIBYTE :])):
        url = site.got("GET", f"{address}/{number}", params={"key": key})["url"]
        answer = site.ask("PUT", url, data=part)
        parts.append({"PartNumber": number, "ETag": answer.headers["ETag"]})
    return parts


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["/", ""])
def test_a_file_is_sent_to_a_presigned_url_and_a_webhook_is_sent(
    site: S3FileupSite, application: Application, method: str, slash: str
) -> None:
    """The predecessor's three parameters get a presigned URL; the file sent to it is kept, and a webhook is sent."""
    parameters = {"s3_object_name": "a ü.txt", "s3_object_type": "text/plain", "s3_object_size": len(CONTENT)}
    where = {"params" if method == "GET" else "data": parameters}
    offered = site.got(method, f"/s3put{slash}", **where)
    assert offered["method"] == "PUT"
    assert site.ask("PUT", offered["url"], data=CONTENT).status_code == 200
    answer = site.complete(offered["key"])
    assert answer.status_code == 200
    descriptor = answer.json()
    assert (descriptor["identifier"], descriptor["filename"], descriptor["content-type"], descriptor["size"]) == (
        offered["key"], "a ü.txt", "text/plain", len(CONTENT),
    )  # fmt: skip
    assert application.deliveries == [(204, descriptor)]
    assert site.stored(offered["key"]) == CONTENT
    assert len(site.leftovers()) == 1


def test_parameters_may_be_sent_as_json(site: S3FileupSite) -> None:
    """The parameters may also come as JSON."""
    offered = site.got("POST", "/s3put/", json={"s3_object_name": "a", "s3_object_size": 0})
    assert offered["size"] == 0


def test_a_large_file_gets_a_single_presigned_url(site: S3FileupSite) -> None:
    """A file of any size up to the limit of stores gets a single presigned URL."""
    offered = site.put_address(LARGE)
    assert "parts" not in offered
    assert site.ask("PUT", offered["url"], data=LARGE).status_code == 200
    assert site.complete(offered["key"]).json()["size"] == len(LARGE)
    assert site.stored(offered["key"]) == LARGE
    query = {"s3_object_name": "a", "s3_object_size": str((5 << 30) + 1)}
    assert site.refused("GET", "/s3put/", params=query) == (413, "too-large")


def test_s3get_returns_a_link_that_is_readable_by_all(site: S3FileupSite, application: Application) -> None:
    """``s3get`` completes an upload, sends the webhook, and returns a link that is readable by all, in ranges too."""
    key = site.sent(CONTENT)
    link = site.got("GET", "/s3get/", params={"key": key})["url"]
    assert application.delivered_keys == [key]
    answer = read(link)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, CONTENT, "text/plain")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert read(link, Range="bytes=1-2").content == CONTENT[1:3]
    assert requests.put(link, data=b"x", timeout=PATIENCE).status_code in {403, 405}
    assert site.got("POST", "/s3get/", data={"key": key})["url"]
    assert application.delivered_keys == [key]


def test_completing_twice_sends_one_webhook(site: S3FileupSite, application: Application) -> None:
    """Completing again returns the same answer, and the webhook is sent once."""
    key = site.sent(CONTENT)
    first, second = site.complete(key), site.complete(key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert application.delivered_keys == [key]


def test_completing_without_data_is_refused(site: S3FileupSite, application: Application) -> None:
    """Completing before anything was sent is refused with a reason; nothing is kept, and no webhook is sent."""
    key = site.put_address(CONTENT)["key"]
    answer = site.complete(key)
    assert (answer.status_code, answer.json()["code"]) == (400, "incomplete")
    assert site.leftovers() == []
    assert application.deliveries == []


def test_content_of_another_length_than_signed_is_refused(site: S3FileupSite) -> None:
    """Content with more or fewer bytes than were signed is refused, and not kept."""
    for content in (CONTENT + b"x", CONTENT[1:]):
        offered = site.put_address(CONTENT)
        assert site.ask("PUT", offered["url"], data=content).status_code >= 400
        assert site.complete(offered["key"]).status_code == 400
    assert site.leftovers() == []


def test_parts_are_signed_listed_and_joined(site: S3FileupSite, application: Application) -> None:
    """Parts are signed one by one or together, listed, and joined into a file, of which a link is returned."""
    address, key = create_multipart_upload(site)
    both = site.got("GET", f"{address}/batch", params={"key": key, "partNumbers": "1,2"})["presignedUrls"]
    assert both.keys() == {"1", "2"}
    assert site.ask("PUT", both["1"], data=bytes(5 * MEBIBYTE)).status_code == 200
    parts = send_parts(site, address, key)
    listed: Any = site.got("GET", address, params={"key": key})
    assert [(part["PartNumber"], part["Size"], part["ETag"].strip('"')) for part in listed] == [
        (1, 5 * MEBIBYTE, parts[0]["ETag"].strip('"')), (2, 3, parts[1]["ETag"].strip('"')),
    ]  # fmt: skip
    done = site.got("POST", f"{address}/complete", params={"key": key}, json={"parts": parts})
    assert done["key"] == key
    assert read(done["location"]).content == site.stored(key) == LARGE
    [(_, descriptor)] = application.deliveries
    assert (descriptor["filename"], descriptor["content-type"], descriptor["size"]) == (
        "a ü.bin", "image/png", len(LARGE),
    )  # fmt: skip
    assert site.got("POST", f"{address}/complete", params={"key": key}, json={"parts": parts})["key"] == key
    assert site.refused("GET", f"{address}/3", params={"key": key}) == (409, "already-done")
    assert site.refused("DELETE", address, params={"key": key}) == (409, "already-done")
    assert len(site.leftovers()) == 1


def test_a_cancelled_upload_is_removed_with_its_parts(site: S3FileupSite, application: Application) -> None:
    """A cancelled upload is removed with all its parts, and cannot be completed."""
    address, key = create_multipart_upload(site)
    parts = send_parts(site, address, key)
    assert site.got("DELETE", address, params={"key": key}) == {}
    assert site.leftovers() == []
    assert site.bucket_ids() == []
    complete = {"params": {"key": key}, "json": {"parts": parts}}
    assert site.refused("POST", f"{address}/complete", **complete) == (404, "unknown-key")
    assert application.deliveries == []


def test_stored_parts_must_match_the_listed_parts(site: S3FileupSite) -> None:
    """If other parts are stored than the client lists, no file is made; the upload can be cancelled too."""
    address, key = create_multipart_upload(site)
    parts = send_parts(site, address, key)
    parts[1]["ETag"] = '"0123456789abcdef0123456789abcdef"'
    complete = {"params": {"key": key}, "json": {"parts": parts}}
    assert site.refused("POST", f"{address}/complete", **complete) == (400, "incomplete")
    assert site.leftovers() == []
    assert site.got("DELETE", address, params={"key": key}) == {}
    assert site.bucket_ids() == []


@pytest.mark.parametrize("kind", ["directory", "swift", "ceph"])
def test_a_form_is_offered_and_completed_by_its_key(site: S3FileupSite, application: Application) -> None:
    """A form for one file is offered, by the store or by our own server; the key among its fields completes it."""
    offered = site.got("GET", "/s3/params", params={"filename": "b.txt", "type": "text/plain", "metadata[x]": "y"})
    assert offered["method"] == "POST"
    assert post_form(offered, CONTENT).status_code == 201
    descriptor = site.complete(offered["fields"]["key"]).json()
    assert (descriptor["filename"], descriptor["content-type"]) == ("b.txt", "text/plain")
    assert application.delivered_keys == [descriptor["identifier"]]
    assert site.stored(descriptor["identifier"]) == CONTENT


@pytest.mark.parametrize("kind", ["ceph"])
def test_an_object_key_is_as_valid_as_the_identifier(site: S3FileupSite) -> None:
    """The object key in a form is as valid as the identifier; with another token in it, it is not."""
    offered = site.got("GET", "/s3/params", params={"filename": "b.txt", "type": "text/plain"})
    post_form(offered, CONTENT)
    key = offered["fields"]["key"]
    start, _, token = key.rpartition("/f/")
    wrong = token.replace(token[0], "0" if token[0] != "0" else "1", 1)
    for other in (f"{start}/f/{wrong}", key.replace(start[-32:], "0" * 32), f"{start}/f/0.direct", start[-32:]):
        assert site.complete(other).json()["code"] == "unknown-key"
    assert site.complete(key).status_code == 200


@pytest.mark.parametrize("kind", ["directory", "ceph"])
def test_a_form_above_the_limit_is_refused(open_site: Open) -> None:
    """A form above the limit is refused at the address of its POST."""
    site = open_site(anonymous=True, max_size="9")
    offered = site.got("GET", "/s3/params", params={"filename": "b.txt", "type": "text/plain"})
    assert post_form(offered, bytes(9 * MEBIBYTE + 1)).status_code in {400, 413}
    assert site.complete(offered["fields"]["key"]).json()["code"] == "incomplete"
    assert site.leftovers() == []


def test_a_client_that_accepts_json_gets_a_presigned_put_url(site: S3FileupSite) -> None:
    """A client that asks for JSON gets a presigned URL for PUT, with the key among the fields."""
    query = {"filename": "b.txt", "type": "text/plain"}
    offered = site.got("GET", "/s3/params", params=query, headers={"Accept": "application/json"})
    assert (offered["method"], offered["headers"]) == ("PUT", {})
    assert requests.put(offered["url"], data=CONTENT, timeout=PATIENCE).headers["ETag"]
    assert site.complete(offered["fields"]["key"]).json()["size"] == len(CONTENT)


@pytest.mark.parametrize("kind", ["ceph"])
@pytest.mark.parametrize("acl", ["public-read", ""])
def test_a_public_acl_allows_reading_without_a_signature(open_site: Open, acl: str) -> None:
    """With a public ACL, a file can be read without a signature; without one, it cannot."""
    site = open_site(anonymous=True, acl=acl)
    keys = [site.sent(CONTENT)]
    address, key = create_multipart_upload(site)
    parts = send_parts(site, address, key)
    site.got("POST", f"{address}/complete", params={"key": key}, json={"parts": parts})
    offered = site.got("GET", "/s3/params", params={"filename": "b.txt", "type": "text/plain"})
    post_form(offered, CONTENT)
    for each in (*keys, key, offered["fields"]["key"]):
        link = site.got("GET", "/s3get/", params={"key": each})["url"]
        answer = read(link.partition("?")[0])
        assert answer.status_code == (200 if acl else 403)
        if acl:
            assert answer.headers["Content-Disposition"].startswith("attachment")


def test_links_expire(open_site: Open) -> None:
    """A link expires after the configured time, and a link for reading permits nothing else."""
    site = open_site(anonymous=True, direct_expires="1h")
    key = site.sent(CONTENT)
    link = site.got("GET", "/s3get/", params={"key": key})["url"]
    assert read(link[:-2]).status_code in {400, 403}
    if link.startswith(site.base):
        ticket = link.partition("ticket=")[2]
        assert site.refused("PUT", f"/part?ticket={ticket}", data=b"x") == (403, "address-expired")
        assert site.refused("GET", "/file?ticket=") == (403, "address-expired")
    site.app.manager.clear_upload_bucket(key)
    assert read(link).status_code in {403, 404}


@pytest.mark.parametrize("uppy", [False, True], ids=["s3fileup", "uppy"])
def test_a_type_that_the_client_does_not_know(open_site: Open, uppy: bool) -> None:
    """application/octet-stream counts as no type: the extension decides, also for the allowed types."""
    site = open_site(anonymous=True, content_types="image/*")
    if uppy:
        asked = {"filename": "1.HEIC", "type": "application/octet-stream"}
        key = site.got("POST", "/s3/multipart", json=asked)["key"]
        status = site.app.manager.get_status(key)
    else:
        asked = {"s3_object_name": "1.HEIC", "s3_object_type": "application/octet-stream", "s3_object_size": "1"}
        status = site.app.manager.get_status(site.got("POST", "/s3put/", data=asked)["key"])
    assert status.content_type == "image/heic"


@pytest.mark.parametrize("kind", ["directory"])
def test_a_part_is_no_form_and_no_piece(site: S3FileupSite, kind: str) -> None:
    """The app's own address of a part refuses an envelope, and a request that says it is only a piece of the part."""
    offered = site.got("POST", "/s3put/", data={"s3_object_name": "a", "s3_object_size": "1"})
    for headers in (
        {"Content-Range": "bytes 0-0/2"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "multipart/mixed; boundary=x"},
    ):
        assert site.ask("PUT", offered["url"], data=b"x", headers=headers).status_code == 415
    assert site.ask("PUT", offered["url"], data=b"x").status_code == 200
    assert site.complete(offered["key"]).status_code == 200
