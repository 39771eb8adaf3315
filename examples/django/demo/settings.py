"""Settings of the project, as ``startproject`` makes them, without what is not used here."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DATA = BASE_DIR / "var"
DATA.mkdir(exist_ok=True)

# For development. In production, set the key and the hosts, and turn DEBUG off.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "not secret, only for trying out")
DEBUG = True
ALLOWED_HOSTS: list[str] = []

# For the middleware, which wsgi.py puts in front of Django.
UPLOAD_POOL = DATA / "pool"  # where uploads arrive
UPLOAD_MAX_SIZE = 1000  # megabytes

MEDIA_ROOT = DATA / "files"  # where the project keeps them

INSTALLED_APPS = ["demo", "django.contrib.staticfiles"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"  # so that runserver has the middleware too

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
