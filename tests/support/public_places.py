"""Public places for the files of records in a real object store."""

from __future__ import annotations

import uuid
from typing import Any

from fileupload.pool.s3.store import S3Store
from tests.support.stores.fixtures import REGION


def public_storage_settings(store: S3Store, keys: tuple[str, str]) -> dict[str, Any]:
    """Return the settings of an empty public place, for the account with these *keys*."""
    return {
        "base_path": f"s3://{store.s3_bucket}/public-{uuid.uuid4().hex}",
        "s3_endpoint_url": store.client.meta.endpoint_url,
        "s3_region": REGION,
        "s3_access_key_id": keys[0],
        "s3_secret_access_key": keys[1],
    }
