"""The upload manager that the app finds in its environ."""

from pathlib import Path
from typing import Any

import pytest
import webtest

from fileupload import UploadManager, UploadMiddleware
from fileupload.errors import UploadKept
from fileupload.settings import parse_megabytes
from tests.support.waiting import wait_until


def quiet(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Return an empty response."""
    start_response("204 No Content", [])
    return []


@pytest.fixture
def middleware(pool_directory: str) -> UploadMiddleware:
    return UploadMiddleware(quiet, directory=pool_directory)


@pytest.fixture
def uploads(middleware: UploadMiddleware) -> UploadManager:
    return middleware.manager


@pytest.fixture
def client(middleware: UploadMiddleware) -> webtest.TestApp:
    return webtest.TestApp(middleware)


def test_the_app_reads_and_keeps_a_file(uploads: UploadManager, client: webtest.TestApp, tmp_path: Path) -> None:
    """With the identifier the app gets the status, the path and the bytes, and moves the file."""
    identifier = uploads.create_identifier()
    assert uploads.access_upload_bucket(identifier) is None
    client.put(f"/upload?X-Progress-ID={identifier}&filename=a.txt", b"content")
    bucket = uploads.access_upload_bucket(identifier)
    assert bucket is not None
    assert bucket.is_complete()
    assert bucket.get_status()["identifier"] == identifier
    assert bucket.files[0].filename == "a.txt"
    filename = bucket.get_filename()
    assert filename is not None
    assert Path(filename).read_bytes() == b"content"
    bucket.move_to(str(tmp_path / "kept"))
    assert (tmp_path / "kept").read_bytes() == b"content"
    assert bucket.clear_upload() is True
    assert bucket.clear_upload() is False
    assert uploads.access_upload_bucket(identifier) is None


def test_a_kept_upload_cannot_be_reset_by_its_client(uploads: UploadManager, client: webtest.TestApp) -> None:
    """A kept upload cannot be reset by its client in any way, only by the app."""
    identifier = uploads.create_identifier()
    client.put(f"/upload?X-Progress-ID={identifier}&filename=a.txt", b"content")
    bucket = uploads.access_upload_bucket(identifier)
    assert bucket is not None
    bucket.keep()
    status = f"/upload/status?X-Progress-ID={identifier}"
    for answer in (client.delete(status, status=409), client.post(f"{status}&clear", status=409)):
        assert answer.json["code"] == "kept"
    with pytest.raises(UploadKept):
        uploads.clear_upload_bucket(identifier)
    assert client.get(status).json["state"] == "done"
    assert bucket.clear_upload() is True
    assert client.delete(status).json == {"success": True}


@pytest.mark.parametrize("identifier", [None, "", "..", "x" * 90])
def test_an_invalid_identifier_has_no_bucket(uploads: UploadManager, identifier: str | None) -> None:
    """An invalid identifier raises no error: it has no bucket, clears nothing and does not verify."""
    assert uploads.verify_identifier(identifier) is False
    assert uploads.access_upload_bucket(identifier) is None
    assert uploads.clear_upload_bucket(identifier) is False


def test_claims_limit_an_upload(uploads: UploadManager, client: webtest.TestApp) -> None:
    """The signed claims of an identifier limit its upload, in the units of the settings."""
    assert parse_megabytes("3b") == 3
    small = uploads.create_identifier(max_size="3b")
    assert client.put(f"/upload?X-Progress-ID={small}", b"four", status=413).json["code"] == "too-large"
    client.put(f"/upload?X-Progress-ID={small}", b"one")
    image = uploads.create_identifier(content_types=["image/*"])
    headers = {"Content-Type": "text/plain"}
    client.put(f"/upload?X-Progress-ID={image}", b"x", headers=headers, status=415)
    client.put(f"/upload?X-Progress-ID={image}", b"x", headers={"Content-Type": "image/png"})


def test_an_expired_identifier_gives_access_to_its_finished_upload(
    uploads: UploadManager, client: webtest.TestApp
) -> None:
    """An expired identifier starts no upload, and still gives access to an upload made in time."""
    identifier = uploads.create_identifier(max_age="5")
    client.put(f"/upload?X-Progress-ID={identifier}", b"in time")
    unused = uploads.create_identifier(max_age="0")
    wait_until(lambda: not uploads.verify_identifier(identifier))
    assert uploads.access_upload_bucket(identifier) is not None
    assert client.get(f"/upload/status?X-Progress-ID={identifier}").json["state"] == "done"
    for path in ("/upload", "/upload/status"):
        refused = client.get(path + f"?status&X-Progress-ID={unused}", status=403).json
        assert refused["code"] == "invalid-identifier"
    client.put(f"/upload?X-Progress-ID={unused}", b"late", status=403)


def test_invalid_claims_raise_an_error_in_the_app(uploads: UploadManager) -> None:
    """An invalid argument raises an error in the app immediately."""
    with pytest.raises(ValueError, match="a size"):
        uploads.create_identifier(max_size="much")
    with pytest.raises(ValueError, match="a time"):
        uploads.create_identifier(max_age="soon")
    with pytest.raises(ValueError, match="media types"):
        uploads.create_identifier(content_types=["image"])


def test_any_request_removes_outdated_uploads_with_expire_after(pool_directory: str) -> None:
    """With `expire_after`, any request removes old uploads, and the status says in advance when."""
    middleware = UploadMiddleware(quiet, directory=pool_directory, expire_after="3s")
    client, uploads = webtest.TestApp(middleware), middleware.manager
    old = uploads.create_identifier()
    client.put(f"/upload?X-Progress-ID={old}", b"old")
    assert client.get(f"/upload/status?X-Progress-ID={old}").json["expires"].endswith("Z")

    def is_removed() -> bool:
        client.get(f"/upload/status?X-Progress-ID={uploads.create_identifier()}", status=404)
        return uploads.access_upload_bucket(old) is None

    wait_until(is_removed)
