"""The addresses of the project."""

from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path

from . import views

urlpatterns = [
    path("", views.form, name="form"),
    path("upload", views.upload, name="upload"),
    path("entries", views.entries, name="entries"),
    path("entries/<int:pk>/file", views.download, name="download"),
    *staticfiles_urlpatterns(),  # while DEBUG is on; in production let the web server do it
]
