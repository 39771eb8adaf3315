"""Flask: ``request.files`` and ``save()``, with larger copies than its default of 16 KiB."""

from __future__ import annotations

import os

from flask import Flask, request

from bench.peers.storage import new_path

app = Flask(__name__)


@app.post("/")
def upload() -> str:
    """Store the file."""
    path = new_path()
    request.files["file"].save(path, buffer_size=1 << 20)
    return f"{os.path.getsize(path)}\n"
