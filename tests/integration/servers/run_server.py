"""Runs one WSGI server with one small app behind the middleware, for the tests beside this file.

``python run_server.py NAME`` starts a server that has no command of its own, or none that supports port 0; it
prints the address once it listens. The others load ``application`` or ``paste_app`` from here. The pool is in
the folder given in the environment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

from fileupload import SessionAttachments, UploadMiddleware

WSGIApp = Callable[..., Iterable[bytes]]

POOL = os.environ.get("FILEUPLOAD_TEST_POOL", "")
SETTINGS = json.loads(os.environ.get("FILEUPLOAD_TEST_SETTINGS", "{}"))
MAX_SIZE = 16  # megabytes
HOST = "127.0.0.1"


def describe(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the input of the app behind the middleware."""
    length = environ.get("CONTENT_LENGTH") or "0"
    bucket = environ.get("fileupload.bucket")
    seen = {
        "method": environ["REQUEST_METHOD"],
        "content-type": environ.get("CONTENT_TYPE", ""),
        "content-length": length,
        "body": environ["wsgi.input"].read(int(length)).decode(),
        "bucket": bucket is not None,
        "stored": [_digest(bucket, index) for index in range(len(bucket.files))] if bucket else [],
    }
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _digest(bucket: Any, index: int) -> str:
    with bucket.open(index) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_application() -> WSGIApp:
    """Return the app behind the middleware, and attachments; below ``/checked`` between two validators of PEP 3333."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    settings: dict[str, Any] = {"directory": POOL, "max_size": MAX_SIZE, "min_free_space": 0, **SETTINGS}
    plain = UploadMiddleware(describe, **settings)
    inner = validator(describe)

    def without_manager(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # The name is the predecessor's; names without a dot are for strings (PEP 3333), and the validator reports it.
        assert environ.pop("fileupload").create_identifier()
        return inner(environ, start_response)

    checked = validator(UploadMiddleware(without_manager, **settings))
    attachments = SessionAttachments(describe, **settings)
    checked_attachments = validator(SessionAttachments(without_manager, path="/checked/attachments", **settings))

    def choose(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "REMOTE_PORT" in environ:  # werkzeug sets a number, which is not our error
            environ["REMOTE_PORT"] = str(environ["REMOTE_PORT"])
        for start, app in (
            ("/checked/attachments", checked_attachments),
            ("/checked/", checked),
            ("/attachments/", attachments),
        ):
            if environ["PATH_INFO"].startswith(start):
                return app(environ, start_response)
        return plain(environ, start_response)

    return choose


def paste_app(global_conf: dict[str, str]) -> WSGIApp:
    """Return the app for ``fileupload serve paste.ini``."""
    return make_application()


def run_waitress(app: WSGIApp) -> None:
    from waitress import create_server

    server = create_server(app, host=HOST, port=0, threads=8)
    _announce(server.effective_port)
    server.run()


def run_cheroot(app: WSGIApp) -> None:
    from cheroot.wsgi import Server

    server = Server((HOST, 0), app, numthreads=8)
    server.prepare()
    _announce(server.bind_addr[1])
    server.serve()


def run_gevent(app: WSGIApp) -> None:
    from gevent.pywsgi import WSGIServer as GeventServer

    server = GeventServer((HOST, 0), app, log=None)
    server.start()
    _announce(server.server_port)
    server.serve_forever()


def run_granian(app: WSGIApp) -> None:
    from granian import Granian
    from granian.constants import Interfaces

    with socket.socket() as reserved:  # granian supports no port 0, and shares the given port
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
        target = "run_server:application"
        server = Granian(target, address=HOST, port=port, interface=Interfaces.WSGI, blocking_threads=8)
        _announce(port)
        server.serve()


class ThreadedServer(ThreadingMixIn, WSGIServer):
    """The standard library's server with threads, so that a status can be requested during an upload."""

    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    """Writes no log line for a request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return


def run_wsgiref(app: WSGIApp) -> None:
    server = make_server(HOST, 0, app, server_class=ThreadedServer, handler_class=QuietHandler)
    _announce(server.server_port)
    server.serve_forever()


def run_werkzeug(app: WSGIApp) -> None:
    from werkzeug.serving import make_server as make_werkzeug_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # The same as run_simple(threaded=True), but with a known port.
    server = make_werkzeug_server(HOST, 0, app, threaded=True)
    _announce(server.port)
    server.serve_forever()


def _announce(port: int) -> None:
    print(f"http://{HOST}:{port}/", flush=True)


RUNNERS: dict[str, Callable[[WSGIApp], None]] = {
    "waitress": run_waitress,
    "cheroot": run_cheroot,
    "gevent": run_gevent,
    "granian": run_granian,
    "wsgiref": run_wsgiref,
    "werkzeug": run_werkzeug,
}


def main(name: str) -> None:
    """Run the server of that name until it is stopped."""
    if name == "gevent":
        from gevent import monkey

        monkey.patch_all()
    RUNNERS[name](make_application())


if __name__ == "__main__":
    main(sys.argv[1])
else:
    application = make_application() if POOL else None
