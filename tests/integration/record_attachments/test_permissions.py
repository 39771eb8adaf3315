"""A client may attach a file to a record if the app lets it write that record."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.records.kinto_harness import JEAN, MAT, NOBODY, RECORD, Kinto

COLLECTION = "/v1/buckets/fennec/collections/fonts"
BUCKET = "/v1/buckets/fennec"


def allow(kinto: Kinto, path: str, permission: str, principal: str) -> None:
    assert kinto.request("PATCH", path, json={"permissions": {permission: [principal]}}).ok


@pytest.mark.parametrize(("headers", "status"), [(NOBODY, 401), (JEAN, 403)], ids=["nobody", "another"])
def test_a_stranger_is_refused(kinto: Kinto, headers: Mapping[str, str], status: int) -> None:
    """Who may not write gets Kinto's own answer, for a new record and for one that is there."""
    refused = kinto.attach(headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (status, status)
    assert kinto.left() == set()
    kinto.attached()
    before = kinto.stored()
    assert kinto.attach(headers=headers).status_code == status
    assert kinto.request("DELETE", f"{RECORD}/attachment", headers=headers).status_code == status
    assert kinto.stored() == before


@pytest.mark.parametrize("path", [BUCKET, COLLECTION], ids=["bucket", "collection"])
def test_who_may_read_may_not_attach(kinto: Kinto, path: str) -> None:
    """Permission to read is none to write."""
    kinto.attached()
    allow(kinto, path, "read", "system.Everyone")
    assert kinto.attach(headers=NOBODY).status_code == 401
    assert kinto.attach(headers=JEAN).status_code == 403
    assert len(kinto.contents()) == 1


def test_who_may_create_may_attach_to_a_new_record(kinto: Kinto) -> None:
    """Permission to create records is enough for a new one, which is then the creator's."""
    allow(kinto, COLLECTION, "record:create", "system.Authenticated")
    assert kinto.attach(headers=JEAN).status_code == 201
    assert kinto.attach(headers=JEAN).status_code == 200
    assert kinto.request("DELETE", f"{RECORD}/attachment", headers=JEAN).status_code == 204


def test_who_may_only_create_may_not_replace(kinto: Kinto) -> None:
    """Permission to create records is none to change those of others."""
    allow(kinto, COLLECTION, "record:create", "system.Authenticated")
    kinto.attached()
    assert kinto.attach(headers=JEAN).status_code == 403
    assert len(kinto.contents()) == 1


@pytest.mark.parametrize("path", [BUCKET, COLLECTION], ids=["bucket", "collection"])
def test_who_may_write_may_attach(kinto: Kinto, path: str) -> None:
    """Permission to write, to the bucket or the collection, is one to attach and to replace."""
    allow(kinto, path, "write", "system.Authenticated")
    assert kinto.attach(headers=JEAN).status_code == 201
    assert kinto.attach(headers=MAT).status_code == 200
    assert kinto.attach(headers=JEAN).status_code == 200
    assert len(kinto.contents()) == 1


def test_who_may_write_one_record_may_attach_there(kinto: Kinto) -> None:
    """Permission to write one record is enough for that one, and for no other."""
    kinto.request("PUT", RECORD, json={"permissions": {"write": ["system.Authenticated"]}})
    assert kinto.attach(headers=JEAN).status_code == 200
    assert kinto.attach(RECORD.replace("logo", "other"), headers=JEAN).status_code == 403


def test_a_collection_that_is_not_there_takes_none(kinto: Kinto) -> None:
    """Where there is no collection, the app's answer is the client's."""
    answer = kinto.attach("/v1/buckets/fennec/collections/none/records/a")
    assert answer.status_code == 404
    assert kinto.left() == set()


def test_a_schema_that_requires_more_is_no_refusal_beforehand(kinto: Kinto) -> None:
    """Where a schema requires attributes, a file that comes with them is taken, and one without is refused."""
    schema = {"type": "object", "required": ["family"]}
    kinto.request("PUT", COLLECTION, json={"data": {"schema": schema}})
    refused = kinto.attach()
    assert (refused.status_code, refused.json()["errno"]) == (400, 107)
    assert "family" in refused.json()["message"]
    assert kinto.left() == set()
    assert kinto.attach(data='{"family": "sans"}').status_code == 201
