"""The names of the keys in an object pool."""

from __future__ import annotations

import pytest

from fileupload.pool.object.keys import attempt_id_of, bucket_id_of_file, bucket_prefix, data_prefix_of

ID = "0123456789abcdef" * 2


def test_an_attempt_that_resumes_another_uses_its_files() -> None:
    """The name of a resuming attempt ends with that of the first attempt, however often it was resumed."""
    first = attempt_id_of(f"pool/b/{ID}/a/000001700000000-0123456789abcdef")
    second = attempt_id_of(f"pool/b/{ID}/a/000001700000001-fedcba9876543210_{data_prefix_of(first)}")
    assert (first, second) == ("0123456789abcdef", "fedcba9876543210_0123456789abcdef")
    assert data_prefix_of(first) == data_prefix_of(second) == first


@pytest.mark.parametrize("prefix", ["", "pool/", "a/b/"])
def test_a_file_belongs_to_a_bucket(prefix: str) -> None:
    """The key of a file names its bucket, in this pool only."""
    key = bucket_prefix(prefix, ID) + "f/0123456789abcdef/0.direct-secret"
    assert bucket_id_of_file(prefix, key) == ID
    for other in ("x" + key, key + "/x", key + "\n", key.replace("/f/", "/p/"), key.upper(), ID, ""):
        assert bucket_id_of_file(prefix, other) is None


@pytest.mark.parametrize("bucket_id", ["", "..", ID[:-1], ID + "0", ID.upper(), "../" + ID])
def test_a_key_is_made_of_ids_only(bucket_id: str) -> None:
    """A string that is not an id never becomes part of a key."""
    with pytest.raises(ValueError, match="not the id"):
        bucket_prefix("", bucket_id)
