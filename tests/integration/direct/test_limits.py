"""Limits of direct uploads: refused before a byte is sent, or on completion; nothing of a refused upload is kept."""

from __future__ import annotations

import hashlib
import http.client
import os
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from fileupload.pool.directory.pool import DirectoryPool
from fileupload.pool.object.pool import ObjectPool
from fileupload.status import DirectUploadTerms, State, UploadStatus
from tests.integration.direct.conftest import Open
from tests.support.direct_site import DirectSite, outcome
from tests.support.folders import files_in
from tests.support.waiting import PATIENCE, wait_until

MEBIBYTE = 1 << 20
CONTENT = b"some bytes"
RESERVE = 16 * MEBIBYTE


def check_nothing_kept(site: DirectSite, identifier: str, code: str) -> None:
    """Check that the status gives the reason, that nothing else is left, and that the upload can start again."""
    status = site.status(identifier)
    assert (status["state"], status["code"]) == ("error", code)
    assert site.leftovers(identifier) == []
    assert outcome(site.complete(identifier)) == (404, "not-direct")
    site.put(site.offer(identifier, 1, **{"content-type": "text/plain"})["url"], b"x")
    assert site.complete(identifier).json()["size"] == 1


@pytest.mark.parametrize(
    ("settings", "wish", "refusal"),
    [
        ({"max_size": "10B"}, {"size": 11}, (413, "too-large")),
        ({"max_file_size": "10B"}, {"size": 11}, (413, "too-large")),
        ({"content_types": "text/*"}, {"content-type": "image/png"}, (415, "type-not-allowed")),
        ({"extensions": "png"}, {"filename": "a.txt"}, (415, "type-not-allowed")),
    ],
    ids=["max_size", "max_file_size", "content_types", "extensions"],
)
def test_a_request_above_a_limit_gets_no_url(
    open_site: Open, settings: dict[str, str], wish: dict[str, Any], refusal: tuple[int, str]
) -> None:
    """A request above a limit gets no address; one at the limit does."""
    site = open_site(**settings)
    identifier = site.identifier()
    fine = {"filename": "a.png", "content-type": "text/plain", "size": 10}
    assert site.refused(identifier, fine | wish) == refusal
    check_nothing_kept(site, identifier, refusal[1])
    assert site.ask("POST", "/direct", site.identifier(), json=fine).status_code == 200


def test_a_request_beyond_the_claims_of_its_identifier_gets_no_url(site: DirectSite) -> None:
    """A request that the identifier does not allow gets no address."""
    small, image = site.identifier(max_size="10B"), site.identifier(content_types=["image/*"])
    assert site.refused(small, {"filename": "a", "size": 11}) == (413, "too-large")
    assert site.refused(image, {"filename": "a.txt", "size": 1}) == (415, "type-not-allowed")
    site.offer(small, 10)
    site.offer(image, 1, filename="a.png")


def test_a_file_too_large_for_any_store_is_refused(open_site: Open) -> None:
    """A file that is too large for any number of parts, or for a form, is refused with any ``max_size``."""
    site = open_site(max_size=0)
    identifier = site.identifier()
    for wish in ({"size": 10**19 - 1}, {"size": (5 << 30) + 1, "method": "POST"}):
        assert site.refused(identifier, {"filename": "a", **wish}) == (413, "too-large")


@pytest.fixture
def small_disk(open_site: Open, monkeypatch: pytest.MonkeyPatch) -> DirectSite:
    """Return a site whose pool has a small disk of its own, of which a reserve must stay free."""
    site = open_site(min_free_space=f"{RESERVE}B")

    def free_space(pool: DirectoryPool) -> int:
        files = (path for path in files_in(Path(pool.directory)) if path.name != ".refusals")
        return 2 * RESERVE - sum(path.stat().st_size for path in files)

    monkeypatch.setattr(DirectoryPool, "free_space", free_space)
    return site


