"""The pages of the app."""

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import FileResponse, Response
from pyramid.view import view_config


@view_config(route_name="form", request_method="GET", renderer="templates/form.html")
def form(request: Request) -> dict[str, Any]:
    """Show the form, with a new identifier each time, since an identifier names one upload."""
    identifier = request.environ["fileupload"].create_identifier()
    return {
        "action": request.route_path("upload", _query={"X-Progress-ID": identifier}),
        "script": f"{request.route_path('upload')}/fileupload.js",
    }


@view_config(route_name="upload", request_method="POST")
def upload(request: Request) -> Response:
    """Store the file that the middleware received; the body of the request is the descriptor."""
    # The bucket is there only if the middleware put it there. Without it, the JSON was written by the client.
    bucket = request.environ.get("fileupload.bucket")
    if bucket is None:
        raise HTTPBadRequest("Send the file with the form.")
    descriptor = request.json_body
    name = uuid.uuid4().hex  # never a name that a client has chosen
    title = descriptor["fields"].get("title", [descriptor["filename"]])[0]
    with request.db as db:  # the entry is committed only if the file could be moved
        db.execute(
            "INSERT INTO entry (title, filename, size, sha256, stored_as) VALUES (?, ?, ?, ?, ?)",
            (title, descriptor["filename"], descriptor["size"], descriptor["sha256"], name),
        )
        bucket.move_to(Path(request.registry.settings["files"], name))
    bucket.clear_upload()
    return HTTPSeeOther(request.route_path("entries"))


@view_config(route_name="entries", request_method="GET", renderer="templates/entries.html")
def entries(request: Request) -> dict[str, Any]:
    """List the uploaded files, newest first."""
    return {"entries": request.db.execute("SELECT * FROM entry ORDER BY id DESC").fetchall()}


@view_config(route_name="download", request_method="GET")
def download(request: Request) -> Response:
    """Return a file, always as an attachment: an uploaded page must not run with the origin of this app."""
    found = request.db.execute("SELECT * FROM entry WHERE id = ?", (request.matchdict["id"],)).fetchone()
    if found is None:
        raise HTTPNotFound
    path = Path(request.registry.settings["files"], found["stored_as"])
    response = FileResponse(path, request=request, content_type="application/octet-stream")
    response.content_disposition = f"attachment; filename*=UTF-8''{quote(found['filename'], safe='')}"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
