"""Session attachments in the session of a real Django with logins, on gunicorn: they end with its logout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from fileupload.deploy import make_manager
from fileupload.settings import Settings
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE

pytest.importorskip("django")
pytest.importorskip("gunicorn")

SETTINGS = """
from pathlib import Path
DATA = Path(__file__).parent
SECRET_KEY = "a secret of the tests"
ALLOWED_HOSTS = ["127.0.0.1"]
SESSION_ENGINE = "django.contrib.sessions.backends.{engine}"
SESSION_FILE_PATH = DATA
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "db.sqlite3"}}}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "fileupload.apps.session_attachments.django.middleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "project.urls"
"""
URLS = """
from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse, JsonResponse
from django.urls import path

def page(request):
    return HttpResponse("<p>page</p>")

def enter(request):
    login(request, authenticate(request, username=request.GET["user"], password="secret"))
    return HttpResponse("in")

def leave(request):
    logout(request)
    return HttpResponse("out")

def names(request):
    bundle = request.META["fileupload.attachments"].bundle("letter")
    return JsonResponse([each.name for each in bundle], safe=False)

urlpatterns = [path("", page), path("login", enter), path("logout", leave), path("names", names)]
"""
WSGI = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
from django.core.wsgi import get_wsgi_application
from fileupload import SessionAttachments
application = SessionAttachments(
    get_wsgi_application(),
    directory="pool",
    min_free_space=0,
    session="fileupload.apps.session_attachments.django:session",
)
"""
PREPARE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
for name in ("anna", "ben"):
    User.objects.create_user(name, password="secret")
"""
PAGE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
BUNDLE = "/attachments/letter/"


@dataclass(frozen=True)
class DjangoSite:
    """A running Django project."""

    url: str
    folder: Path

    def buckets(self) -> int:
        """Return the number of stored uploads."""
        pool = make_manager(Settings.parse({"directory": str(self.folder / "pool")})).pool
        return len(list(pool.buckets()))


class Visitor:
    """A client with a cookie jar."""

    def __init__(self, site: DjangoSite) -> None:
        self._site = site
        self.http = requests.Session()
        self.http.trust_env = False

    def get(self, path: str) -> requests.Response:
        return self.http.get(self._site.url + path, headers=PAGE, timeout=PATIENCE)

    def put(self, name: str) -> int:
        """Attach a file; return the status of the answer."""
        address = f"{self._site.url}{BUNDLE}{name}/"
        return self.http.put(address, data=name.encode(), timeout=PATIENCE).status_code

    def names(self) -> list[str]:
        """Return the names of the attachments, which a view of Django must see as well."""
        listed = [each["name"] for each in self.get(BUNDLE).json()]
        assert self.get("/names").json() == listed
        return listed


@pytest.fixture(scope="module", params=["db", "file", "signed_cookies"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoSite]:
    """Run the project on gunicorn, with each kind of session engine."""
    folder = tmp_path_factory.mktemp("django")
    package = folder / "project"
    package.mkdir()
    texts = {"__init__": "", "settings": SETTINGS.format(engine=request.param), "urls": URLS, "wsgi": WSGI}
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    environ = {**os.environ, "HOME": str(folder)}
    subprocess.run([sys.executable, "-c", PREPARE], cwd=folder, env=environ, check=True, timeout=PATIENCE)
    log = folder / "log"
    options = ("--threads", "4", "--bind", "127.0.0.1:0", "project.wsgi")
    process = start_group([sys.executable, "-m", "gunicorn", *options], log, cwd=folder, env=environ)
    try:
        (url,) = wait_for_line(process, log, r"(http://127\.0\.0\.1:[1-9]\d*)")
        yield DjangoSite(url, folder)
    finally:
        stop_group(process)
    assert not re.search(r"Traceback|Internal Server Error", log.read_text()), log.read_text()


def test_attachments_end_with_the_logout(site: DjangoSite) -> None:
    """After a login they are there, after the logout they are removed, and no cookie of before reaches others."""
    visitor = Visitor(site)
    visitor.get("/login?user=anna")
    assert visitor.put("a.txt") == 200
    assert visitor.names() == ["a.txt"]
    thief = Visitor(site)
    thief.http.cookies.update(visitor.http.cookies)
    assert thief.names() == ["a.txt"]
    visitor.get("/logout")
    assert visitor.get("/").status_code == 200
    assert visitor.names() == []
    assert visitor.get(f"{BUNDLE}a.txt/").status_code == 404
    assert thief.get(f"{BUNDLE}a.txt/").status_code in {403, 404}
    assert site.buckets() == 0


def test_attachments_survive_the_login(site: DjangoSite) -> None:
    """What a visitor has attached before the login belongs to the user after it, although the session key changes."""
    visitor = Visitor(site)
    visitor.get("/")
    assert visitor.put("before.txt") == 200
    before = visitor.http.cookies["sessionid"]
    visitor.get("/login?user=anna")
    assert visitor.http.cookies["sessionid"] != before
    assert visitor.put("after.txt") == 200
    assert visitor.names() == ["before.txt", "after.txt"]
    visitor.get("/logout")
    assert site.buckets() == 0


def test_another_user_does_not_inherit_them(site: DjangoSite) -> None:
    """If another user logs in without a logout in between, Django flushes the session, and the attachments end."""
    visitor = Visitor(site)
    visitor.get("/login?user=anna")
    assert visitor.put("a.txt") == 200
    visitor.get("/login?user=ben")
    visitor.get("/")
    assert visitor.names() == []


def test_a_client_without_a_session_is_refused(site: DjangoSite) -> None:
    """Without a page of Django before, the answer is 403, and says that a session is needed."""
    visitor = Visitor(site)
    for cookie in ({}, {"sessionid": "forged"}):
        visitor.http.cookies.update(cookie)
        assert visitor.put("a.txt") == 403
        answer = visitor.http.get(site.url + BUNDLE, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["code"]) == (403, "no-session")


def test_only_pages_begin_a_session(site: DjangoSite) -> None:
    """A request of a script, whose view does not use the attachments, sets no cookie."""
    visitor = Visitor(site)
    answer = visitor.http.get(site.url, headers={"Sec-Fetch-Mode": "cors"}, timeout=PATIENCE)
    assert "Set-Cookie" not in answer.headers
    assert "Set-Cookie" in visitor.get("/").headers
    assert set(visitor.http.cookies.keys()) == {"sessionid"}