@pytest.mark.parametrize("kind", ["directory"])
def test_an_upload_that_would_use_the_reserve_gets_no_url(small_disk: DirectSite, kind: str) -> None:
    """An upload that would use the reserve gets no address; the file joined from several parts counts too."""
    identifier = small_disk.identifier()
    for size in (RESERVE + 1, RESERVE // 2 + 1):
        assert small_disk.refused(identifier, {"filename": "a", "size": size}) == (507, "pool-full")
    check_nothing_kept(small_disk, identifier, "pool-full")
    small_disk.offer(small_disk.identifier(), RESERVE // 2 - MEBIBYTE)
    small_disk.offer(small_disk.identifier(), RESERVE - MEBIBYTE, method="POST")


@pytest.mark.parametrize("kind", ["directory"])
def test_parts_are_refused_while_the_disk_is_full(small_disk: DirectSite, kind: str) -> None:
    """If the disk has filled up meanwhile, parts are refused, and earlier parts wait until there is space again."""
    identifier, content = small_disk.identifier(), os.urandom(6 * MEBIBYTE)
    first, second = small_disk.offer(identifier, len(content))["parts"]
    small_disk.put(first["url"], content[: first["size"]])
    filler = Path(small_disk.manager.settings.directory, "filler")
    filler.write_bytes(bytes(RESERVE - first["size"] - MEBIBYTE + 1))
    assert outcome(small_disk.put(second["url"], content[first["size"] :])) == (507, "pool-full")
    os.truncate(filler, RESERVE - len(content) - MEBIBYTE // 2)
    assert small_disk.put(second["url"], content[first["size"] :]).status_code == 200
    assert outcome(small_disk.complete(identifier)) == (507, "pool-full")
    assert small_disk.status(identifier)["received"] == len(content)
    filler.unlink()
    assert small_disk.complete(identifier).status_code == 200
    assert small_disk.stored(identifier) == content


def test_a_file_with_a_wrong_checksum_is_not_kept(site: DirectSite) -> None:
    """A file whose SHA-256 differs from the declared one is not kept."""
    identifier = site.identifier()
    site.put(site.offer(identifier, len(CONTENT), sha256=hashlib.sha256(b"other").hexdigest())["url"], CONTENT)
    assert outcome(site.complete(identifier)) == (400, "checksum-mismatch")
    check_nothing_kept(site, identifier, "checksum-mismatch")


@pytest.mark.parametrize(
    "named", [[], [{"number": 1, "etag": '"00"'}], [{"number": 2, "etag": "{}"}]], ids=["none", "other", "number"]
)
def test_stored_parts_must_match_the_listed_parts(site: DirectSite, named: list[dict[str, Any]]) -> None:
    """If the client lists the parts, the stored parts must be the same."""
    identifier = site.identifier()
    etag = site.put(site.offer(identifier, len(CONTENT))["url"], CONTENT).headers["ETag"]
    named = [{**each, "etag": each["etag"].format(etag)} for each in named]
    assert outcome(site.complete(identifier, json={"parts": named})) == (400, "incomplete")
    check_nothing_kept(site, identifier, "incomplete")


@pytest.mark.parametrize("wish", [{"size": 0}, {"size": 5}, {"size": 6 * MEBIBYTE}, {"size": 5, "method": "POST"}])
def test_completing_without_data_is_refused(site: DirectSite, wish: dict[str, Any]) -> None:
    """Completing an upload without any data is refused with a reason, and nothing is kept, also in a store."""
    identifier = site.identifier()
    site.offer(identifier, **wish)
    assert outcome(site.complete(identifier)) == (400, "incomplete")
    check_nothing_kept(site, identifier, "incomplete")


def test_completing_without_a_part_is_refused(site: DirectSite) -> None:
    """Completing an upload with a missing part is refused, and the part is named."""
    identifier = site.identifier()
    site.put(site.offer(identifier, 6 * MEBIBYTE)["parts"][1]["url"], bytes(MEBIBYTE))
    answer = site.complete(identifier)
    assert outcome(answer) == (400, "incomplete")
    assert "without part 1" in answer.json()["detail"]
    check_nothing_kept(site, identifier, "incomplete")


def test_parts_of_unknown_sizes_cannot_be_listed_beforehand(site: DirectSite) -> None:
    """If the sizes of the parts are only known as they are sent, no part can be listed beforehand."""
    identifier = site.identifier()
    status = UploadStatus(state=State.UPLOADING, resumable=True, direct=DirectUploadTerms())
    attempt = site.pool.begin(identifier[:32], status)
    site.pool.direct(identifier[:32], attempt.token).begin(form=False)
    attempt.suspend(status)
    assert outcome(site.ask("GET", "/direct", identifier)) == (404, "not-direct")


def test_an_upload_that_was_not_begun_cannot_be_completed(site: DirectSite) -> None:
    """Without an offer an upload can be neither completed nor listed, and nothing is made."""
    identifier = site.identifier()
    assert outcome(site.complete(identifier)) == (404, "not-direct")
    assert outcome(site.ask("GET", "/direct", identifier)) == (404, "not-direct")
    assert site.status(identifier)["state"] == "unknown"
    assert list(site.pool.buckets()) == []


@pytest.mark.parametrize("change", [b"x", b""], ids=["more", "less"])
@pytest.mark.parametrize("size", [10, 6 * MEBIBYTE], ids=["whole", "part"])
def test_a_body_of_another_length_than_signed_is_refused(site: DirectSite, size: int, change: bytes) -> None:
    """An address refuses more or fewer bytes than were signed, and earlier data stays."""
    identifier, content = site.identifier(), os.urandom(size)
    offered = site.offer(identifier, size)
    url = offered["parts"][0]["url"] if size > MEBIBYTE else offered["url"]
    first = content[: 5 * MEBIBYTE]
    assert site.put(url, first).status_code == 200
    wrong = b"z" * (len(first) - 1) + (2 * change)
    answer = site.put(url, wrong)
    assert answer.status_code in {400, 403, 413}
    if url.startswith(site.base):
        assert answer.json()["code"] == ("too-large" if change else "invalid-length")
    if size > MEBIBYTE:
        site.put(offered["parts"][1]["url"], content[5 * MEBIBYTE :])
    assert site.complete(identifier).status_code == 200
    assert site.stored(identifier) == content


def test_a_forged_identifier_gives_no_access_to_another_upload(site: DirectSite) -> None:
    """A forged identifier gives no access, and data sent to one's own address reaches no other upload."""
    mine, theirs = site.identifier(), site.identifier()
    address = site.offer(mine, len(CONTENT))["url"]
    theirs_address = site.offer(theirs, len(CONTENT))["url"]
    forged = theirs[:32] + mine[32:]
    for method, path in (("POST", "/direct"), ("GET", "/direct"), ("POST", "/direct/complete")):
        assert outcome(site.ask(method, path, forged, json={"filename": "a", "size": 1})) == (403, "invalid-identifier")
    if site.base in address:
        assert site.put(f"{address}&X-Progress-ID={theirs}", CONTENT).status_code == 200
    else:
        site.put(address, CONTENT)
        crossed = theirs_address.partition("?")[0] + "?" + address.partition("?")[2]
        assert site.put(crossed, b"z" * len(CONTENT)).status_code == 403
    assert site.status(theirs)["received"] == 0
    assert outcome(site.complete(theirs)) == (400, "incomplete")
    assert site.complete(mine).status_code == 200


def test_an_ordinary_upload_cannot_be_completed(site: DirectSite) -> None:
    """A running upload is not disturbed, a finished one stays, and a failed one gives its reason."""
    running, done, failed = site.identifier(), site.identifier(), site.identifier()
    with closing(http.client.HTTPConnection(site.base.partition("://")[2], timeout=PATIENCE)) as connection:
        connection.putrequest("PUT", "/upload?" + urlencode({"X-Progress-ID": running}))
        connection.putheader("Content-Length", "200000")
        connection.endheaders()
        connection.send(bytes(100_000))
        wait_until(lambda: site.status(running)["state"] in {"starting", "uploading"})
        assert outcome(site.complete(running)) == (404, "not-direct")
        assert outcome(site.ask("GET", "/direct", running)) == (404, "not-direct")
        connection.send(bytes(100_000))
        assert connection.getresponse().status == 200
    assert len(site.stored(running)) == 200_000
    site.ask("PUT", "", done, data=CONTENT)
    assert outcome(site.complete(done)) == (409, "already-done")
    assert site.stored(done) == CONTENT
    site.ask("POST", "", failed, data=b"no form")
    assert outcome(site.complete(failed)) == (404, "not-direct")
    assert site.status(failed)["code"] == "unsupported-request"


@pytest.mark.parametrize("kind", ["ceph"])
@pytest.mark.parametrize("content", [b"z" * 11, b"z" * 9, b""], ids=["more", "less", "nothing"])
def test_the_store_enforces_the_post_policy_of_a_form(site: DirectSite, content: bytes) -> None:
    """A store refuses a form with more or fewer bytes than were agreed, or with other fields."""
    identifier = site.identifier()
    offered = site.offer(identifier, 10, method="POST", **{"content-type": "text/plain"})
    assert site.post(offered, content).status_code in {400, 403}
    for name in ("Content-Type", "key", "policy"):
        changed = {**offered, "fields": {**offered["fields"], name: offered["fields"][name] + "x"}}
        assert site.post(changed, b"z" * 10).status_code in {400, 403}
    assert isinstance(site.pool, ObjectPool)
    assert site.leftovers(identifier) == []
    assert site.post(offered, b"z" * 10).status_code == 201
    assert site.complete(identifier).json()["content-type"] == "text/plain"


@pytest.mark.parametrize("kind", ["swift", "ceph"])
def test_urls_are_signed_for_s3_public_url(open_site: Open, kind: str) -> None:
    """With ``s3_public_url`` the addresses are signed for that URL."""
    inside = open_site()
    assert isinstance(inside.pool, ObjectPool)
    public = inside.manager.settings.s3_endpoint_url.replace("127.0.0.1", "localhost")
    site = open_site(s3_public_url=public)
    identifier = site.identifier()
    url = site.offer(identifier, len(CONTENT))["url"]
    assert url.startswith(public + "/")
    assert site.put(url, CONTENT).status_code == 200
    assert site.complete(identifier).status_code == 200
