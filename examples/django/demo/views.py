"""The pages of the project."""

import json
import uuid
from pathlib import Path
from urllib.parse import urlencode

from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .csrf import csrf_protect_upload
from .models import Entry


@require_safe
def form(request: HttpRequest) -> HttpResponse:
    """Show the form, with a new identifier each time, since an identifier names one upload."""
    identifier = request.META["fileupload"].create_identifier()
    action = f"{reverse('upload')}?{urlencode({'X-Progress-ID': identifier})}"
    script = f"{reverse('upload')}/fileupload.js"
    return render(request, "demo/form.html", {"action": action, "script": script})


@require_POST
@csrf_protect_upload
def upload(request: HttpRequest) -> HttpResponse:
    """Store the file that the middleware received; the body of the request is the descriptor."""
    descriptor = json.loads(request.body)
    bucket = request.META["fileupload.bucket"]
    entry = Entry(
        title=descriptor["fields"].get("title", [descriptor["filename"]])[0][:200],
        filename=descriptor["filename"],
        size=descriptor["size"],
        sha256=descriptor["sha256"],
        file=uuid.uuid4().hex,  # never a name that a client has chosen
    )
    path = Path(entry.file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with transaction.atomic():  # the entry is committed only if the file could be moved
        entry.save()
        bucket.move_to(path)
    bucket.clear_upload()
    return redirect("entries")


@require_safe
def entries(request: HttpRequest) -> HttpResponse:
    """List the uploaded files, newest first."""
    return render(request, "demo/entries.html", {"entries": Entry.objects.all()})


@require_safe
def download(request: HttpRequest, pk: int) -> FileResponse:
    """Return a file, always as an attachment: an uploaded page must not run with the origin of this app."""
    entry = get_object_or_404(Entry, pk=pk)
    return FileResponse(
        entry.file.open("rb"),
        content_type="application/octet-stream",
        as_attachment=True,
        filename=entry.filename,
    )
