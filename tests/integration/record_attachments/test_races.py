"""Clients that change one record concurrently: in the end it has one file, and refers to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.records.kinto_harness import RECORD, THING, Kinto, Rest

ROUNDS = 15
CLIENTS = 4


def together(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Return what *calls* return, made at the same time."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def attach_to(server: Kinto | Rest, record: str, number: int) -> Callable[[], int]:
    return lambda: server.attach(record, (f"{number}.txt", f"content {number}".encode())).status_code


def check_kinto(kinto: Kinto, record: str) -> None:
    """Check that a record has one file and refers to it, or has none."""
    answer = kinto.request("GET", record)
    attachment = answer.json()["data"].get("attachment") if answer.status_code == 200 else None
    if attachment is None:
        assert kinto.left() == set()
    else:
        assert kinto.contents() == [kinto.fetch(attachment["location"]).content]


def test_one_of_several_concurrent_files_is_kept_in_kinto(kinto: Kinto) -> None:
    """If several clients attach to one record, new at first, all are answered, and one file stays."""
    for _ in range(ROUNDS):
        answers = together(attach_to(kinto, RECORD, number) for number in range(CLIENTS))
        assert set(answers) <= {200, 201}
        check_kinto(kinto, RECORD)


@pytest.mark.parametrize("record", [THING, "/api/things/Ü%20ü"], ids=["plain", "encoded"])
def test_one_of_several_concurrent_files_is_kept(rest: Rest, record: str) -> None:
    """One of several files stays with an app and a filter in two processes too."""
    for _ in range(ROUNDS):
        answers = together(attach_to(rest, record, number) for number in range(CLIENTS))
        assert set(answers) <= {200, 201}
        assert len(rest.contents()) == 1
        rest.check_whole()
    rest.request("DELETE", record)
    assert rest.left() == set()


@pytest.mark.parametrize("way", ["record", "attachment", "collection", "put"])
def test_concurrent_attaching_and_removing_leaves_no_orphaned_file(rest: Rest, way: str) -> None:
    """If one client attaches while another removes, no file is left that no record refers to."""
    remove = {
        "record": lambda: rest.request("DELETE", THING).status_code,
        "attachment": lambda: rest.request("DELETE", f"{THING}/attachment").status_code,
        "collection": lambda: rest.request("DELETE", "/api/things").status_code,
        "put": lambda: rest.request("PUT", THING, json={"color": "red"}).status_code,
    }[way]
    for number in range(ROUNDS):
        statuses = together([attach_to(rest, THING, number), remove, attach_to(rest, THING, number + 1), remove])
        assert set(statuses) <= {200, 201, 204, 404}
        rest.check_whole()
    rest.request("DELETE", THING)
    assert rest.left() == set()


def test_concurrent_attaching_and_deleting_leaves_no_orphaned_file_in_kinto(kinto: Kinto) -> None:
    """No file is left in Kinto either, if the collection or the whole server is emptied meanwhile."""
    collection = RECORD.rpartition("/")[0]
    for number, path in enumerate([RECORD, collection, RECORD, collection] * 4):
        together([attach_to(kinto, RECORD, number), partial(kinto.request, "DELETE", path)])
        check_kinto(kinto, RECORD)


def test_writing_back_a_replaced_attachment_does_not_restore_its_file(kinto: Kinto) -> None:
    """Writing a record back with an earlier attachment does not bring back a removed file."""
    kinto.attached()
    for number in range(ROUNDS):
        record = kinto.get(RECORD)
        put = partial(kinto.request, "PUT", RECORD, json=record)
        first, attached, second = together([put, attach_to(kinto, RECORD, number), put])
        assert {first.status_code, attached, second.status_code} <= {200, 400}
        check_kinto(kinto, RECORD)
        assert kinto.attachment() is not None


def test_two_records_with_files_of_one_name_share_no_file(rest: Rest) -> None:
    """Records do not share a file, though their files have the same name at the same time."""
    for _ in range(3):
        records = [f"/api/things/{number}" for number in range(CLIENTS)]
        together(attach_to(rest, record, number) for number, record in enumerate(records))
        assert rest.contents() == [f"content {number}".encode() for number in range(CLIENTS)]
        rest.check_whole()
