"""Settings: one table, from which Paste directives, keywords and command-line options are all read.

Each setting is a field of :class:`Settings` with a converter, a default and a sentence. Converters take the
text of an ini file or a Python value, and raise ValueError with what would be right.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from fileupload.errors import SettingError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw])?", re.ASCII | re.IGNORECASE)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MEDIA_RANGE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/(?:[a-z0-9!#$&^_.+-]{1,127}|\*)", re.ASCII)
_EXTENSION = re.compile(r"[^\s./\\]+(?:\.[^\s./\\]+)*")


def parse_size(value: object, unit: int = 1) -> int:
    """Return the bytes of *value*: a number of *unit* bytes, or a text such as ``64K``, ``1.5G``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError("a size of 0 or more")
        return int(value * unit)
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("a size of 0 or more, such as 10, 512K, 64M or 5G")
    number, suffix = match[1], (match[2] or "").lower()
    plain = match[0].strip() == number
    return int(float(number) * (unit if plain else _UNITS[suffix]))


def parse_megabytes(value: object) -> int:
    """Return the bytes of *value*, in which a plain number means megabytes (of 1024 * 1024 bytes)."""
    return parse_size(value, 1 << 20)


def parse_duration(value: object, unit: str = "s") -> float:
    """Return the seconds of *value*: a number in *unit*, or a text such as ``90s``, ``36h`` or ``3d``."""
    match = _DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError("a time of 0 or more, such as 30s, 15m, 36h or 3d")
    return float(match[1]) * _SECONDS[(match[2] or unit).lower()]


def parse_days(value: object) -> float:
    """Return the seconds of *value*, in which a plain number means days."""
    return parse_duration(value, "d")


def parse_boolean(value: object) -> bool:
    """Return the truth of *value*: a bool, or one of true, yes, on, 1, false, no, off, 0."""
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text in _TRUE


