"""``fileupload pool setup``, run as a user runs it, on real stores."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from fileupload.pool.s3.store import S3Store
from tests.support.commands import run_command
from tests.support.stores.fixtures import CEPH_KEYS, SWIFT_KEYS, Place, access, new_store
from tests.support.waiting import PATIENCE, wait_until

PAGE, OTHER_PAGE = "https://www.example.com", "https://other.example.com"
FOREIGN_LIFECYCLE_RULES = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}},
    {
        "ID": "tagged",
        "Status": "Disabled",
        "Filter": {"And": {"Prefix": "some/", "Tags": [{"Key": "a", "Value": "b"}]}},
        "Expiration": {"Days": 3},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 9},
    },
    {
        "ID": "parts",
        "Status": "Enabled",
        "Filter": {"Prefix": "pool/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 90},
    },
]
FOREIGN_CORS_RULES = [
    {"ID": "readers", "AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
    {"AllowedOrigins": ["https://*.example.org"], "AllowedMethods": ["DELETE", "GET"], "MaxAgeSeconds": 5},
]


class Pool:
    """A pool in an ``s3_bucket`` of its own."""

    def __init__(self, store: S3Store, settings: dict[str, str], prefix: str = "pool") -> None:
        self.store = store
        self.target = {"Bucket": store.s3_bucket}
        self.address = f"s3://{store.s3_bucket}/{prefix}"
        self.settings = {"pool": self.address, **settings}

    def setup(self, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return run(*options, **self.settings, **settings)

    def results(self, *options: str) -> dict[str, str]:
        """Run the command; return the result for each rule."""
        done = self.setup("--json", *options)
        assert done.stderr == ""
        return {rule["rule"]: rule["result"] for rule in json.loads(done.stdout)["rules"]}

    def lifecycle(self) -> list[dict[str, Any]]:
        """Return the lifecycle rules, including foreign ones."""
        found: list[dict[str, Any]] = self.store.client.get_bucket_lifecycle_configuration(**self.target)["Rules"]
        return sorted(found, key=lambda rule: str(rule["ID"]))

    def cors(self) -> list[dict[str, Any]]:
        """Return the CORS rules."""
        found: list[dict[str, Any]] = self.store.client.get_bucket_cors(**self.target)["CORSRules"]
        return found

    def put_foreign_rules(self) -> None:
        """Install rules that are not the pool's."""
        self.store.client.put_bucket_lifecycle_configuration(
            **self.target, LifecycleConfiguration={"Rules": FOREIGN_LIFECYCLE_RULES}
        )
        self.store.client.put_bucket_cors(**self.target, CORSConfiguration={"CORSRules": FOREIGN_CORS_RULES})


