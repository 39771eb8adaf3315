"""The settings of session attachments: those of the pool and of uploads, and their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fileupload.settings import (
    Settings,
    parse_count,
    parse_days,
    parse_function,
    parse_megabytes,
    parse_origins,
    parse_path,
    setting,
)

FindSession = Callable[[dict[str, Any]], str | None]

_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)  # RFC 6265, 4.1.1


def _cookie_name(value: object) -> str:
    if not _COOKIE_NAME.fullmatch(text := str(value).strip()):
        raise ValueError("1 to 64 letters, digits and signs that a cookie's name may have")
    return text


def _mount(value: object) -> str:
    if not (text := parse_path(value)):
        raise ValueError("a path such as /attachments, with a slash before and none behind")
    return text


def _trusted_origins(value: object) -> tuple[str, ...]:
    if "*" in (origins := parse_origins(value)):
        raise ValueError("origins such as https://www.example.com; to trust them all would be to check nothing")
    return origins


@dataclass(frozen=True, kw_only=True)
class SessionSettings(Settings):
    """All settings of session attachments, converted. Sizes are bytes here, times are seconds.

    In ini files and in keywords the plain numbers of sizes are megabytes, those of ``expire_after`` and
    ``session_age`` days.
    """

    path: str = setting(_mount, "/attachments", "Where the attachments are.")
    max_size: int = setting(parse_megabytes, 50 << 20, "Most bytes of files in an upload; 0: no limit.")
    expire_after: float = setting(parse_days, 3 * 86400.0, "Remove attachments of this age in passing; 0: never.")
    max_bundle_size: int = setting(parse_megabytes, 250 << 20, "Most bytes in a bundle; 0: no limit.")
    max_bundle_files: int = setting(parse_count, 100, "Most files in a bundle.")
    max_session_size: int = setting(parse_megabytes, 1 << 30, "Most bytes in all bundles of a session; 0: no limit.")
    max_session_files: int = setting(parse_count, 1000, "Most files in all bundles of a session.")
    session: FindSession | None = setting(  # noqa: RUF009 (a function is as immutable as the others)
        parse_function, None, "Makes a session's secret of the environ, as package.module:function; empty: a cookie."
    )
    session_age: float = setting(parse_days, 14 * 86400.0, "How long the cookie lives; 0: until the browser is closed.")
    cookie_name: str = setting(_cookie_name, "fileupload_session", "The name of the cookie.")
    trusted_origins: tuple[str, ...] = setting(_trusted_origins, (), "Origins of other sites that may change things.")
