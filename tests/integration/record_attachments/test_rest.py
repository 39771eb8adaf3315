"""A REST app with an address layout and a JSON form of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
from typing import Any

import pytest
import requests

from tests.support.records.kinto_harness import ALICE, ANONYMOUS, BOB, IMAGE, THING, Rest, form
from tests.support.waiting import PATIENCE, wait_until

OTHER = "/api/things/Ünïcode; a=b & c%25d?"
ENCODED = "/api/things/%C3%9Cn%C3%AFcode%3B%20a%3Db%20%26%20c%2525d%3F"


def test_a_file_is_attached(rest: Rest) -> None:
    """A new record is made, an existing one is changed, and the file is at its location."""
    first = rest.attach(data='{"color": "red"}')
    attachment = first.json()
    assert first.status_code == 201
    assert first.headers["Location"] == rest.url + THING
    assert attachment["location"].startswith("/files/things/")
    assert rest.request("GET", THING).json() == {"id": "one", "color": "red", "attachment": attachment}
    second = rest.attach(file=("b.bin", b"other"))
    assert second.status_code == 200
    assert rest.request("GET", second.json()["location"]).content == b"other"
    assert rest.request("GET", THING).json()["color"] == "red"
    rest.check_whole()


def test_an_id_may_be_any_text(rest: Rest) -> None:
    """Ids with characters that are special in addresses, and long ones, work like others."""
    answer = rest.attach(ENCODED)
    assert answer.status_code == 201
    assert rest.request("GET", ENCODED).json()["id"] == "Ünïcode; a=b & c%25d?"
    assert rest.request("GET", answer.headers["Location"].removeprefix(rest.url)).status_code == 200
    assert rest.attach("/api/things/" + "x" * 1000).status_code == 201
    rest.check_whole()
    rest.request("DELETE", ENCODED)
    rest.request("DELETE", "/api/things/" + "x" * 1000)
    assert rest.left() == set()


def test_an_id_equal_to_the_key_of_a_long_id_is_separate(rest: Rest) -> None:
    """A record whose id equals the key for a longer id has no access to the files of that one."""
    name = "y" * 1000
    rest.attach(f"/api/things/{name}")
    rest.request("DELETE", "/api/things/sha256:" + hashlib.sha256(name.encode()).hexdigest())
    assert len(rest.contents()) == 1
    rest.check_whole()


def test_deleting_an_attachment_removes_the_file_and_the_attribute(rest: Rest) -> None:
    """DELETE removes the file, and the attribute is null."""
    rest.attach()
    assert rest.request("DELETE", f"{THING}/attachment").status_code == 204
    assert rest.request("GET", THING).json()["attachment"] is None
    assert rest.left() == set()


@pytest.mark.parametrize(("headers", "status"), [(ANONYMOUS, 401), (BOB, 403)], ids=["anonymous", "bob"])
def test_the_client_gets_the_refusal_of_the_app(rest: Rest, headers: dict[str, str], status: int) -> None:
    """The client gets the app's refusal, whether it comes before the file or after it."""
    assert rest.attach(headers=headers).status_code == status
    assert rest.left() == set()
    assert rest.request("DELETE", f"{THING}/attachment", headers=headers).status_code == status


def test_deleting_removes_files(rest: Rest) -> None:
    """Deleting a record, a list filtered in the app's own way, or all records removes their files."""
    for name in ("a1", "a2", "b1", "b2"):
        rest.attach(f"/api/things/{name}")
    rest.attach("/api/others/a1")
    rest.request("DELETE", "/api/things/a1")
    assert len(rest.contents()) == 4
    rest.request("DELETE", "/api/things?prefix=a")
    assert len(rest.contents()) == 3
    rest.check_whole()
    rest.request("DELETE", "/api/things")
    assert len(rest.contents()) == 1
    rest.check_whole()


CHANGES: list[tuple[str, bytes, str]] = [
    ("PATCH", b'{"attachment": {"size": 1}}', "application/json"),
    ("PUT", b'{"attachment": {"size": 1}}', "application/json"),
    ("PATCH", b'{"attachment": null}', "application/merge-patch+json"),
    ("PATCH", b'[{"op": "remove", "path": "/attachment"}]', "application/json-patch+json"),
    ("PATCH", b'[{"op": "remove", "path": "/attachment/size"}]', "text/plain"),
    ("PATCH", b'{"attachment": null}', "text/plain"),
]


