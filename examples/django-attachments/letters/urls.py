"""The addresses of the project; those of the attachments are answered before Django sees them."""

from pathlib import Path

from django.urls import path
from django.views.static import serve

from . import views

urlpatterns = [
    path("", views.letter, name="letter"),
    path("thanks", views.thanks, name="thanks"),
    # Two small files; in production let the web server do it.
    path("static/<path:path>", serve, {"document_root": Path(__file__).parent / "static"}),
]
