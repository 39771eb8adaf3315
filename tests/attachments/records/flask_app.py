"""A small REST app with another layout than Kinto's, behind record attachments, for gunicorn.

Records are at ``/api/<collection>/<id>``, in a database that several processes share. alice may do all, bob may read.
The header ``X-Fault`` has a write fail: ``before`` it is stored, or ``after``; ``raise-…`` by an exception, ``kill-…``
by the death of the process.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from fileupload import UploadMiddleware
from fileupload.deploy import RecordAttachments

FOLDER = os.environ.get("FILEUPLOAD_TEST_FOLDER", "")
POOL_SETTINGS = {"durable": False, "min_free_space": 0, "progress_interval": 0}
USERS = {"Bearer alice", "Bearer bob"}


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """Give the database, within a transaction that no other writer shares."""
    with closing(sqlite3.connect(Path(FOLDER, "records.db"), timeout=30, isolation_level=None)) as connection:
        connection.execute("begin immediate")
        connection.execute("create table if not exists records (collection, id, data, primary key (collection, id))")
        yield connection
        connection.execute("commit")


def _find(connection: sqlite3.Connection, collection: str, name: str) -> dict[str, Any] | None:
    query = "select data from records where collection = ? and id = ?"
    row = connection.execute(query, (collection, name)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def _fail(moment: str) -> None:
    fault = request.headers.get("X-Fault", "")
    if fault == moment:
        abort(500)
    if fault == f"raise-{moment}":
        raise RuntimeError(f"the app failed {moment} the change")
    if fault == f"kill-{moment}":
        os.kill(os.getpid(), signal.SIGKILL)


def make_app() -> Flask:
    """Return the app alone."""
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.before_request
    def authorize() -> None:
        user = request.headers.get("Authorization", "")
        if user not in USERS:
            abort(401)
        if user == "Bearer bob" and request.method not in {"GET", "HEAD"}:
            abort(403)

    @app.get("/api/<collection>/<name>")
    def show(collection: str, name: str) -> Response:
        with database() as connection:
            record = _find(connection, collection, name)
        return jsonify(record) if record is not None else abort(404)

    @app.route("/api/<collection>/<name>", methods=["PUT", "PATCH"])
    def write(collection: str, name: str) -> tuple[Response, int]:
        _fail("before")
        with database() as connection:
            found = _find(connection, collection, name)
            if found is not None and request.headers.get("If-None-Match") == "*":
                abort(412)
            if found is None and request.method == "PATCH":
                abort(404)
            record = {**(found or {} if request.method == "PATCH" else {}), **request.get_json(), "id": name}
            row = (collection, name, json.dumps(record))
            connection.execute("insert or replace into records values (?, ?, ?)", row)
        _fail("after")
        return jsonify(record), 201 if found is None else 200

    @app.delete("/api/<collection>/<name>")
    def remove(collection: str, name: str) -> tuple[str, int]:
        _fail("before")
        with database() as connection:
            connection.execute("delete from records where collection = ? and id = ?", (collection, name))
        _fail("after")
        return "", 204

    @app.delete("/api/<collection>")
    def remove_all(collection: str) -> tuple[str, int]:
        prefix = request.args.get("prefix", "")
        _fail("before")
        with database() as connection:
            query = "delete from records where collection = ? and id like ? || '%'"
            connection.execute(query, (collection, prefix))
        _fail("after")
        return "", 204

    return app


def make_application() -> Any:
    """Return the app behind record attachments, and these behind the middleware that tells of progress."""
    pool = str(Path(FOLDER, "pool"))
    app = RecordAttachments(
        make_app(),
        directory=pool,
        record_url="/api/{collection}/{id}",
        folder="{collection}",
        base_url="/files/",
        serve_files=True,
        extensions="any",
        **POOL_SETTINGS,
    )
    return UploadMiddleware(app, directory=pool, path="/upload", anonymous=True, **POOL_SETTINGS)


application = make_application() if FOLDER else None
