"""Attaches a file, and crashes before a request to the public storage: ``crashing.py SETTINGS NUMBER SIZE``.

The settings are JSON; the requests count from 1, and the exit status is 9 if the crash happened.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import webtest

sys.path.insert(0, str(Path(__file__).parents[3]))

from fileupload.deploy import RecordAttachments
from fileupload.pool.s3 import server_side_copy as s3_copy
from fileupload.pool.s3 import store as s3
from fileupload.pool.s3.client import make_client
from tests.support.rest_app import RestApp

PART = 5 << 20


def main(settings: dict[str, Any], number: int, size: int) -> None:
    """Attach a file of *size* bytes; the store copies it in parts."""
    s3_copy._MAX_AT_ONCE = s3_copy._MIN_COPY_PART_SIZE = PART
    place = settings["base_path"].removeprefix("s3:/") + "/"
    seen = count(1)
    clients = []

    def make(**options: Any) -> Any:
        clients.append(make_client(**options))
        return clients[-1]

    def note(params: dict[str, Any], **_: Any) -> None:
        if urlsplit(params["url"]).path.startswith(place) and next(seen) == number:
            os._exit(9)

    s3.make_client = make
    client = webtest.TestApp(RecordAttachments(RestApp(), **settings))
    for each in clients:
        each.meta.events.register("before-call.s3", note)
    client.post("/api/pictures/one/attachment", upload_files=[("attachment", "a.png", bytes(size))])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
