"""Requests as real clients send them, and their results.

A request in ``corpus`` is its request line, its headers and its body, as they are transmitted. They were written
for these tests, following the documentation and behaviour of the clients that they are named after.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.support.wsgi_client import NOTHING, ONLY_STATUS, Answer, Stream, UploadSite, in_steps

CORPUS = Path(__file__).parent / "corpus"
TEXT = b"first line\r\nsecond line\n"
BINARY = bytes([0, 255, 13, 10, 45, 45, 254, 26, 10])

File = tuple[str, str, str, bytes]
OCTETS, PLAIN = "application/octet-stream", "text/plain"

DONE: dict[str, tuple[list[File], dict[str, list[str]]]] = {
    "chromium": (
        [("file", 'say "hi" ☃.txt', PLAIN, TEXT), ("file", "raw.bin", OCTETS, BINARY)],
        {"title": ["Grüße \U0001f4be"]},
    ),
    "chromium-newline-in-field": ([("file", "ab.txt", PLAIN, b"x")], {"two\r\nlines": ["a\r\nb\r\n"]}),
    "firefox": ([("file", 'Übersicht "1".pdf', "application/pdf", BINARY)], {"note": ["naïve"]}),
    "firefox-before-2023": ([("file", "a.png", "image/png", BINARY)], {}),
    "safari": (
        [("file", unicodedata.normalize("NFD", "Résumé.heic"), "image/heic", BINARY)],
        {"empty": [""]},
    ),
    "curl": ([("file", 'a "b".txt', PLAIN, TEXT), ("data", "-", OCTETS, BINARY)], {"title": ["from curl"]}),
    # The name was `a "b" \ c.txt`; the part before a backslash is a folder.
    "curl-before-7.81": ([("file", " c.txt", PLAIN, TEXT)], {}),
    "curl-put": ([("", "disc.iso", "application/x-iso9660-image", BINARY)], {}),
    "wget-put": ([("", "report.pdf", "application/pdf", BINARY)], {}),
    "chromium-no-file": ([], {"title": [""]}),
    # A name that is given by `name*` only, and a filename that is given by `filename*` only.
    "requests-urllib3-1.24": ([("file", "plain.txt", PLAIN, TEXT), ("ä", "b.txt", PLAIN, b"x")], {}),
    "requests-urllib3-1.24-unicode": ([("file", "näme.txt", PLAIN, TEXT)], {}),
    "requests-urllib3-2": ([("file", "näme.txt", PLAIN, TEXT)], {"title": ["x"]}),
    "go": ([("file", 'a "b" ü.txt', PLAIN, TEXT)], {"title": ["gopher"]}),
    "okhttp": ([("file", "IMG_0001.jpg", "image/jpeg", BINARY)], {"title": ["square"]}),
    "okhttp-text-part": ([("file", "ü.txt", PLAIN, TEXT)], {"meta": ['{"a":1}']}),
    "node-form-data": ([("file", "package.json", "application/json", b"{}\n")], {"title": ["axios"]}),
    "axios-fetch": ([("file", "a.bin", OCTETS, BINARY)], {"title": ["axios"]}),
    "apache-httpclient-4": ([("file", "report.doc", "application/msword", BINARY)], {"title": ["Grüße"]}),
    "apache-httpclient-5": ([("file", "übung.txt", PLAIN, TEXT)], {"title": ["Grüße"]}),
    "dotnet": (
        [("file", "a.pdf", "application/pdf", BINARY), ("file", "two words.txt", PLAIN, TEXT)],
        {"title": ["Grüße"]},
    ),
    # RFC 7578, 4.2: filename* has no meaning beside filename, which is an encoded word (RFC 2047).
    "dotnet-unicode": ([("file", "übung.txt", PLAIN, TEXT)], {}),
    "guzzle": ([("file", "a.php", "application/x-php", BINARY)], {"title": ["guzzle"]}),
    "ie-8": (
        [("file", "new notes.txt", PLAIN, TEXT), ("file", "scan.pjpeg", "image/pjpeg", BINARY)],
        {"title": ["x"]},
    ),
    "postman": (
        [
            ("file", "Screenshot 2026-01-01.png", "image/png", BINARY),
            ("attributes", "blob", "application/json", b"{}"),
        ],
        {"title": ["postman"]},
    ),
    "ruby-multipart-post": ([("file", "a.rb", "application/x-ruby", BINARY)], {"title": ["ruby"]}),
    # Percent-encoded names are kept as they are: the HTML standard gives only %22, %0D and %0A a meaning.
    "aiohttp": ([("file", "n%C3%A4me.bin", OCTETS, BINARY)], {"title": ["async"]}),
    "flash": (
        [("Filedata", "photo.jpg", "image/jpeg", BINARY)],
        {"Filename": ["photo.jpg"], "Upload": ["Submit Query"]},
    ),
    "mail-like": ([("file", "a.txt", PLAIN, TEXT)], {}),
}

REFUSED: dict[str, tuple[int, str]] = {
    "wget-post-file": (415, "unsupported-request"),
    "opera-mini-line-feeds": (400, "malformed-form"),
}


def send(site: UploadSite, name: str, identifier: str, step: int | None) -> Answer:
    head, _, body = (CORPUS / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    method, address, _ = line.split()
    path, _, query = address.partition("?")
    environ: dict[str, Any] = {}
    for header in headers:
        key, _, value = header.partition(": ")
        key = key.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    assert environ["CONTENT_LENGTH"] == str(len(body))
    stream = Stream(in_steps(body, step or len(body)))
    return site.send(method, path, f"X-Progress-ID={identifier}&{query}", stream, **environ)


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("name", DONE)
def test_requests_of_real_clients_are_received(site: UploadSite, name: str, step: int | None) -> None:
    """The files and fields of each client are received as its user meant them, also byte by byte."""
    identifier = site.identifier()
    found = send(site, name, identifier, step).json
    files, fields = DONE[name]
    kept = [(file["field"], file["filename"], file["content-type"]) for file in found["files"]]
    assert kept == [file[:3] for file in files]
    assert site.contents(identifier) == [file[3] for file in files]
    assert found["fields"] == fields


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_invalid_requests_of_real_clients_are_refused(site: UploadSite, name: str, step: int | None) -> None:
    """Requests without a file and bodies that are no form are refused with their error code."""
    identifier = site.identifier()
    assert send(site, name, identifier, step).outcome == REFUSED[name]
    # A form of another type is refused before its first byte.
    assert site.names(identifier) == (NOTHING if REFUSED[name][0] == 415 else ONLY_STATUS)


def test_every_file_of_the_corpus_is_tested() -> None:
    """Every file of the corpus is tested."""
    assert {path.stem for path in CORPUS.glob("*.http")} == DONE.keys() | REFUSED.keys()
