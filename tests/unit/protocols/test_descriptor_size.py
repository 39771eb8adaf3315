"""The size of the descriptor: text is written in UTF-8, and so passes the limits of applications."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fileupload import UploadMiddleware
from fileupload.status import State, UploadStatus
from tests.support.wsgi_client import FORM_TYPE, UploadSite, call, field_part, file_part, form, make_environ

CYRILLIC = "Ж" * 450_000  # 900,000 bytes in UTF-8, and 2,700,000 escaped to ASCII
DJANGO_LIMIT = 2_621_440  # Django's DATA_UPLOAD_MAX_MEMORY_SIZE, 2.5 MB


def test_the_descriptor_is_in_utf_8(site: UploadSite) -> None:
    """Neither the body that the app gets, nor the status, nor the stored record escapes text to ASCII."""
    identifier, text = site.identifier(), "Ж" * 10_000
    answer = site.post(form(field_part("text", text), file_part("x", "ж.txt")), identifier)
    stored = (site.directory / identifier[:2] / identifier[:32] / "status.json").read_bytes()
    shown = site.send("GET", "/upload/status", f"X-Progress-ID={identifier}").body
    for data in (answer.body, stored, shown):
        assert text.encode() in data
        assert "ж.txt".encode() in data
        assert len(data) < len(text.encode()) + 1500
    assert site.status(identifier)["fields"] == {"text": [text]}


def test_a_record_with_a_lone_surrogate_is_stored() -> None:
    """A text that has no form in UTF-8 is escaped, and read back as it was."""
    status = UploadStatus(state=State.STARTING, filename="a\ud800b")
    assert UploadStatus.from_stored(status.to_stored()).filename == "a\ud800b"


def test_a_long_text_passes_the_limit_of_django(tmp_path: Path) -> None:
    """900,000 bytes of Cyrillic text in a field reach a view of Django, whose limit of a body is 2.5 MB."""
    view = tmp_path / "project.py"
    view.write_text(DJANGO_PROJECT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(view), str(tmp_path / "pool")],
        input=form(field_part("text", CYRILLIC), file_part("x", "ж.txt")),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == f"200 {len(CYRILLIC)}", done.stderr.decode()[-2000:]


# Settings of Django hold for a whole process, so the project has its own.
DJANGO_PROJECT = f"""
import io, json, sys

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from fileupload import UploadMiddleware


def received(request):
    return HttpResponse(str(len(json.loads(request.body)["fields"]["text"][0])))


urlpatterns = [path("upload", received)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE == {DJANGO_LIMIT}
middleware = UploadMiddleware(get_wsgi_application(), directory=sys.argv[1], durable=False, min_free_space=0)
body = sys.stdin.buffer.read()
environ = {{
    "REQUEST_METHOD": "POST", "PATH_INFO": "/upload", "SCRIPT_NAME": "", "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.input": io.BytesIO(body),
    "QUERY_STRING": "X-Progress-ID=" + middleware.manager.create_identifier(),
    "CONTENT_TYPE": {FORM_TYPE!r}, "CONTENT_LENGTH": str(len(body)),
}}
codes = []
answer = b"".join(middleware(environ, lambda status, headers, exc_info=None: codes.append(status[:3])))
sys.stdout.write(codes[0] + " " + answer.decode())
"""


def test_the_largest_descriptor(tmp_path: Path) -> None:
    """No form passes the bound that docs/deployment.txt states; this one comes near it."""
    limits = {"max_fields": 3, "max_files": 2, "max_fields_size": 3000, "max_header_size": 300}
    seen: list[int] = []

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        seen.append(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [])
        return [b""]

    middleware = UploadMiddleware(app, directory=str(tmp_path), durable=False, min_free_space=0, **limits)
    name = "\x01" * 240
    parts = [
        *(field_part(name + str(number), "\x00" * 1000) for number in range(3)),
        *(file_part("x", "f" * 100, name[:120] + str(number)) for number in range(2)),
    ]
    query = f"X-Progress-ID={middleware.manager.create_identifier()}"
    environ = make_environ("POST", "/upload", query, form(*parts), {"CONTENT_TYPE": FORM_TYPE})
    assert call(middleware, environ)[0] == 200
    text = limits["max_fields_size"] + (limits["max_fields"] + limits["max_files"] + 1) * limits["max_header_size"]
    bound = 6 * text + 500 * (limits["max_files"] + 2)
    assert 0.7 * bound < seen[0] <= bound
