"""Every way to upload, through nginx with TLS and HTTP/2, configured as docs/deployment.txt says."""

from __future__ import annotations

import hashlib
import html
import os
import re
import subprocess
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.integration.proxy.conftest import OpenSite, Site, wait_for_status
from tests.support.waiting import PATIENCE

CONTENT = os.urandom(6 << 20)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
BROWSER = ("-H", "Accept: text/html")
FORGED = [
    option
    for header in (
        "X-Forwarded-For: 198.51.100.66",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 666",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=198.51.100.66;host=evil.example;proto=http",
    )
    for option in ("-H", header)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a ü.bin"
    path.write_bytes(CONTENT)
    return path


def new_identifier(site: Site) -> str:
    answer = site.curl("upload/identifier", "-X", "POST", "-H", "Accept: text/plain")
    assert answer.status == 201
    return answer.body.decode().removesuffix("\n")


def test_a_form_is_stored_over_http_2(site: Site, file: Path) -> None:
    """A form is stored, over HTTP/2, and the answer has the identifier that the upload got."""
    answer = site.curl("upload", "-F", f"file=@{file}")
    assert (answer.version, answer.status, answer.json["sha256"]) == ("2", 200, DIGEST)
    identifier = answer.headers["x-progress-id"]
    assert site.curl(f"upload/status?X-Progress-ID={identifier}").json["state"] == "done"


def test_a_plain_body_is_stored_under_its_name(site: Site, file: Path) -> None:
    """A plain body is stored under its name."""
    answer = site.curl(f"upload?X-Progress-ID={new_identifier(site)}&filename=b.bin", "-T", str(file))
    assert (answer.version, answer.status) == ("2", 200)
    assert (answer.json["filename"], answer.json["sha256"]) == ("b.bin", DIGEST)


@pytest.mark.parametrize("forged", [[], FORGED], ids=["plain", "forged"])
def test_part_urls_have_the_address_of_the_proxy(site: Site, forged: list[str]) -> None:
    """The URLs of the parts have the scheme, port and prefix of the proxy, whatever a client writes in its headers."""
    wish = f'{{"filename": "a.bin", "size": {len(CONTENT)}}}'
    offer = site.curl("upload/direct", "--json", wish, *forged).json
    for part in offer["parts"]:
        assert part["url"].startswith(f"{site.url}upload/direct/part?ticket=")
        content = CONTENT[part["offset"] :][: part["size"]]
        stored = site.curl(part["url"], "-X", "PUT", "--data-binary", "@-", "-H", "Content-Type:", data=content)
        assert (stored.version, stored.status) == ("2", 200)
    query = f"X-Progress-ID={offer['identifier']}"
    renewed = site.curl(f"upload/direct?{query}").json
    assert all(part["url"].startswith(site.url) and "etag" in part for part in renewed["parts"])
    done = site.curl(f"upload/direct/complete?{query}", "--json", "{}")
    assert (done.status, done.json["sha256"]) == (200, DIGEST)


def test_a_direct_form_is_posted_to_the_address_of_the_proxy(site: Site, file: Path) -> None:
    """A form for one file goes to the proxy's address, which is also the Location of the answer."""
    offer = site.curl("upload/direct", "--json", f'{{"filename": "a", "size": {len(CONTENT)}, "method": "POST"}}').json
    answer = site.curl(offer["url"], "-F", f"file=@{file}")
    assert (answer.status, answer.headers["location"]) == (201, f"{site.url}upload/direct/part")


def test_the_status_shows_progress_during_an_upload(site: Site) -> None:
    """nginx passes on each piece when it arrives: the status has it while the client has not sent the rest."""
    identifier = new_identifier(site)
    target = f"upload?X-Progress-ID={identifier}"
    options = ["-X", "PUT", "-T", "-", "-H", f"Content-Length: {len(CONTENT)}"]
    with subprocess.Popen(site.command(target, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        assert curl.stdin is not None
        curl.stdin.write(CONTENT[: 3 << 20])
        curl.stdin.flush()
        running = wait_for_status(site, identifier, lambda status: status.get("received", 0) > 0)
        assert (running["state"], running["size"]) == ("uploading", len(CONTENT))
        told, _ = curl.communicate(CONTENT[3 << 20 :], PATIENCE)
    assert f'"sha256": "{DIGEST}"'.encode() in told


def test_an_upload_above_the_limit_gets_the_servers_message(site: Site, tmp_path: Path) -> None:
    """The client gets the sentence of the server, not a page of nginx or a broken connection."""
    path = tmp_path / "large"
    path.write_bytes(bytes(17 << 20))
    for options in (("-F", f"file=@{path}"), ("-T", str(path))):
        answer = site.curl("upload", *options)
        assert (answer.status, answer.json["code"]) == (413, "too-large")


def test_the_page_and_its_form_are_below_the_prefix(site: Site, file: Path) -> None:
    """The page, its files, its form and the page of the result are below the prefix."""
    page = site.curl("", *BROWSER)
    assert page.status == 200
    text = page.body.decode()
    linked = [urljoin(site.url, address) for address in re.findall(r'(?:src|href)="([^"#:]+\.(?:css|js))"', text)]
    found = re.search(r'<form[^>]* action="([^"]*)"', text)
    assert found is not None
    action = urljoin(site.url, html.unescape(found[1]))
    result = site.curl(action, "-F", f"file=@{file}", *BROWSER)
    assert result.status == 200
    more = re.findall(r'href="([^"]*)"', result.body.decode())
    linked += [urljoin(action, address) for address in more if not address.startswith("data:")]
    assert len(linked) == 5
    for url in linked:
        assert url.startswith(site.url)
        assert site.curl(url).status == 200


def test_the_session_cookie_and_the_csrf_check_use_the_proxys_address(site: Site, file: Path) -> None:
    """The cookie is Secure and limited to the prefix; only pages of the proxy's address may send files."""
    answer = site.curl("attachments/letter/", "-F", f"file=@{file}", "-H", f"Origin: {site.proxy.origin}")
    assert answer.status == 200
    cookie: SimpleCookie = SimpleCookie(answer.headers["set-cookie"])
    morsel = cookie["fileupload_session"]
    assert (morsel["secure"], morsel["path"]) == (True, site.prefix.removesuffix("/") or "/")
    for origin in (site.proxy.origin.replace("https", "http"), "https://localhost", "https://evil.example", "null"):
        refused = site.curl("attachments/letter/", "-F", f"file=@{file}", "-H", f"Origin: {origin}")
        assert (refused.status, refused.json["code"]) == (403, "origin-not-allowed")
    forged = site.curl("attachments/letter/", "-F", f"file=@{file}", "-H", "Origin: http://evil.example", *FORGED)
    assert forged.status == 403


def test_s3fileup_urls_have_the_address_of_the_proxy(open_site: OpenSite, file: Path) -> None:
    """The URLs for sending and reading a file have the scheme, port and prefix of the proxy."""
    site = open_site("s3fileup", prefixed=True)
    offer = site.curl(f"s3put/?s3_object_name=a.bin&s3_object_type=&s3_object_size={len(CONTENT)}").json
    assert offer["url"].startswith(f"{site.url}part?ticket=")
    assert site.curl(offer["url"], "-T", str(file)).status == 200
    link = site.curl("s3get/", "--json", f'{{"key": "{offer["key"]}"}}').json["url"]
    assert link.startswith(f"{site.url}file?ticket=")
    assert site.curl(link).body == CONTENT


def test_the_public_url_replaces_the_headers(open_site: OpenSite) -> None:
    """With public_url, and no trusted proxy, the addresses are those of the setting."""
    site = open_site(prefixed=True, settings="trusted_proxies =\npublic_url = https://cdn.example.com/in")
    offer = site.curl("upload/direct", "--json", '{"filename": "a", "size": 1}').json
    assert offer["url"].startswith("https://cdn.example.com/in/upload/direct/part?ticket=")
    answer = site.curl(
        "attachments/letter/?filename=a", "-X", "PUT", "-d", "x", "-H", "Origin: https://cdn.example.com"
    )
    assert answer.status == 200
    assert "Path=/in;" in answer.headers["set-cookie"]
    assert "secure" in answer.headers["set-cookie"].lower()