def run(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `fileupload pool setup`."""
    given = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    environ = {name: value for name, value in os.environ.items() if name != "FILEUPLOAD_DIRECTORY"}
    return run_command("pool", "setup", *given, *options, folder=Path.cwd(), environ=environ)


@pytest.fixture
def pool(radosgw: str) -> Iterator[Pool]:
    """Return a pool in Ceph."""
    store = new_store(radosgw, CEPH_KEYS)
    yield Pool(store, access(radosgw, CEPH_KEYS))
    store.client.close()


@pytest.fixture
def swift_pool(swift: str) -> Iterator[Pool]:
    """Return a pool in Swift, which supports neither kind of rules."""
    store = new_store(swift, SWIFT_KEYS)
    yield Pool(store, access(swift, SWIFT_KEYS))
    store.client.close()


def test_the_command_has_a_help_text() -> None:
    """--help describes the command, and shows an example."""
    done = run("--help")
    assert done.returncode == 0
    assert "example: fileupload pool setup" in done.stdout


def test_foreign_rules_are_kept(pool: Pool) -> None:
    """Both rules are installed beside existing rules, of which none changes."""
    pool.put_foreign_rules()
    lifecycle, cors = pool.lifecycle(), pool.cors()
    done = pool.setup("--origin", PAGE)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The lifecycle rule is installed: multipart uploads below {pool.address}/ are aborted" in done.stdout
    assert f"The CORS rule is installed: pages of {PAGE} may PUT, POST, GET, HEAD." in done.stdout
    assert [rule for rule in pool.lifecycle() if not rule["ID"].startswith("fileupload")] == lifecycle
    assert [rule for rule in pool.cors() if not rule.get("ID", "").startswith("fileupload")] == cors
    (own,) = [rule for rule in pool.lifecycle() if rule not in lifecycle]
    assert (own["Status"], own["Filter"]) == ("Enabled", {"Prefix": "pool/"})
    assert own["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_rules_in_the_older_format_are_kept(pool: Pool) -> None:
    """Beside rules of the older form, the pool's rules have that form too: some stores accept no mixture."""
    older = {"ID": "older", "Status": "Enabled", "Prefix": "logs/", "Expiration": {"Days": 30}}
    pool.store.client.put_bucket_lifecycle_configuration(**pool.target, LifecycleConfiguration={"Rules": [older]})
    pool.setup("--origin", PAGE)
    rules = pool.lifecycle()
    assert older in rules
    assert [(rule["Prefix"], "Filter" in rule) for rule in rules] == [("pool/", False), ("logs/", False)]
    assert pool.results("--origin", PAGE) == {"lifecycle": "unchanged", "CORS": "unchanged"}


def test_setup_can_be_repeated(pool: Pool) -> None:
    """Repeating the setup changes nothing; other days and origins replace the former rules."""
    pool.put_foreign_rules()
    origins = ("--origin", PAGE, "--origin", OTHER_PAGE)
    assert pool.results(*origins) == {"lifecycle": "installed", "CORS": "installed"}
    before = pool.lifecycle(), pool.cors()
    assert pool.results(*origins[2:], *origins[:2]) == {"lifecycle": "unchanged", "CORS": "unchanged"}
    assert (pool.lifecycle(), pool.cors()) == before
    assert pool.results("--abort-after", "3", "--origin", PAGE) == {"lifecycle": "replaced", "CORS": "replaced"}
    assert [len(pool.lifecycle()), len(pool.cors())] == [len(before[0]), len(before[1])]
    (own,) = [rule for rule in pool.lifecycle() if rule not in before[0]]
    assert own["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    (allowing,) = [rule for rule in pool.cors() if rule not in before[1]]
    assert allowing["AllowedOrigins"] == [PAGE]


def test_pools_in_one_s3_bucket_have_separate_rules(pool: Pool) -> None:
    """The rules of one pool are separate from those of another in the same s3_bucket."""
    other = Pool(pool.store, {**pool.settings}, "other")
    other.settings["pool"] = other.address
    pool.setup("--origin", PAGE)
    assert other.results("--origin", OTHER_PAGE) == {"lifecycle": "installed", "CORS": "installed"}
    assert pool.results("--origin", PAGE) == {"lifecycle": "unchanged", "CORS": "unchanged"}
    assert sorted(rule["Filter"]["Prefix"] for rule in pool.lifecycle()) == ["other/", "pool/"]


def test_a_dry_run_changes_nothing(pool: Pool) -> None:
    """A dry run reports the changes without making them."""
    pool.put_foreign_rules()
    before = pool.lifecycle(), pool.cors()
    done = pool.setup("--origin", PAGE, "--dry-run")
    assert done.returncode == 0
    assert "The lifecycle rule would be installed" in done.stdout
    assert "The CORS rule would be installed" in done.stdout
    assert (pool.lifecycle(), pool.cors()) == before


def test_origins_come_from_the_settings(pool: Pool) -> None:
    """Without --origin the origins of the settings are used; without any, no CORS rule is made, which is reported."""
    assert pool.results() == {"lifecycle": "installed", "CORS": "skipped"}
    done = pool.setup(cors_origins=f"{PAGE} {OTHER_PAGE}")
    assert done.returncode == 0
    assert pool.cors()[0]["AllowedOrigins"] == [OTHER_PAGE, PAGE]
    assert "name the origins of your pages with --origin" in pool.setup().stdout
    assert len(pool.cors()) == 1


def preflight(url: str, origin: str, method: str) -> requests.Response:
    """Send the preflight of a page of *origin* that is about to upload."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,x-amz-meta-a",
    }
    return requests.options(url, headers=headers, timeout=PATIENCE)


def test_the_cors_rule_permits_pages_of_the_given_origins_only(pool: Pool) -> None:
    """A preflight permits pages of the given origins only; before the setup it permits none."""
    pool.put_foreign_rules()
    url = pool.store.part_url("pool/file", "upload", 1, 4, 600)
    assert preflight(url, PAGE, "PUT").status_code == 403
    pool.setup("--origin", PAGE)
    granted = preflight(url, PAGE, "PUT")
    assert granted.status_code == 200
    assert granted.headers["Access-Control-Allow-Origin"] == PAGE
    assert granted.headers["Access-Control-Allow-Methods"] == "PUT"
    assert granted.headers["Access-Control-Allow-Headers"] == "content-type,x-amz-meta-a"
    assert preflight(url, PAGE, "DELETE").status_code == 403
    assert preflight(url, OTHER_PAGE, "PUT").status_code == 403
    upload = pool.store.create_multipart_upload("pool/file", "text/plain")
    url = pool.store.part_url("pool/file", upload, 1, 4, 600)
    answer = requests.put(url, b"part", headers={"Origin": PAGE}, timeout=PATIENCE)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    pool.store.abort_multipart_upload("pool/file", upload)


def test_unfinished_uploads_are_aborted(pool: Pool) -> None:
    """The store itself removes the parts of uploads that are not finished in time, and nothing else."""
    pool.store.put("pool/finished", b"finished")
    for key in ("elsewhere", "pool/unfinished"):
        pool.store.put_part(key, pool.store.create_multipart_upload(key, ""), 1, b"part")
    assert pool.setup("--abort-after", "1").returncode == 0
    wait_until(lambda: not list(pool.store.list_multipart_uploads("pool/")))
    assert [key for key, _, _ in pool.store.list_multipart_uploads("")] == ["elsewhere"]
    assert pool.store.get("pool/finished") == b"finished"


def test_rules_that_the_store_does_not_support_are_reported(swift_pool: Pool) -> None:
    """For each rule that the store does not support, the command prints the store's answer and the alternative."""
    done = swift_pool.setup("--origin", PAGE)
    assert (done.returncode, done.stderr) == (1, "")
    lifecycle, cors = done.stdout.splitlines()
    assert lifecycle.startswith("No lifecycle rule: the store answers 'MalformedXML")
    assert "fileupload purge" in lifecycle
    assert cors.startswith("No CORS rule: the store answers 'NotImplemented")
    assert "cors_preflight_allow_origin" in cors
    told = swift_pool.setup("--origin", PAGE, "--json")
    assert told.returncode == 1
    assert [(rule["result"], rule["answer"].split()[0]) for rule in json.loads(told.stdout)["rules"]] == [
        ("refused", "MalformedXML"),
        ("refused", "NotImplemented"),
    ]
    assert swift_pool.results("--dry-run", "--origin", PAGE) == {"lifecycle": "uncertain", "CORS": "refused"}


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"pool": "s3://no-such-bucket/pool"}, "NoSuchBucket"),
        ({"s3_secret_access_key": "not-the-secret"}, "SignatureDoesNotMatch"),
        ({"s3_endpoint_url": "http://no-such-host.invalid"}, "Could not connect"),
    ],
)
def test_an_invalid_bucket_key_or_address_is_reported(place: Place, changed: dict[str, str], answer: str) -> None:
    """A wrong bucket, key or address is reported in one sentence, with the store's answer and without the secret."""
    address = f"s3://{place.store.s3_bucket}/{uuid.uuid4().hex}"
    done = run(**({"pool": address, **place.access} | changed))
    assert (done.returncode, done.stdout) == (1, "")
    assert "setting 'pool' cannot be 's3://" in done.stderr
    assert answer in done.stderr
    assert done.stderr.count("\n") == 1
    assert "not-the-secret" not in done.stderr


def test_a_directory_pool_needs_no_setup(pool_directory: str) -> None:
    """A pool in a folder needs no setup, and a folder and a store exclude each other."""
    done = run("--directory", pool_directory)
    assert (done.returncode, done.stdout) == (0, "A pool in a directory needs no setup.\n")
    assert not os.path.exists(pool_directory)
    both = run("--directory", pool_directory, pool="s3://some-bucket/pool")
    assert both.returncode == 1
    assert "cannot both be given" in both.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--abort-after", "0"), "'0' is not a whole number of at least 1"),
        (("--abort-after", "2h"), "'2h' is not a whole number of at least 1"),
        (("--origin", "www.example.com"), "'www.example.com' is not origins such as https://www.example.com"),
    ],
)
def test_invalid_options_are_reported(options: tuple[str, str], sentence: str) -> None:
    """An invalid option is reported with the valid values."""
    done = run(*options, pool="s3://some-bucket/pool")
    assert done.returncode == 2
    assert sentence in done.stderr
