"""Rotation of keys: a running app signs everything with the current key of its pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from fileupload.deploy import S3Fileup, SessionAttachments
from fileupload.identifiers import Identifiers
from fileupload.protocols.direct.upload_tokens import TokenSigner
from tests.support.s3fileup_site import KEY, Application
from tests.support.wsgi_client import call, make_environ


def ask(app: Any, method: str, path: str, content: bytes = b"", **query: str) -> Any:
    """Send a request; return the JSON of its answer, if it has any."""
    status, headers, body = call(app, make_environ(method, path, urlencode(query), content, {}))
    assert status == 200, body
    return json.loads(body) if body else headers


def replace_key(pool: Path) -> None:
    """Replace the pool's key by the one that the application has."""
    (pool / "new").write_text(KEY)
    (pool / "new").rename(pool / ".upload_key")


def token_in(url: str) -> str:
    """Return the ticket in an address."""
    return parse_qs(urlsplit(url).query)["ticket"][0]


def test_everything_is_signed_with_the_current_key(tmp_path: Path, application: Application) -> None:
    """Addresses of parts and of files, identifiers, and webhooks are signed with the current key."""
    app = S3Fileup(directory=str(tmp_path / "pool"), anonymous=True, min_free_space=0, callback_url=application.url)
    replace_key(tmp_path / "pool")
    offered = ask(app, "GET", "/s3put/", s3_object_name="a", s3_object_size="1")
    assert Identifiers([KEY]).verify(offered["key"])
    assert TokenSigner([KEY]).read(token_in(offered["url"])).number == 1
    ask(app, "PUT", "/part", b"x", ticket=token_in(offered["url"]))
    link = ask(app, "GET", "/s3get/", key=offered["key"])["url"]
    assert TokenSigner([KEY], b"file").read(token_in(link))
    assert application.delivered_keys == [offered["key"]]


def test_a_session_cookie_is_signed_with_the_current_key(tmp_path: Path) -> None:
    """A session cookie is signed with the current key too: a process with only that key finds its attachments."""
    given: dict[str, Any] = {"directory": str(tmp_path / "pool"), "min_free_space": 0}
    running = SessionAttachments(**given)
    replace_key(tmp_path / "pool")
    environ = make_environ("PUT", "/attachments/letter/a.txt/", "", b"x", {})
    status, headers, _ = call(running, environ)
    assert status == 200
    cookie = dict(headers)["Set-Cookie"].partition(";")[0]
    environ = make_environ("GET", "/attachments/letter/", "", b"", {"HTTP_COOKIE": cookie})
    _, _, body = call(SessionAttachments(upload_key=KEY, **given), environ)
    assert [each["name"] for each in json.loads(body)] == ["a.txt"]
