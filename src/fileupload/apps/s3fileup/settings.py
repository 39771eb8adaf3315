"""The settings of the app: those of the pool and of uploads, and its own."""

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
        raise ValueError("an address such as https://app.example.com/uploaded")
    return text


def _acl(value: object) -> str:
    if not _ACL.fullmatch(text := str(value).strip()):
        raise ValueError("a canned ACL such as private or public-read")
    return text


@dataclass(frozen=True, kw_only=True)
class S3FileupSettings(Settings):
    """All settings of the app, converted."""

    authorize: Authorize | None = setting(  # noqa: RUF009 (a function is as immutable as the others)
        parse_function, None, "Tells from the environ who may upload, as package.module:function; empty: REMOTE_USER."
    )
    callback_url: str = setting(_callback_url, "", "Gets the descriptor of each complete upload; empty: nobody does.")
    acl: str = setting(_acl, "", "The canned ACL of the files in an object store; empty: none.")
