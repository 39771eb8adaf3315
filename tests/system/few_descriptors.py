"""Serves uploads with a limited number of file descriptors: ``few_descriptors.py POOL LIMIT KEY``.

It prints the port once it listens.
"""

from __future__ import annotations

import resource
import sys

from cheroot.wsgi import Server

from fileupload import UploadMiddleware
from fileupload.apps.upload_page.app import UploadPage


def main(pool: str, limit: str, key: str) -> None:
    """Serve until the process is stopped."""
    app = UploadMiddleware(UploadPage(), directory=pool, upload_key=key, min_free_space=0, progress_interval=0.05)
    server = Server(("127.0.0.1", 0), app, numthreads=50, request_queue_size=100)
    server.prepare()
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    print(f"port {server.bind_addr[1]}", flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
