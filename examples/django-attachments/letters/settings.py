"""Settings of the project, as ``startproject`` makes them, without what is not used here."""

import os
from pathlib import Path

import django

from .secret import read_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

DATA = BASE_DIR / "var"
DATA.mkdir(mode=0o700, exist_ok=True)

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or read_secret_key(DATA / "secret_key")
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1 localhost").split()

# Settings of the attachments, which wsgi.py puts in front of Django. Sizes are in megabytes.
ATTACHMENTS_PATH = "/attachments"
ATTACHMENTS_POOL = DATA / "pool"
ATTACHMENTS_MAX_FILE_SIZE = 10
ATTACHMENTS_MAX_BUNDLE_SIZE = 20
ATTACHMENTS_MAX_BUNDLE_FILES = 20

# Letters are sent to a mail server or, for development, to var/mail.
MAIL_HOST = os.environ.get("DJANGO_EMAIL_HOST", "")
MAIL_PORT = int(os.environ.get("DJANGO_EMAIL_PORT", "25"))
MAIL_BACKEND = f"django.core.mail.backends.{'smtp' if MAIL_HOST else 'filebased'}.EmailBackend"
MAIL_FOLDER = DATA / "mail"
if django.VERSION >= (6, 1):
    MAIL_OPTIONS = {"host": MAIL_HOST, "port": MAIL_PORT, "timeout": 30} if MAIL_HOST else {"file_path": MAIL_FOLDER}
    MAILERS = {"default": {"BACKEND": MAIL_BACKEND, "OPTIONS": MAIL_OPTIONS}}
else:
    EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = MAIL_BACKEND, MAIL_HOST, MAIL_PORT, 30
    EMAIL_FILE_PATH = MAIL_FOLDER
DEFAULT_FROM_EMAIL = "letters@example.com"
LETTERS_TO = "office@example.com"

# The attachments belong to the session of Django, and end with it. Sessions in files need no database.
SESSION_ENGINE = "django.contrib.sessions.backends.file"
SESSION_FILE_PATH = DATA / "sessions"
SESSION_FILE_PATH.mkdir(mode=0o700, exist_ok=True)

INSTALLED_APPS = ["django.contrib.sessions", "letters"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "letters.policy.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "fileupload.apps.session_attachments.django.middleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

FILE_UPLOAD_HANDLERS = [
    "letters.limits.LimitFiles",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

ROOT_URLCONF = "letters.urls"
WSGI_APPLICATION = "letters.wsgi.application"  # so that runserver has the attachments too

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
