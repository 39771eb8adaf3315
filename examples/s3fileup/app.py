"""A small Flask app whose page uploads files past the app: to a directory, or straight to an object store.

``S3Fileup`` is mounted below /s3fileup. The page gets a presigned URL there, sends the file to it by one PUT, and gets
a link to the file. An upload is complete even if the page is closed after the PUT.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, abort, current_app, render_template, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from fileupload import S3Fileup

MOUNT = "/s3fileup"

bp = Blueprint("demo", __name__)


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """Create the app; *config*, and environment variables such as FLASK_FILEUPLOAD_POOL, override the values below."""
    app = Flask(__name__)
    # Names that begin with FILEUPLOAD_ are settings of S3Fileup.
    app.config.from_mapping(
        FILEUPLOAD_MAX_SIZE=1000,  # megabytes
        FILEUPLOAD_ANONYMOUS=True,  # this example has no login; see the setting authorize
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    if not app.config.get("FILEUPLOAD_POOL"):
        app.config.setdefault("FILEUPLOAD_DIRECTORY", str(Path(app.instance_path, "pool")))
    Path(app.instance_path).mkdir(exist_ok=True)
    uploads = S3Fileup(**app.config.get_namespace("FILEUPLOAD_"))
    app.extensions["s3fileup"] = uploads
    app.register_blueprint(bp)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {MOUNT: uploads})  # type: ignore[method-assign]
    return app


@bp.get("/")
def page() -> str:
    """Show the page."""
    return render_template("upload.html", address=request.script_root + MOUNT)


@bp.post("/uploaded")
def uploaded() -> tuple[str, int]:
    """Take note of a finished upload: the webhook that the setting callback_url names."""
    body = request.get_data()
    key = current_app.extensions["s3fileup"].manager.key_ring.keys[0]
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers.get("X-Fileupload-Signature", "").encode(), f"sha256={digest}".encode()):
        abort(403)
    descriptor = json.loads(body)
    with Path(current_app.instance_path, "uploaded.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: descriptor[name] for name in ("filename", "content-type", "size")}) + "\n")
    return "", 204
