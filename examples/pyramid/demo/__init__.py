"""A small Pyramid app: upload files with a title, list them, download them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.router import Router

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


def main(global_config: dict[str, str], **settings: Any) -> Router:
    """Create the app from the settings of its section in demo.ini; the upload middleware is in front of it."""
    Path(settings["files"]).mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(settings["database"])) as db:
        db.execute(SCHEMA)
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.add_jinja2_renderer(".html")
        config.add_request_method(connect, "db", reify=True)
        config.add_static_view("static", "static")
        config.add_route("form", "/")
        config.add_route("upload", "/upload")
        config.add_route("entries", "/entries")
        config.add_route("download", "/entries/{id:[0-9]+}/file")
        config.scan(".views")
        return config.make_wsgi_app()


def connect(request: Request) -> sqlite3.Connection:
    """Return the database connection of the request, which is closed with it."""
    db = sqlite3.connect(request.registry.settings["database"])
    db.row_factory = sqlite3.Row
    request.add_finished_callback(lambda _: db.close())
    return db
