"""Forged identifiers: all get the same response, and have no effect."""

from __future__ import annotations

import base64
import hashlib
import json
import string
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from itsdangerous import TimestampSigner

from tests.support.wsgi_client import Answer, UploadSite, file_part, form

KEY = "k" * 40
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture
def keyed(tmp_path: Path) -> UploadSite:
    """Return a site with a known key, so that forgeries can be signed."""
    return UploadSite(tmp_path / "pool", upload_key=KEY, downloads=True, jsonp=True)


def signed(value: str, *, key: str = KEY, salt: str = "fileupload.identifier", digest: str = "sha256") -> str:
    signer = TimestampSigner(key, salt=salt, key_derivation="hmac", digest_method=getattr(hashlib, digest))
    return signer.sign(value).decode()


def forgeries(genuine: str) -> Iterator[str]:
    """Yield forged identifiers, each with one fault."""
    value, stamp, signature = genuine.rsplit(".", 2)
    yield from (
        "",
        ".",
        "..",
        "../../etc",
        "a" * 32,
        value,
        f"{value}.{stamp}",
        f"{value}.{stamp}.",
        f".{stamp}.{signature}",
    )
    yield from (
        signed(value, key="x" * 40),
        signed(value, salt="other"),
        signed(value, digest="sha1"),
        signed(value, key=""),
    )
    yield from (
        signed("../../../etc/passwd"),
        signed("A" * 32),
        signed("a" * 31),
        signed("a" * 33),
        signed(""),
    )
    yield from (genuine + "x", genuine + "\n", " " + genuine, genuine + "\0", genuine + "=", genuine.upper())
    yield from (genuine.replace(".", "%2E"), f"{genuine}.{signature}", f"{value}~e30.{stamp}.{signature}")
    yield f"{value}.{stamp}.{signature}".replace(value, value.translate({ord("0"): "٠", ord("1"): "١"}) + "٢")
    yield value + "." + stamp + "." + "A" * 43
    yield "9" * 5000
    for position, character in enumerate(genuine):
        for bit in range(7):
            flipped = chr(ord(character) ^ (1 << bit))
            yield genuine[:position] + flipped + genuine[position + 1 :]


def test_an_identifier_signed_by_the_test_is_valid(keyed: UploadSite) -> None:
    """An identifier signed in the same way without a fault is valid, so the forgeries fail for their fault."""
    assert keyed.manager.verify_identifier(signed("ab" * 16))


def test_each_character_of_an_identifier_counts(keyed: UploadSite) -> None:
    """Changing any character to any other of the alphabet is refused (Gokapi GHSA-c36c-7pc2-f2ph)."""
    for genuine in (keyed.identifier(), keyed.identifier(max_size=1, content_types=["a/b"])):
        assert keyed.manager.verify_identifier(genuine)
        for position, character in enumerate(genuine):
            for other in ALPHABET + ".~":
                if other != character:
                    forged = genuine[:position] + other + genuine[position + 1 :]
                    assert not keyed.manager.verify_identifier(forged), position


def test_all_forgeries_get_one_answer(keyed: UploadSite) -> None:
    """Forged, expired and foreign identifiers get identical responses for upload, status and download."""
    genuine = keyed.identifier()
    assert keyed.put(b"secret", genuine).status == 200
    before = {path: path.stat().st_mtime_ns for path in keyed.directory.rglob("*")}
    answers: set[tuple[int, bytes, tuple[tuple[str, str], ...]]] = set()

    def note(answer: Answer) -> None:
        answers.add((answer.status, answer.body, tuple(sorted(answer.headers.items()))))

    for forged in [*set(forgeries(genuine)) - {genuine, ""}, keyed.identifier(max_age=0)]:
        note(keyed.put(b"x", forged))
        note(keyed.post(form(file_part("x")), forged))
        query = urlencode({"X-Progress-ID": forged})
        for method, path in (("GET", "/upload/status"), ("DELETE", "/upload/status"), ("GET", "/upload")):
            note(keyed.send(method, path, query))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 403
    assert {path: path.stat().st_mtime_ns for path in keyed.directory.rglob("*")} == before


def test_clear_by_script_tag_needs_the_identifier_too(keyed: UploadSite) -> None:
    """With ``jsonp`` too, a forged identifier resets nothing."""
    genuine = keyed.identifier()
    assert keyed.put(b"secret", genuine).status == 200
    forged = genuine[:-2] + ("A" if genuine[-2] != "A" else "B") + genuine[-1]
    assert keyed.send("GET", "/upload/status", f"X-Progress-ID={forged}&clear&callback=f").status == 403
    assert keyed.status(genuine)["state"] == "done"


def test_the_app_side_refuses_forgeries_quietly(keyed: UploadSite) -> None:
    """``verify``, ``access`` and ``clear`` accept only genuine identifiers, and raise no error for others."""
    genuine = keyed.identifier()
    assert keyed.put(b"secret", genuine).status == 200
    for forged in [*set(forgeries(genuine)) - {genuine}, None]:
        assert not keyed.manager.verify_identifier(forged)
        assert keyed.manager.access_upload_bucket(forged) is None
        assert keyed.manager.clear_upload_bucket(forged) is False
    assert keyed.contents(genuine) == [b"secret"]


def test_claims_cannot_be_changed(keyed: UploadSite) -> None:
    """Claims are signed: changed or removed claims invalidate the signature."""
    genuine = keyed.identifier(max_size="10B")
    value, stamp, signature = genuine.rsplit(".", 2)
    bucket_id, _, claims = value.partition("~")
    larger = base64.urlsafe_b64encode(json.dumps({"s": 1 << 40}).encode()).decode().rstrip("=")
    assert json.loads(base64.urlsafe_b64decode(claims + "==")) == {"s": 10}
    for forged in (f"{bucket_id}~{larger}.{stamp}.{signature}", f"{bucket_id}.{stamp}.{signature}"):
        assert keyed.put(b"x" * 11, forged).outcome == (403, "invalid-identifier")


def test_an_expired_identifier_starts_no_upload(keyed: UploadSite) -> None:
    """An expired identifier starts no upload, and still gives access to an upload made in time."""
    assert keyed.put(b"x", keyed.identifier(max_age=0)).outcome == (403, "invalid-identifier")
    assert keyed.put(b"x", keyed.identifier(max_age=100)).status == 200


def test_an_identifier_is_invalid_in_another_pool(tmp_path: Path) -> None:
    """Each pool creates its own key, readable by its owner only."""
    one, other = UploadSite(tmp_path / "1"), UploadSite(tmp_path / "2")
    assert other.put(b"x", one.identifier()).outcome == (403, "invalid-identifier")
    assert (tmp_path / "1" / ".upload_key").stat().st_mode & 0o777 == 0o600


def test_a_retired_key_verifies_and_a_removed_one_does_not(tmp_path: Path) -> None:
    """The newest key signs, all keys verify, and identifiers of a removed key are invalid."""
    old = UploadSite(tmp_path, upload_key=KEY).identifier()
    assert UploadSite(tmp_path, upload_key=f"{'n' * 40} {KEY}").put(b"x", old).status == 200
    assert UploadSite(tmp_path, upload_key="n" * 40).put(b"x", old).outcome == (403, "invalid-identifier")
