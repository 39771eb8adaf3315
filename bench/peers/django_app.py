"""Django: ``TemporaryFileUploadHandler`` writes directly to the storage, so that the view only renames the file."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from bench.peers.storage import DIRECTORY, new_path


class Handler(TemporaryFileUploadHandler):  # type: ignore[misc]
    """Django's handler, with chunks of the size that suits the server."""

    chunk_size = int(os.environ.get("BENCH_READ_SIZE", "65536"))


def upload(request: WSGIRequest) -> HttpResponse:
    """Store the file."""
    file = request.FILES["file"]
    assert isinstance(file, TemporaryUploadedFile)
    stored = new_path()
    os.link(file.temporary_file_path(), stored)  # closing the file removes its temporary name
    return HttpResponse(f"{file.size}\n", content_type="text/plain")


settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for measuring only",
    ROOT_URLCONF=__name__,
    FILE_UPLOAD_HANDLERS=[f"{__name__}.Handler"],
    FILE_UPLOAD_TEMP_DIR=DIRECTORY,
)
urlpatterns = [path("", upload)]
app = get_wsgi_application()
