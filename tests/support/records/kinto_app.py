"""Kinto behind record attachments, on waitress: ``python kinto_app.py FOLDER [settings as JSON]``.

Two servers run in the process, each with its own Kinto: one keeps the files in the pool, one in a public folder.
Their addresses are printed once both listen.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kinto import main as kinto_main
from waitress import create_server

from fileupload.deploy import RecordAttachments

WSGIApp = Callable[..., Iterable[bytes]]

HOST = "127.0.0.1"
SETTINGS = {
    "kinto.storage_backend": "kinto.core.storage.memory",
    "kinto.cache_backend": "kinto.core.cache.memory",
    "kinto.permission_backend": "kinto.core.permission.memory",
    "kinto.userid_hmac_secret": "some-secret-string",
    "kinto.includes": "kinto.plugins.default_bucket kinto.plugins.flush",
    "kinto.experimental_collection_schema_validation": "true",
    "multiauth.policies": "basicauth",
}


def make_kinto(**settings: str) -> WSGIApp:
    """Return Kinto, with its records in memory."""
    app: WSGIApp = kinto_main({}, **{**SETTINGS, **settings})
    return app


def make_filter(app: WSGIApp, directory: Path, base_url: str, /, **settings: Any) -> RecordAttachments:
    """Return *app* behind record attachments, with the settings that most tests use."""
    values = {
        "directory": str(directory),
        "base_url": base_url,
        "folder": "{bucket_id}/{collection_id}",
        "serve_files": True,
        "durable": False,
        "min_free_space": 0,
        "resources.keeping.keep_old_files": True,
    }
    return RecordAttachments(app, **{**values, **settings})


def _serve(directory: Path, /, **settings: Any) -> Any:
    """Return a server that is listening, but not serving yet."""
    apps: list[WSGIApp] = []
    server = create_server(lambda *arguments: apps[0](*arguments), host=HOST, port=0, threads=4)
    address = f"http://{HOST}:{server.effective_port}"
    apps.append(make_filter(make_kinto(), directory, f"{address}/files/", **settings))
    return server, address


def main(folder: Path, /, **settings: Any) -> None:
    """Run both servers until the process is stopped."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    in_pool, pool_address = _serve(folder / "pool", **settings)
    in_folder, folder_address = _serve(folder / "pool2", base_path=str(folder / "public"), **settings)
    threading.Thread(target=in_folder.run, daemon=True).start()
    print(f"ready {pool_address} {folder_address}", flush=True)
    in_pool.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