def parse_list(value: object) -> tuple[str, ...]:
    """Return the words of *value*: a list, or a text with commas or white space between them."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(str(word) for word in value)
    return tuple(str(value).replace(",", " ").split())


def parse_keys(value: object) -> tuple[str, ...]:
    """Return the keys in *value*, newest first: a list, or a text with white space between them."""
    keys = tuple(value) if isinstance(value, (list, tuple)) else tuple(str(value).split())
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ValueError("one key or more, the newest first; `fileupload key` makes a good one")
    return keys


def parse_media_ranges(value: object) -> tuple[str, ...]:
    """Return the media types in *value*, each ``type/subtype`` or ``type/*`` (RFC 9110, 12.5.1)."""
    ranges = tuple(word.lower() for word in parse_list(value))
    if not all(_MEDIA_RANGE.fullmatch(word) for word in ranges):
        raise ValueError("media types such as image/png or image/*")
    return ranges


def _extensions(value: object) -> tuple[str, ...]:
    extensions = tuple(word.lower().removeprefix(".") for word in parse_list(value))
    if not all(_EXTENSION.fullmatch(word) for word in extensions):
        raise ValueError("filename extensions such as pdf or tar.gz")
    return extensions


def parse_count(value: object) -> int:
    """Return the whole number from 1 that *value* is."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def parse_function(value: object) -> Any:
    """Return the function that *value* is or names; None for an empty text.

    :param value: a callable, or its name as ``package.module:function`` (or ``package.module.function``).
    :raises ValueError: there is no such function.
    """
    if callable(value):
        return value
    if not (text := str(value).strip()):
        return None
    try:
        found = pkgutil.resolve_name(text)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"a function as package.module:function ({error})") from None
    if not callable(found):
        raise ValueError("a function as package.module:function")
    return found


def _checksum(value: object) -> str:
    if (text := str(value).strip().lower()) not in {"sha256", "none"}:
        raise ValueError("sha256 or none")
    return text


def _directory(value: object) -> str:
    if not (text := str(value).strip()) or "\0" in text:
        raise ValueError("the path of a folder")
    return text


def parse_s3_url(value: object) -> str:
    """Return the address of a place in an object store that *value* is, or nothing."""
    text = str(value).strip()
    parts = urlsplit(text)
    if text and (parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment):
        raise ValueError("an address such as s3://bucket/prefix")
    return f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/") if text else ""


def _endpoint(value: object) -> str:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text)
    if text and not (parts.scheme in {"http", "https"} and parts.netloc and not parts.path):
        raise ValueError("an address such as https://s3.example.com")
    return text


def _progress(value: object) -> str:
    text = str(value).strip()
    if text and urlsplit(text).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("an address such as redis://127.0.0.1:6379/0")
    return text


def _part_size(value: object) -> int:
    size = parse_megabytes(value)
    if not 5 << 20 <= size <= 5 << 30:
        raise ValueError("a size from 5M to 5G, which are the limits of the stores")
    return size


def _parse_url_ttl(value: object) -> float:
    seconds = parse_duration(value)
    if not 1 <= seconds <= 7 * 86400:
        raise ValueError("a time from 1s to 7d, which is the limit of the stores")
    return seconds


def _parse_token(value: object) -> str:
    if re.search(r"\s", text := str(value).strip()):
        raise ValueError("one word")
    return text


def parse_path(value: object) -> str:
    """Return the path that *value* is, with a slash before and none behind; it may be empty."""
    if not re.fullmatch(r"(?:/[^?#\s]*[^?#\s/])?", text := str(value).strip()):
        raise ValueError("a path such as /upload, with a slash before and none behind")
    return text


def _upload_url(value: object) -> str:
    if not (text := str(value).strip()):
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    absolute = parts.scheme in {"http", "https"} and bool(parts.netloc)
    rooted = not parts.scheme and text.startswith("/")
    if not (absolute or rooted) or parts.query or parts.fragment:
        raise ValueError("an address such as https://uploads.example.com/upload, without a query")
    text = text.rstrip("/")
    return text if text.endswith("/upload") else text + "/upload"


def parse_origins(value: object) -> tuple[str, ...]:
    """Return the origins in *value*, each ``scheme://host[:port]`` (RFC 6454, 6.2), or ``*``."""
    origins = parse_list(value)
    for origin in origins:
        parts = urlsplit(origin)
        plain = f"{parts.scheme}://{parts.netloc}" == origin
        if origin != "*" and not (parts.scheme in {"http", "https"} and parts.netloc and plain):
            raise ValueError("origins such as https://www.example.com (no path, no final slash), or *")
    return origins


# What is never shown, not even in the sentence that says what is wrong with it.
SECRETS = frozenset({"upload_key", "s3_secret_access_key", "progress"})


def setting(convert: Callable[[Any], Any], default: Any, text: str) -> Any:
    """Return a field of a class of settings.

    :param convert: takes the text of an ini file or a Python value; raises ValueError with what would be right.
    :param text: what it is for, in a sentence.
    """
    return dataclasses.field(default=default, metadata={"convert": convert, "text": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, converted. Sizes are bytes here, times are seconds.

    In ini files, in keywords and on the command line, the plain numbers of ``max_size``, ``max_file_size``,
    ``min_free_space`` and ``direct_part_size`` are megabytes, and those of ``expire_after`` are days.
    """

    directory: str = setting(_directory, "", "The pool: a folder that all processes and hosts share.")
    pool: str = setting(parse_s3_url, "", "The pool in an object store instead: s3://bucket/prefix.")
    s3_endpoint_url: str = setting(_endpoint, "", "Address of the object store; empty: that of AWS.")
    s3_public_url: str = setting(_endpoint, "", "Its address as clients see it, for signed ones; empty: the same.")
    s3_region: str = setting(_parse_token, "", "Its region; empty: as boto3 finds it.")
    s3_access_key_id: str = setting(_parse_token, "", "Who we are there; empty: as boto3 finds it.")
    s3_secret_access_key: str = setting(_parse_token, "", "And the secret to it.")
    progress: str = setting(_progress, "", "redis://host:port/number, which shows progress for an object store.")
    max_size: int = setting(parse_megabytes, 100 << 30, "Most bytes of files in an upload; 0: no limit.")
    max_file_size: int = setting(parse_megabytes, 0, "Most bytes of each file in an upload; 0: no further limit.")
    upload_url: str = setting(_upload_url, "", "Address of a dedicated upload server; nothing is received here.")
    upload_key: tuple[str, ...] = setting(parse_keys, (), "Signing keys, newest first; else made and kept in the pool.")
    path: str = setting(parse_path, "", "The one path that receives uploads, instead of any that ends in /upload.")
    max_age: float = setting(parse_duration, 7 * 86400.0, "How long an upload may begin with an identifier; 0: ever.")
    anonymous: bool = setting(parse_boolean, False, "Anyone may get an identifier, by POST to U/identifier.")
    cors_origins: tuple[str, ...] = setting(parse_origins, (), "Origins of other sites whose pages may upload here.")
    jsonp: bool = setting(parse_boolean, False, "The script-tag interface: callback=, and clear by GET.")
    downloads: bool = setting(parse_boolean, False, "GET U gives the file to whoever has the identifier.")
    download_links: bool = setting(parse_boolean, False, "Downloads are sent on to the object store's own address.")
    direct_part_size: int = setting(
        _part_size, 64 << 20, "Bytes of each part that clients send straight to the pool; smaller files go in one."
    )
    direct_expires: float = setting(
        _parse_url_ttl, 3600.0, "How long the signed addresses of direct uploads are valid; new ones can be asked for."
    )
    checksum: str = setting(_checksum, "sha256", "sha256, computed while the bytes arrive, or none.")
    durable: bool = setting(parse_boolean, True, "fsync before an upload is called done.")
    expire_after: float = setting(parse_days, 0.0, "Remove uploads of this age in passing; 0: never.")
    max_files: int = setting(parse_count, 100, "Most files in a form.")
    max_fields: int = setting(parse_count, 1000, "Most text fields in a form.")
    max_field_size: int = setting(parse_size, 1 << 20, "Most bytes of one text field.")
    max_fields_size: int = setting(parse_size, 2 << 20, "Most bytes of all text fields together.")
    max_headers: int = setting(parse_count, 8, "Most headers of a part.")
    max_header_size: int = setting(parse_size, 4096, "Most bytes of one header of a part.")
    min_free_space: int = setting(parse_megabytes, 256 << 20, "Free space that uploads leave in the pool.")
    min_rate: int = setting(parse_size, 1024, "Least bytes a second of a client; 0: any.")
    min_rate_grace: float = setting(parse_duration, 30.0, "How long a client may stay under min_rate.")
    idle_timeout: float = setting(parse_duration, 60.0, "How long a client may send or take nothing; 0: for ever.")
    content_types: tuple[str, ...] = setting(parse_media_ranges, (), "Media types of files; empty: any.")
    extensions: tuple[str, ...] = setting(_extensions, (), "Filename extensions of files; empty: any.")
    progress_interval: float = setting(parse_duration, 0.25, "Seconds between two published states of an upload.")
    read_size: int = setting(parse_size, 0, "Most bytes of one read; 0: what suits the server.")
    drain_size: int = setting(
        parse_size, 64 << 20, "Bytes of a refused body still read, so that clients see the answer."
    )
    drain_time: float = setting(parse_duration, 10.0, "Seconds for which a refused body is still read.")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Convert *values*, by name.

        :raises SettingError: a name is unknown (the nearest known one is named), or a value is wrong.
        """
        known = {field.name: field for field in dataclasses.fields(cls) if "convert" in field.metadata}
        converted = {}
        for name, value in values.items():
            if value is None:  # the app's way to say that it leaves a setting alone
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
                raise SettingError(f"unknown setting {name!r}; {hint}")
            try:
                converted[name] = known[name].metadata["convert"](value)
            except ValueError as error:
                shown = "that value" if name in SECRETS else repr(value)
                raise SettingError(f"setting {name!r} cannot be {shown}; it must be {error}") from None
        return cls(**converted)
