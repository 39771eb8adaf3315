"""Pages that begin a session, so that several uploads at the same time belong to one session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from fileupload import SessionAttachments
from tests.support.session_client import Answer
from tests.support.wsgi_client import call, make_environ

NAVIGATION = {"HTTP_SEC_FETCH_MODE": "navigate", "HTTP_ACCEPT": "text/html,*/*;q=0.8"}
HTML = ("Content-Type", "text/html; charset=utf-8")
Get = Callable[..., Answer]


@pytest.fixture
def get(tmp_path: Path) -> Get:
    """Return a function that requests a page of an app with these headers."""

    def run(
        *headers: tuple[str, str], status: str = "200 OK", method: str = "GET", settings: Any = None, **environ: str
    ) -> Answer:
        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ.pop("fileupload")  # PEP 3333 requires a dot in such names
            start_response(status, list(headers))
            return [b"<p>page</p>"]

        site = SessionAttachments(app, directory=str(tmp_path), min_free_space=0, **(settings or {}))
        return Answer(*call(validator(site), make_environ(method, "/page", "", b"", environ)))

    return run


def test_a_page_begins_a_session(get: Get) -> None:
    """The first HTML page sets the cookie, and is marked as private; later ones do not change."""
    first = get(HTML, **NAVIGATION)
    assert first.header("Cache-Control") == "private"
    cookie = (first.header("Set-Cookie") or "").partition(";")[0]
    assert cookie.startswith("fileupload_session=")
    again = get(HTML, **NAVIGATION, HTTP_COOKIE=cookie)
    assert (again.header("Set-Cookie"), again.header("Cache-Control")) == (None, None)


def test_a_cookie_that_is_not_ours_stays(get: Get) -> None:
    """Browsers send cookies to all ports of a host: that of another application is not replaced by a page."""
    assert get(HTML, **NAVIGATION, HTTP_COOKIE="fileupload_session=another").header("Set-Cookie") is None
    assert get(HTML, **NAVIGATION, HTTP_COOKIE="other=1").header("Set-Cookie")


def test_a_browser_without_fetch_metadata_is_recognised(get: Get) -> None:
    """Older browsers tell by Accept that they want a page."""
    assert get(HTML, HTTP_ACCEPT="text/html,application/xhtml+xml").header("Set-Cookie")
    assert get(HTML, HTTP_ACCEPT="*/*").header("Set-Cookie") is None


@pytest.mark.parametrize("control", ["private, max-age=60", "no-store", "no-cache", "max-age=0", "must-revalidate"])
def test_the_apps_own_cache_control_stays(get: Get, control: str) -> None:
    """A page that no shared cache may store begins a session, with its header unchanged."""
    answer = get(HTML, ("Cache-Control", control), **NAVIGATION)
    assert answer.header("Set-Cookie")
    assert answer.header("Cache-Control") == control


@pytest.mark.parametrize(
    "header",
    [
        ("Cache-Control", "public"),
        ("Cache-Control", "max-age=60"),
        ("Cache-Control", "s-maxage=60, max-age=0"),
        ("Cache-Control", "No-Cache, PUBLIC"),
        ("Expires", "Wed, 21 Oct 2099 07:28:00 GMT"),
    ],
)
def test_a_page_for_shared_caches_begins_none(get: Get, header: tuple[str, str]) -> None:
    """A stored page would give its session to all visitors."""
    answer = get(HTML, header, **NAVIGATION)
    assert answer.header("Set-Cookie") is None
    assert answer.header(header[0]) == header[1]


def test_other_answers_begin_none(get: Get) -> None:
    """Errors, redirects, other types, scripts' requests, POSTs and other methods set no cookie."""
    json = ("Content-Type", "application/json")
    for answer in (
        get(HTML, status="404 Not Found", **NAVIGATION),
        get(HTML, status="302 Found", **NAVIGATION),
        get(json, **NAVIGATION),
        get(HTML, HTTP_SEC_FETCH_MODE="cors", HTTP_ACCEPT="text/html"),
        get(HTML, method="POST", **NAVIGATION),
    ):
        assert answer.header("Set-Cookie") is None


def test_a_setting_turns_it_off(get: Get) -> None:
    """Without session_pages, and with a session of the app, pages set no cookie."""
    assert get(HTML, settings={"session_pages": "false"}, **NAVIGATION).header("Set-Cookie") is None
    assert get(HTML, settings={"session": lambda environ: "x"}, **NAVIGATION).header("Set-Cookie") is None
