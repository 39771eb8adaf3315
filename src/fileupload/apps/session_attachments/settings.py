"""Settings of session attachments: those of the pool, and their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fileupload.settings import (
    Settings,
    optional,
    parse_boolean,
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
        raise ValueError("a cookie name of 1 to 64 token characters (RFC 6265, 4.1.1)")
    return text


def _mount(value: object) -> str:
    if not (text := parse_path(value)):
        raise ValueError("a path such as /attachments, with a leading and without a trailing slash")
    return text


def _trusted_origins(value: object) -> tuple[str, ...]:
    if "*" in (origins := parse_origins(value)):
        raise ValueError("origins such as https://www.example.com; * would disable the CSRF check")
    return origins


@dataclass(frozen=True, kw_only=True)
class SessionSettings(Settings):
    """Settings of session attachments, converted: sizes in bytes, times in seconds.

    In ini files and in keywords, plain numbers of ``max_bundle_size`` and ``max_session_size`` are megabytes too, and
    those of ``session_age`` are days. ``max_size`` limits a request, ``max_file_size`` each of its files.
    """

    path: str = setting(_mount, "/attachments", "Path of the attachments.")
    max_size: int | None = setting(
        optional(parse_megabytes), None, "Maximum total size of the files of one request; 0: only the quotas."
    )
    max_file_size: int | None = setting(
        optional(parse_megabytes), 50 << 20, "Maximum size of each file; 0: only max_size and the quotas."
    )
    expire_after: float | None = setting(
        optional(parse_days), 3 * 86400.0, "Age after which attachments are purged in the background; 0: never."
    )
    max_bundle_size: int | None = setting(
        optional(parse_megabytes), 250 << 20, "Quota of a bundle in bytes; 0: no limit."
    )
    max_bundle_files: int = setting(parse_count, 100, "Quota of a bundle in files.")
    max_session_size: int | None = setting(
        optional(parse_megabytes), 1 << 30, "Quota of a session in bytes; 0: no limit."
    )
    max_session_files: int = setting(parse_count, 1000, "Quota of a session in files.")
    session: FindSession | None = setting(  # noqa: RUF009 (a function is as immutable as the others)
        parse_function,
        None,
        "Function that returns the secret of a session from the WSGI environ, as package.module:function; "
        "empty: a session cookie.",
    )
    session_age: float | None = setting(
        optional(parse_days), 14 * 86400.0, "Lifetime of the session cookie; 0: until the browser is closed."
    )
    session_pages: bool = setting(
        parse_boolean, True, "HTML pages of the app that no shared cache may store set the session cookie."
    )
    cookie_name: str = setting(_cookie_name, "fileupload_session", "Name of the session cookie.")
    trusted_origins: tuple[str, ...] = setting(_trusted_origins, (), "Origins of other sites that pass the CSRF check.")
