"""Guesses of media types by extension, which do not depend on the platform."""

from __future__ import annotations

import mimetypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.wsgi.headers import media_type
from fileupload.wsgi.media_types import DEFAULT_TYPE, guess_type

IMAGES = {
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "avif": "image/avif",
    "jfif": "image/jpeg",
    "tif": "image/tiff",
    "tiff": "image/tiff",
}


@pytest.mark.parametrize("extension", IMAGES)
def test_images_have_a_type_on_every_platform(extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images have their type without the system's table, in any case, and belong to the group of images."""
    monkeypatch.setattr(mimetypes, "guess_type", lambda *args, **kwargs: (None, None))
    assert guess_type(f"IMG.{extension.upper()}") == IMAGES[extension]
    for header in ("", "application/octet-stream", "Application/Octet-Stream;charset=x", "nonsense"):
        assert media_type(header, f"a.{extension}") == IMAGES[extension]
    for group in ("images", "default"):
        assert extension in RecordSettings.parse({"directory": "x", "extensions": group}).extensions


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pdf", "application/pdf"),
        ("a.unheard-of", DEFAULT_TYPE),
        ("a", DEFAULT_TYPE),
        ("", DEFAULT_TYPE),
        (".png", DEFAULT_TYPE),
        ("photo.jpg.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("data:image/png,x.exe.unheard-of", DEFAULT_TYPE),
        ("data:image/png,x", DEFAULT_TYPE),
    ],
)
def test_only_the_extension_matters(name: str, kind: str) -> None:
    """A compressed image is no image, and a name is never read as a URL."""
    assert guess_type(name) == kind


@given(st.text(max_size=30))
def test_any_name_has_a_type_of_two_words(name: str) -> None:
    """Any name gives a media type that is valid in a header."""
    kind = guess_type(name)
    assert kind.isascii()
    assert kind.count("/") == 1
    assert not set(kind) & set('\r\n;, "')
