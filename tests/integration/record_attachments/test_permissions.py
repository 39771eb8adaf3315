"""A client may attach a file to a record if the app lets it write that record."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.records.kinto_harness import ANONYMOUS, JEAN, MAT, RECORD, Kinto

COLLECTION = "/v1/buckets/fennec/collections/fonts"
BUCKET = "/v1/buckets/fennec"


def allow(kinto: Kinto, path: str, permission: str, principal: str) -> None:
    assert kinto.request("PATCH", path, json={"permissions": {permission: [principal]}}).ok


@pytest.mark.parametrize(("headers", "status"), [(ANONYMOUS, 401), (JEAN, 403)], ids=["anonymous", "another"])
def test_a_client_without_write_permission_is_refused(kinto: Kinto, headers: Mapping[str, str], status: int) -> None:
    """A client without write permission gets Kinto's own answer, for a new record and for an existing one."""
    refused = kinto.attach(headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, status)
    assert kinto.left() == set()
    kinto.attached()
    before = kinto.stored()
    assert kinto.attach(headers=headers).status_code == status
    assert kinto.request("DELETE", f"{RECORD}/attachment", headers=headers).status_code == status
    assert kinto.stored() == before


@pytest.mark.parametrize("path", [BUCKET, COLLECTION], ids=["bucket", "collection"])
def test_read_permission_does_not_include_attaching(kinto: Kinto, path: str) -> None:
    """Permission to read does not include attaching."""
    kinto.attached()
    allow(kinto, path, "read", "system.Everyone")
    assert kinto.attach(headers=ANONYMOUS).status_code == 401
    assert kinto.attach(headers=JEAN).status_code == 403
    assert len(kinto.contents()) == 1


def test_create_permission_includes_attaching_to_a_new_record(kinto: Kinto) -> None:
    """Permission to create records is enough for a new one, which then belongs to the creator."""
    allow(kinto, COLLECTION, "record:create", "system.Authenticated")
    assert kinto.attach(headers=JEAN).status_code == 201
    assert kinto.attach(headers=JEAN).status_code == 200
    assert kinto.request("DELETE", f"{RECORD}/attachment", headers=JEAN).status_code == 204


def test_create_permission_does_not_include_replacing(kinto: Kinto) -> None:
    """Permission to create records does not include changing those of others."""
    allow(kinto, COLLECTION, "record:create", "system.Authenticated")
    kinto.attached()
    assert kinto.attach(headers=JEAN).status_code == 403
    assert len(kinto.contents()) == 1


@pytest.mark.parametrize("path", [BUCKET, COLLECTION], ids=["bucket", "collection"])
def test_write_permission_includes_attaching_and_replacing(kinto: Kinto, path: str) -> None:
    """Permission to write the bucket or the collection includes attaching and replacing."""
    allow(kinto, path, "write", "system.Authenticated")
    assert kinto.attach(headers=JEAN).status_code == 201
    assert kinto.attach(headers=MAT).status_code == 200
    assert kinto.attach(headers=JEAN).status_code == 200
    assert len(kinto.contents()) == 1


def test_write_permission_for_one_record_includes_attaching_to_it(kinto: Kinto) -> None:
    """Permission to write one record is enough for that one, and for no other."""
    kinto.request("PUT", RECORD, json={"permissions": {"write": ["system.Authenticated"]}})
    assert kinto.attach(headers=JEAN).status_code == 200
    assert kinto.attach(RECORD.replace("logo", "other"), headers=JEAN).status_code == 403


def test_attaching_in_a_missing_collection_is_refused(kinto: Kinto) -> None:
    """For a missing collection, the client gets the app's answer."""
    answer = kinto.attach("/v1/buckets/fennec/collections/none/records/a")
    assert answer.status_code == 404
    assert kinto.left() == set()


def test_attributes_required_by_a_schema_may_come_with_the_file(kinto: Kinto) -> None:
    """If a schema requires attributes, a file that comes with them is accepted, and one without is refused."""
    schema = {"type": "object", "required": ["family"]}
    kinto.request("PUT", COLLECTION, json={"data": {"schema": schema}})
    refused = kinto.attach()
    assert (refused.status_code, refused.json()["errno"]) == (400, 107)
    assert "family" in refused.json()["message"]
    assert kinto.left() == set()
    assert kinto.attach(data='{"family": "sans"}').status_code == 201
