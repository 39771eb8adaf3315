"""Refused requests: missing permission and invalid input are reported clearly."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from fileupload.errors import SettingError
from tests.integration.s3fileup.conftest import Open
from tests.support.s3fileup_site import S3FileupSite
from tests.support.waiting import PATIENCE

QUERY = {"s3_object_name": "a", "s3_object_size": "1"}
GOOD, BAD = "https://good.example.com", "https://bad.example.com"

pytestmark = pytest.mark.parametrize("kind", ["directory"])


def is_known(environ: dict[str, Any]) -> bool:
    """Return whether the application permits the upload."""
    return bool(environ.get("HTTP_AUTHORIZATION") == "Bearer good")


def test_only_authenticated_users_may_upload(open_site: Open) -> None:
    """Users authenticated by the front-end server may upload; others are refused at each address."""
    site = open_site()
    for method, address in (
        ("GET", "/s3put/"), ("GET", "/s3get/"), ("POST", "/complete"), ("GET", "/s3/params"), ("POST", "/s3/multipart"),
    ):  # fmt: skip
        assert site.refused(method, address, params=QUERY) == (403, "not-authorized")
    assert site.bucket_ids() == []
    site.environ["REMOTE_USER"] = "ann"
    assert site.got("GET", "/s3put/", params=QUERY)["url"]


@pytest.mark.parametrize(
    "given", [is_known, "tests.integration.s3fileup.test_refusals:is_known"], ids=["function", "name"]
)
def test_a_function_decides_on_the_permission_to_upload(open_site: Open, given: Any) -> None:
    """A function of the application decides alone on the permission to upload, if it is set."""
    site = open_site(authorize=given, anonymous=True)
    site.environ["REMOTE_USER"] = "ann"
    assert site.refused("GET", "/s3put/", params=QUERY) == (403, "not-authorized")
    assert site.got("GET", "/s3put/", params=QUERY, headers={"Authorization": "Bearer good"})["url"]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": BAD}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}],
    ids=str,
)
def test_a_cross_site_request_is_refused(open_site: Open, headers: dict[str, str]) -> None:
    """A page of another site cannot upload on behalf of a visitor, by GET or by POST (CSRF)."""
    site = open_site()
    site.environ["REMOTE_USER"] = "ann"
    for method in ("GET", "POST"):
        assert site.refused(method, "/s3put/", params=QUERY, headers=headers) == (403, "origin-not-allowed")
    assert site.bucket_ids() == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_same_origin_page_with_a_null_origin_may_upload(open_site: Open, method: str) -> None:
    """A page of this site with Referrer-Policy: no-referrer sends Origin: null, and may upload; others may not."""
    site = open_site(anonymous=True)
    for sent, status in (("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)):
        headers = {"Origin": "null", "Sec-Fetch-Site": sent}
        assert site.ask(method, "/s3put/", params=QUERY, headers=headers).status_code == status


def test_pages_of_configured_origins_may_upload(open_site: Open) -> None:
    """Pages of configured origins may send and read all requests, errors too, with cookies; others may not."""
    site = open_site(anonymous=True, cors_origins=GOOD)
    for method, address in (("GET", "/s3put/"), ("POST", "/complete"), ("DELETE", "/s3/multipart/x")):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
        answer = site.ask("OPTIONS", address, headers={"Origin": GOOD, **asked})
        assert answer.status_code == 204
        assert method in answer.headers["Access-Control-Allow-Methods"]
        assert {"Content-Type", "Authorization"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
        assert site.refused("OPTIONS", address, headers={"Origin": BAD, **asked}) == (403, "origin-not-allowed")
    for query in (QUERY, {}):
        answer = site.ask("GET", "/s3put/", params=query, headers={"Origin": GOOD, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == (200 if query else 400)
        assert answer.headers["Access-Control-Allow-Origin"] == GOOD
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    answer = site.ask("GET", "/s3put/", params=QUERY, headers={"Origin": BAD})
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_of_any_origin_may_upload_without_cookies(open_site: Open) -> None:
    """With ``*`` pages of all origins may upload, but without cookies."""
    site = open_site(anonymous=True, cors_origins="*")
    answer = site.ask("GET", "/s3put/", params=QUERY, headers={"Origin": BAD, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, BAD)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        {}, {"s3_object_size": "1"}, {"s3_object_name": "..", "s3_object_size": "1"},
        *({"s3_object_name": "a", "s3_object_size": size} for size in ("", "-1", "1.5", "x", "١", "9" * 30)),
        {"s3_object_name": "a" * 5000, "s3_object_size": "1"},
    ],
    ids=lambda query: str(query)[:50],
)  # fmt: skip
def test_a_missing_or_invalid_name_or_size_is_named(site: S3FileupSite, query: dict[str, str]) -> None:
    """A missing or invalid name or size is named in the error."""
    assert site.refused("GET", "/s3put/", params=query) == (400, "malformed-request")
    assert site.bucket_ids() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"a"', b"null", b'{"key": 1e999}', b'{"filename": ["a"]}', b'{"filename": ""}', b"\xff",
     b"[" * 100_000, b'{"filename": "' + b"a" * 5000 + b'"}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(site: S3FileupSite, body: bytes) -> None:
    """A body that is no JSON object with a name is refused, and leaves nothing."""
    headers = {"Content-Type": "application/json"}
    assert site.refused("POST", "/s3/multipart", data=body, headers=headers)[0] == 400
    assert site.refused("POST", "/complete", data=body, headers=headers)[0] in {400, 404}
    assert site.bucket_ids() == []


@pytest.mark.parametrize(
    "body",
    [
        *({"s3_object_name": "a", "s3_object_size": size} for size in [1.5, [1], {"a": 1}, True, -1, ""]),
        *({"s3_object_name": name} for name in [["a"], 1.5, {"a": 1}, ""]),
        {"s3_object_name": "a", "s3_object_type": ["text/plain"]},
    ],
    ids=str,
)
def test_values_of_another_type_are_refused(site: S3FileupSite, body: dict[str, Any]) -> None:
    """A JSON value that is no text and no integer is refused by name, and not taken for a missing one."""
    answer = site.ask("POST", "/s3put/", json=body)
    assert answer.status_code == 400
    assert f"'{list(body)[-1]}'" in answer.json()["error"]
    assert site.bucket_ids() == []


def test_a_lone_surrogate_in_a_name_is_removed(site: S3FileupSite) -> None:
    """A lone surrogate in a name is removed."""
    begun = site.got("POST", "/s3/multipart", data=b'{"filename": "a\\ud800b"}')
    assert site.app.manager.access_upload_bucket(begun["key"]).get_status().filename == "ab"  # type: ignore[union-attr]


@pytest.mark.parametrize("address", ["/complete", "/s3/multipart", "/s3put/"])
def test_an_overlong_body_is_refused(site: S3FileupSite, address: str) -> None:
    """A body longer than any request needs is refused, and the client sees the answer."""
    assert site.refused("POST", address, data=bytes(3 << 20)) == (413, "too-large")


def test_a_refused_client_is_answered_at_once(site: S3FileupSite) -> None:
    """A refused client gets its answer at once, without closing its side of the connection."""
    parts = urlsplit(site.base)
    body = b'{"key": "x"}'
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        head = f"POST {parts.path}/complete HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.0 404 ")


@pytest.mark.parametrize("key", ["", "x", "a" * 5000, "\0", "ü", "0" * 32, f"b/{'0' * 32}/f/0/0", "../b"], ids=repr)
def test_an_unknown_key_is_not_found(site: S3FileupSite, key: str) -> None:
    """A key that was not issued is not found."""
    site.sent(b"x")
    assert site.refused("GET", "/s3get/", params={"key": key}) == (404, "unknown-key")
    assert site.refused("GET", "/s3/multipart/x/1", params={"key": key}) == (404, "unknown-key")


def test_a_key_with_the_upload_id_of_another_upload_is_refused(site: S3FileupSite) -> None:
    """A key and an upload id that do not belong together are refused."""
    one, other = (site.got("POST", "/s3/multipart", json={"filename": "a"}) for _ in range(2))
    for method, rest in (("GET", ""), ("GET", "/1"), ("GET", "/batch"), ("POST", "/complete"), ("DELETE", "")):
        address = f"/s3/multipart/{one['uploadId']}{rest}"
        assert site.refused(method, address, params={"key": other["key"]}) == (404, "unknown-key")
    assert len(site.bucket_ids()) == 2


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "x", "10001", "999999", "1,,2"])
def test_an_invalid_part_number_is_refused(site: S3FileupSite, number: str) -> None:
    """A part number that is not an integer from 1 to 10,000 is refused."""
    begun = site.got("POST", "/s3/multipart", json={"filename": "a"})
    address, query = f"/s3/multipart/{begun['uploadId']}", {"key": begun["key"]}
    assert site.refused("GET", f"{address}/{number}", params=query)[0] == 400
    assert site.refused("GET", f"{address}/batch", params={**query, "partNumbers": number})[0] == 400


@pytest.mark.parametrize(
    "parts", [None, 1, "x", [1], [{}], [{"PartNumber": 1}], [{"PartNumber": 1e400, "ETag": "x"}], {"a": 1}], ids=str
)
def test_an_invalid_list_of_parts_is_refused(site: S3FileupSite, parts: Any) -> None:
    """A body that is no list of parts is refused."""
    begun = site.got("POST", "/s3/multipart", json={"filename": "a"})
    address, query = f"/s3/multipart/{begun['uploadId']}/complete", {"key": begun["key"]}
    body = str({"parts": parts}).replace("'", '"').replace("None", "null").replace("inf", "1e400")
    assert site.refused("POST", address, params=query, data=body)[0] == 400


def test_unknown_paths_and_methods_are_refused(site: S3FileupSite) -> None:
    """An unknown path or method is named in the error, with the methods that the address supports."""
    for address in ("/", "/nix", "/s3", "/s3/nix", "/s3/multipart/a/b/c", "/s3put/x"):
        assert site.refused("GET", address) == (404, "unknown-address")
    for method, address, allowed in (
        ("PUT", "/s3put/", "GET, HEAD, POST"), ("DELETE", "/s3get/", "GET, HEAD, POST"), ("GET", "/complete", "POST"),
        ("POST", "/s3/params", "GET, HEAD"), ("GET", "/s3/multipart", "POST"), ("GET", "/part", "PUT, POST"),
        ("PUT", "/file", "GET, HEAD"),
    ):  # fmt: skip
        answer = site.ask(method, address)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_sizes_types_and_extensions_are_checked_beforehand(open_site: Open) -> None:
    """The settings for sizes, types and extensions are checked before anything is sent."""
    site = open_site(anonymous=True, max_size="1M", content_types="image/*", extensions="png")
    good = {"s3_object_name": "a.png", "s3_object_type": "image/png", "s3_object_size": "1"}
    assert site.got("GET", "/s3put/", params=good)["url"]
    for other in ({"s3_object_name": "a.exe"}, {"s3_object_type": "text/html"}, {"s3_object_size": str(2 << 20)}):
        assert site.ask("GET", "/s3put/", params=good | other).status_code in {413, 415}
    assert site.refused("POST", "/s3/multipart", json={"filename": "a.exe", "type": "image/png"})[0] == 415


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorize", "no.such.module:function"), ("authorize", "os:environ"), ("authorize", "x y"),
        ("callback_url", "app.example.com"), ("callback_url", "file:///etc/passwd"), ("callback_url", "http://a/#b"),
        ("acl", "Public Read"), ("acls", "private"), ("direct_expires", "8d"),
    ],
)  # fmt: skip
def test_an_invalid_setting_stops_the_start(open_site: Open, name: str, value: str) -> None:
    """A wrong or unknown setting stops the start, and is named."""
    with pytest.raises(SettingError, match=name):
        open_site(**{name: value})


@pytest.mark.parametrize("kind_of_body", ["application/json", "Application/JSON; charset=utf-8"])
def test_the_json_content_type_is_compared_in_any_case(site: S3FileupSite, kind_of_body: str) -> None:
    """The content type is compared as a whole, in any case: a type with JSON's as its prefix is not JSON."""
    key = site.sent(b"x")
    body = f'{{"key": "{key}"}}'
    assert site.got("POST", "/complete", data=body, headers={"Content-Type": kind_of_body})["state"] == "done"
    other = {"Content-Type": "application/json-patch+json"}
    assert site.refused("POST", "/complete", data=body, headers=other)[0] in {400, 404}


@pytest.mark.parametrize(
    ("accept", "method"),
    [
        ("application/json", "PUT"),
        ("text/html, Application/json;q=0.5", "PUT"),
        ("application/json-seq", "POST"),
        ("*/*", "POST"),
    ],
)
def test_a_client_that_lists_json_in_accept_uploads_with_put(site: S3FileupSite, accept: str, method: str) -> None:
    """A client that lists JSON's own type in Accept is a newer Uppy, which uploads with PUT."""
    answer = site.got("GET", "/s3/params", params={"filename": "a"}, headers={"Accept": accept})
    assert answer["method"] == method
