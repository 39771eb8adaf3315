"""A small REST app with a layout different from Kinto's, behind record attachments, for gunicorn.

Records are at ``/api/<collection>/<id>``, in a database that several processes share. alice may do all, bob may read.
The header ``X-Fault`` makes a write fail: ``before`` it is stored, or ``after``; ``raise-…`` by an exception,
``kill-…`` by a crash of the process.

It is as lenient as such apps are: it reads a body as JSON whatever its type is, and accepts forms, JSON Patches,
POST for an update, and method overrides in headers, the query and forms.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jsonpatch
from flask import Flask, Response, abort, jsonify, request

from fileupload import UploadMiddleware
from fileupload.deploy import RecordAttachments

FOLDER = os.environ.get("FILEUPLOAD_TEST_FOLDER", "")
POOL_SETTINGS = {"durable": False, "min_free_space": 0, "progress_interval": 0}
USERS = {"Bearer alice", "Bearer bob"}


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """Provide the database, in a transaction that excludes other writers."""
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


OVERRIDES = ("HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_HTTP_METHOD", "HTTP_X_METHOD_OVERRIDE", "HTTP_X_METHOD")


class MethodOverride:
    """Lets a header, the query or a form override the method of the request."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        named = [environ[name] for name in OVERRIDES if name in environ]
        named += parse_qs(environ.get("QUERY_STRING", "")).get("_method", [])
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            named += parse_qs(body.decode("utf-8", "replace")).get("_method", [])
        for method in named:
            environ["REQUEST_METHOD"] = method.upper()
        return self._app(environ, start_response)


def _content() -> Any:
    """Return the content of the request: a form, or JSON of any type."""
    return request.form.to_dict() if request.form else request.get_json(force=True)


def _changed(record: dict[str, Any]) -> dict[str, Any]:
    content = _content()
    if isinstance(content, list):
        try:
            return dict(jsonpatch.apply_patch(record, content))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError):
            abort(400)
    return {**record, **content} if isinstance(content, dict) else abort(400)


def make_app() -> Flask:
    """Return the app without record attachments."""
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.wsgi_app = MethodOverride(app.wsgi_app)  # type: ignore[method-assign]

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

    @app.route("/api/<collection>/<name>", methods=["PUT", "PATCH", "POST"])
    def write(collection: str, name: str) -> tuple[Response, int]:
        _fail("before")
        with database() as connection:
            found = _find(connection, collection, name)
            if found is not None and request.headers.get("If-None-Match") == "*":
                abort(412)
            if found is None and request.method != "PUT":
                abort(404)
            record = {**_changed(found or {} if request.method != "PUT" else {}), "id": name}
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

    _add_lists(app)
    return app


def _add_lists(app: Flask) -> None:
    """Add the routes for all records of a collection."""

    @app.post("/api/<collection>")
    def make(collection: str) -> tuple[Response, int]:
        content = _content()
        made = content if isinstance(content, list) else [content]
        if not all(isinstance(record, dict) and "id" in record for record in made):
            abort(400)
        with database() as connection:
            for record in made:
                row = (collection, str(record["id"]), json.dumps(record))
                connection.execute("insert or replace into records values (?, ?, ?)", row)
        return jsonify(made), 201

    @app.delete("/api/<collection>")
    def remove_all(collection: str) -> tuple[str, int]:
        prefix = request.args.get("prefix", "")
        _fail("before")
        with database() as connection:
            query = "delete from records where collection = ? and id like ? || '%'"
            connection.execute(query, (collection, prefix))
        _fail("after")
        return "", 204


def make_application() -> Any:
    """Return the app behind record attachments, in turn behind the upload middleware, which reports progress."""
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
