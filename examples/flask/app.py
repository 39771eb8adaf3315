"""A small Flask app: upload files with a title, list them, download them.

``UploadMiddleware`` takes the bytes before Flask sees the request. The view at /upload gets a short JSON
descriptor instead of the file, moves the file where the app keeps its files, and stores an entry.
"""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, abort, current_app, g, redirect, render_template, request, send_file, url_for
from werkzeug.wrappers import Response

from fileupload import UploadMiddleware

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    filename TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    stored_as TEXT NOT NULL
)
"""

bp = Blueprint("demo", __name__)


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Create the app; *config*, and environment variables such as FLASK_FILES, override the values below."""
    app = Flask(__name__)
    app.config.from_mapping(
        DATABASE=str(Path(app.instance_path, "entries.sqlite")),
        FILES=str(Path(app.instance_path, "files")),  # where the app keeps its files
        # Names that begin with FILEUPLOAD_ are settings of the middleware.
        FILEUPLOAD_DIRECTORY=str(Path(app.instance_path, "pool")),  # where uploads arrive
        FILEUPLOAD_MAX_SIZE=1000,  # megabytes
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    Path(app.config["FILES"]).mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(app.config["DATABASE"])) as db:
        db.execute(SCHEMA)
    app.register_blueprint(bp)
    app.teardown_appcontext(close_db)
    settings = app.config.get_namespace("FILEUPLOAD_")
    app.wsgi_app = UploadMiddleware(app.wsgi_app, **settings)  # type: ignore[method-assign]
    return app


def get_db() -> sqlite3.Connection:
    """Return the database connection of this request."""
    if "db" not in g:
        g.db = sqlite3.connect(current_app.config["DATABASE"])
        g.db.row_factory = sqlite3.Row
    connection: sqlite3.Connection = g.db
    return connection


def close_db(error: BaseException | None) -> None:
    """Close the database connection of this request, if it has one."""
    if "db" in g:
        g.pop("db").close()


@bp.get("/")
def form() -> str:
    """Show the form, with a new identifier each time, since an identifier names one upload."""
    uploads = request.environ["fileupload"]
    address = uploads.upload_url or url_for(".upload")
    return render_template(
        "form.html",
        action=f"{address}?X-Progress-ID={uploads.create_identifier()}",
        script=f"{address}/fileupload.js",
        finish=url_for(".uploaded") if uploads.upload_url else None,
    )


@bp.post("/upload")
def upload() -> Response:
    """Store the file that the middleware received; the body of the request is the descriptor."""
    # The bucket is there only if the middleware put it there. Without it, the JSON was written by the client.
    bucket = request.environ.get("fileupload.bucket")
    if bucket is None:
        abort(400, "Send the file with the form.")
    return keep(bucket, request.get_json())


@bp.post("/uploaded")
def uploaded() -> Response:
    """Store the file that a dedicated server received; the script of the page sends the identifier."""
    bucket = request.environ["fileupload"].access_upload_bucket(request.form["identifier"])
    if bucket is None or not bucket.is_complete():
        abort(404, "There is no finished upload of this identifier.")
    return keep(bucket, bucket.get_status())


def keep(bucket: Any, descriptor: Any) -> Response:
    """Move the file out of the pool, store its entry, and leave nothing in the pool."""
    name = uuid.uuid4().hex  # never a name that a client has chosen
    title = descriptor["fields"].get("title", [descriptor["filename"]])[0]
    with get_db() as db:  # the entry is committed only if the file could be moved
        db.execute(
            "INSERT INTO entry (title, filename, size, sha256, stored_as) VALUES (?, ?, ?, ?, ?)",
            (title, descriptor["filename"], descriptor["size"], descriptor["sha256"], name),
        )
        bucket.move_to(Path(current_app.config["FILES"], name))
    bucket.clear_upload()
    return redirect(url_for(".entries"), 303)


@bp.get("/entries")
def entries() -> str:
    """List the uploaded files, newest first."""
    rows = get_db().execute("SELECT * FROM entry ORDER BY id DESC").fetchall()
    return render_template("entries.html", entries=rows)


@bp.get("/entries/<int:entry_id>/file")
def download(entry_id: int) -> Response:
    """Return a file, always as an attachment: an uploaded page must not run with the origin of this app."""
    row = get_db().execute("SELECT * FROM entry WHERE id = ?", (entry_id,)).fetchone()
    if row is None:
        abort(404)
    response = send_file(
        Path(current_app.config["FILES"], row["stored_as"]),
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=row["filename"],
        etag=row["sha256"],
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
