"""Settings of s3fileup: those of the pool, and its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fileupload.settings import Settings, parse_function, setting

Authorize = Callable[[dict[str, Any]], Any]

_ACL = re.compile(r"(?:[a-z]+(?:-[a-z]+)*)?", re.ASCII)


def _callback_url(value: object) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if text and not (parts.scheme in {"http", "https"} and parts.hostname and not parts.fragment):
        raise ValueError("a URL such as https://app.example.com/uploaded")
    return text


def _acl(value: object) -> str:
    if not _ACL.fullmatch(text := str(value).strip()):
        raise ValueError("a canned ACL such as private or public-read")
    return text


@dataclass(frozen=True, kw_only=True)
class S3FileupSettings(Settings):
    """Settings of s3fileup, converted: sizes in bytes, times in seconds."""

    authorize: Authorize | None = setting(  # noqa: RUF009 (a function is as immutable as the others)
        parse_function,
        None,
        "Function of the WSGI environ that is true if the request may upload, as package.module:function; "
        "empty: REMOTE_USER must be set.",
    )
    callback_url: str = setting(
        _callback_url, "", "URL of a webhook that receives the descriptor of each finished upload; empty: no webhook."
    )
    acl: str = setting(_acl, "", "Canned ACL of the files in an object store; empty: no ACL is sent.")
