"""Other processes than a WSGI app open the pool with one call: a worker, a cron job, an app of another kind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fileupload import SettingError, UploadManager, open_pool
from tests.support.wsgi_client import UploadSite

DOCS = Path(__file__).parents[2] / "docs" / "deployment.txt"


def snippet() -> str:
    """Return the program of docs/deployment.txt for a worker."""
    text = DOCS.read_text(encoding="utf-8")
    section = text.partition("Workers and scripts\n-------------------\n")[2]
    found = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", section)
    assert found is not None
    return re.sub("^    ", "", found[1], flags=re.MULTILINE)


def test_the_snippet_for_a_worker_opens_a_finished_upload_by_its_bucket_id(tmp_path: Path) -> None:
    """The documented program, run in another process, reads an upload that the middleware has received."""
    pool = tmp_path / "pool"
    site = UploadSite(pool)
    identifier = site.identifier()
    site.put(b"content", identifier, "a.txt")
    program = snippet().replace("/srv/uploads", str(pool))
    program += f"\nresize_image({site.app_environ['fileupload.bucket'].id!r})\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "a.txt 7\n")
    assert site.status(identifier)["state"] == "unknown"  # the program has removed it


def test_a_pool_is_opened_with_the_settings_of_the_middleware(tmp_path: Path) -> None:
    """open_pool returns the manager, with the same identifiers and buckets as that of the app."""
    site = UploadSite(tmp_path / "pool")
    uploads = open_pool(directory=str(tmp_path / "pool"), max_size="5M")
    assert isinstance(uploads, UploadManager)
    assert uploads.settings.max_size == 5 << 20
    identifier = uploads.create_identifier()
    assert uploads.access_upload_bucket(identifier) is None
    assert uploads.find_bucket(identifier[:32]) is None
    assert site.put(b"x", identifier).status == 200
    for bucket in (uploads.access_upload_bucket(identifier), uploads.find_bucket(identifier[:32])):
        assert bucket is not None
        with bucket.open() as file:
            assert file.read() == b"x"
    assert uploads.find_bucket("../" + identifier[:32]) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "setting 'directory' is missing"),
        ({"directori": "x"}, "did you mean 'directory'?"),
        ({"directory": "x", "pool": "s3://some-bucket/pool"}, "cannot both be given"),
    ],
)
def test_a_wrong_setting_is_told(settings: dict[str, Any], sentence: str) -> None:
    """A pool is opened with valid settings only."""
    with pytest.raises(SettingError, match=re.escape(sentence)):
        open_pool(**settings)


def test_an_object_store_is_opened_in_the_same_way(radosgw: str) -> None:
    """An upload in an object store is found by its bucket id, and a command that reads writes no object."""
    import json
    import os

    from fileupload.status import State, UploadedFile, UploadStatus, timestamp
    from tests.support.stores.fixtures import CEPH_KEYS, access, new_store

    store = new_store(radosgw, CEPH_KEYS)
    settings = {"pool": f"s3://{store.s3_bucket}/pool", **access(radosgw, CEPH_KEYS)}
    uploads = open_pool(**settings)
    identifier = uploads.create_identifier()
    status = UploadStatus(state=State.UPLOADING, started=timestamp(), updated=timestamp())
    attempt = uploads.pool.begin(identifier[:32], status)
    writer = attempt.create_file()
    writer.write(b"content")
    writer.close()
    attempt.finish(status.done((UploadedFile(field="", filename="a", content_type="text/plain", size=7),), {}))
    bucket = open_pool(**settings).find_bucket(identifier[:32])
    assert bucket is not None
    with bucket.open() as file:
        assert file.read() == b"content"

    def objects() -> list[tuple[str, str]]:
        found = store.client.list_objects_v2(Bucket=store.s3_bucket)["Contents"]
        return [(each["Key"], str(each["LastModified"])) for each in found]

    before = objects()
    environ = {**os.environ, **{f"FILEUPLOAD_{name.upper()}": value for name, value in settings.items()}}
    for command in (["status", identifier, "--json"], ["ls", "--json"], ["get", identifier]):
        done = subprocess.run(
            [sys.executable, "-m", "fileupload", *command], env=environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "content" or json.loads(done.stdout)
    assert objects() == before
    store.client.close()
