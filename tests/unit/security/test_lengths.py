"""Invalid lengths, transfer codings and content encodings: refused before the body is read."""

from __future__ import annotations

import threading

import pytest

from tests.support.wsgi_client import FORM_TYPE, Stream, UploadSite, file_part, form

NO_LENGTHS = [
    "-1",
    "+5",
    "5_0",
    " 5",
    "5 ",
    "٣",
    "\u0663".encode().decode("latin-1"),
    "1" * 20,
    "0x10",
    "5,5",
    "1e3",
]


class Blocking:
    """A ``wsgi.input`` on which a read without a limit would block for ever, as on three servers."""

    def __init__(self) -> None:
        self.touched = threading.Event()

    def read(self, size: int = -1) -> bytes:
        self.touched.set()
        raise AssertionError("the body was read")


def send_unchecked(site: UploadSite, method: str, stream: object, **environ: object) -> int:
    """Send a request that the WSGI validator would reject, and return the status."""
    site.as_server = site.middleware
    query = f"X-Progress-ID={site.identifier()}"
    return site.send(method, "/upload", query, stream, CONTENT_TYPE=FORM_TYPE, **environ).status  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("length", NO_LENGTHS)
def test_an_invalid_length_is_refused_unread(site: UploadSite, method: str, length: str) -> None:
    """An invalid length gets 400 unread (python-multipart GHSA-v9pg-7xvm-68hf, filebrowser GHSA-ffx7-75gc-jg7c)."""
    stream = Blocking()
    assert send_unchecked(site, method, stream, CONTENT_LENGTH=length) == 400
    assert not stream.touched.is_set()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_length_beside_a_transfer_encoding_is_refused_unread(site: UploadSite, method: str) -> None:
    """A length with a transfer coding is refused, though some servers pass both (gunicorn CVE-2024-1135)."""
    stream = Blocking()
    for coding in ("chunked", "identity", "gzip"):
        assert send_unchecked(site, method, stream, CONTENT_LENGTH="5", HTTP_TRANSFER_ENCODING=coding) == 400
    assert not stream.touched.is_set()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_without_an_end_is_refused_unread(site: UploadSite, method: str) -> None:
    """A body without a length or a marked end gets 411, since wsgiref passes raw chunks and blocks."""
    stream = Blocking()
    environ = {"CONTENT_LENGTH": None, "wsgi.input_terminated": None, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert send_unchecked(site, method, stream, **environ) == 411
    assert send_unchecked(site, method, stream, **{**environ, "CONTENT_LENGTH": ""}) == 411
    assert not stream.touched.is_set()


def test_a_bomb_is_refused_unread(site: UploadSite) -> None:
    """A compressed body is neither decompressed nor read (aiohttp CVE-2025-69223)."""
    stream = Blocking()
    for coding in ("gzip", "br", "zstd", "deflate", "identity, gzip", "GZIP"):
        assert send_unchecked(site, "PUT", stream, CONTENT_LENGTH="5", HTTP_CONTENT_ENCODING=coding) == 415
    assert not stream.touched.is_set()


def test_no_byte_behind_the_body_is_read(site: UploadSite) -> None:
    """The body is not read past its end, where a second request on the connection may follow."""
    body = form(file_part(b"x"))
    for drained in (body, body[:20]):
        stream = Stream([drained + b"POST /upload HTTP/1.1\r\n"])
        site.post(stream, CONTENT_LENGTH=str(len(drained)))
        assert sum(stream.asked[:2]) == len(drained)  # the first byte, and the others
        assert stream.read(5) == b"POST "