@pytest.mark.parametrize(("method", "body", "kind"), CHANGES)
def test_setting_the_attribute_is_refused_with_a_problem_document(
    rest: Rest, method: str, body: bytes, kind: str
) -> None:
    """Setting the attribute is refused with a problem document (RFC 9457) that names the right way."""
    rest.attach()
    answer = rest.request(method, THING, data=body, headers={**ALICE, "Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (400, "attachment-fixed")
    assert answer.headers["Content-Type"] == "application/problem+json"
    rest.check_whole()


def test_replacing_a_record_without_its_attachment_removes_the_file(rest: Rest) -> None:
    """Replacing the record by one without the attribute removes the file; writing it back keeps it."""
    rest.attach()
    record = rest.request("GET", THING).json()
    assert rest.request("PUT", THING, json={**record, "color": "red"}).status_code == 200
    assert len(rest.contents()) == 1
    assert rest.request("PUT", THING, json={"color": "red"}).status_code == 200
    assert rest.left() == set()


@pytest.mark.parametrize(
    ("texts", "word"),
    [({"permissions": "{}"}, "permissions"), ({"data": "{"}, "data"), ({"x": ""}, "'x' not in")],
)
def test_invalid_requests_get_problem_documents(rest: Rest, texts: dict[str, str], word: str) -> None:
    """Invalid requests are answered with problem documents, and leave nothing."""
    answer = rest.request("POST", f"{THING}/attachment", files=form([("attachment", IMAGE)], **texts))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-attachment")
    assert word in answer.json()["detail"]
    assert rest.left() == set()


def new_identifier(rest: Rest) -> str:
    return str(requests.post(f"{rest.url}/upload/identifier", timeout=PATIENCE).json()["identifier"])


def status_of(rest: Rest, identifier: str) -> Any:
    return requests.get(f"{rest.url}/upload/status", params={"X-Progress-ID": identifier}, timeout=PATIENCE).json()


def begin(rest: Rest, identifier: str, record: str, size: int) -> tuple[http.client.HTTPConnection, bytes]:
    """Send the head of an upload and some of its file; return the rest."""
    head = b'--limes\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\n\r\n'
    tail = b"\r\n--limes--\r\n"
    connection = http.client.HTTPConnection(rest.url.removeprefix("http://"), timeout=PATIENCE)
    connection.putrequest("POST", f"{record}/attachment?X-Progress-ID={identifier}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=limes")
    connection.putheader("Content-Length", str(len(head) + size + len(tail)))
    for name, value in ALICE.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(head + b"x" * (size // 2))
    return connection, b"x" * (size - size // 2) + tail


def test_progress_is_visible_to_other_clients(rest: Rest) -> None:
    """With an identifier, other clients can read the upload's progress and its end while it runs."""
    identifier, size = new_identifier(rest), 4 << 20
    connection, rest_of_it = begin(rest, identifier, THING, size)
    wait_until(lambda: status_of(rest, identifier).get("received", 0) > size // 4)
    assert status_of(rest, identifier)["state"] == "uploading"
    connection.send(rest_of_it)
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["size"]) == (201, size)
    connection.close()
    assert status_of(rest, identifier)["state"] == "done"
    rest.check_whole()


def test_an_attached_upload_cannot_be_reset(rest: Rest) -> None:
    """A file attached to a record belongs to it: neither a reset nor a second upload removes it."""
    identifier = new_identifier(rest)
    assert rest.attach(query=f"?X-Progress-ID={identifier}").status_code == 201
    url = f"{rest.url}/upload/status?X-Progress-ID={identifier}"
    for answer in (requests.delete(url, timeout=PATIENCE), requests.post(f"{url}&clear", timeout=PATIENCE)):
        assert (answer.status_code, answer.json()["code"]) == (409, "kept")
    for path in (THING, "/api/things/another"):
        again = rest.attach(path, ("b.bin", b"other"), query=f"?X-Progress-ID={identifier}")
        assert (again.status_code, again.json()["code"]) == (409, "already-done")
    upload = requests.put(f"{rest.url}/upload?X-Progress-ID={identifier}", data=b"x", timeout=PATIENCE)
    assert upload.status_code == 409
    rest.check_whole()
    rest.request("DELETE", THING)
    assert rest.left() == set()


@pytest.mark.parametrize("identifier", ["x", "../../etc", "0" * 32, "%00"])
def test_a_forged_identifier_is_refused(rest: Rest, identifier: str) -> None:
    """An identifier with a forged signature is refused, and nothing is left."""
    answer = rest.attach(query=f"?X-Progress-ID={identifier}")
    assert (answer.status_code, answer.json()["code"]) == (403, "invalid-identifier")
    assert rest.left() == set()


def test_the_status_of_a_refused_upload_has_the_reason(rest: Rest) -> None:
    """The status of a refused upload has the reason, and the upload may be retried."""
    identifier = new_identifier(rest)
    assert rest.attach(query=f"?X-Progress-ID={identifier}", data="{").status_code == 400
    status = status_of(rest, identifier)
    assert (status["state"], status["code"]) == ("error", "invalid-attachment")
    assert "data is not valid JSON" in status["error"]
    assert rest.attach(query=f"?X-Progress-ID={identifier}").status_code == 201
    rest.check_whole()


@pytest.mark.parametrize("path", [THING, "/api/things/two"], ids=["same record", "another record"])
@pytest.mark.parametrize("ends", [True, False], ids=["goes on", "breaks off"])
def test_a_superseded_attempt_does_not_change_the_newer_one(rest: Rest, path: str, ends: bool) -> None:
    """An upload that was superseded under its identifier does not change the newer one, however it ends."""
    identifier, size = new_identifier(rest), 4 << 20
    connection, rest_of_it = begin(rest, identifier, THING, size)
    wait_until(lambda: status_of(rest, identifier)["state"] == "uploading")
    assert rest.attach(path, ("b.bin", b"newer"), query=f"?X-Progress-ID={identifier}").status_code == 201
    if ends:
        connection.send(rest_of_it)
        assert connection.getresponse().status == 409
    connection.close()
    wait_until(lambda: rest.unlinked() == 0)
    assert rest.contents() == [b"newer"]
    rest.check_whole()
