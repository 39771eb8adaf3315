"""Settings: one table for Paste directives, keywords of the middleware and command-line options.

Each setting is a field of :class:`Settings` with a converter, a default and a description. A converter takes the
text of an ini file or a Python value, and raises ValueError with a description of the values it accepts.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from fileupload.errors import SettingError

T = TypeVar("T")

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw])?", re.ASCII | re.IGNORECASE)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MEDIA_RANGE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/(?:[a-z0-9!#$&^_.+-]{1,127}|\*)", re.ASCII)
_EXTENSION = re.compile(r"[^\s./\\]+(?:\.[^\s./\\]+)*")
_SITE = re.compile(
    r"(https?)://([a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,64}\])(?::([0-9]{1,5}))?"
    r"((?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*)/?",
    re.ASCII,
)
DEFAULT_PORTS = {"http": 80, "https": 443}
UNIX_SOCKET = "unix"  # in trusted_proxies: connections over Unix sockets


def parse_size(value: object, unit: int = 1) -> int:
    """Return a size in bytes.

    :param value: a number of *unit* bytes, or a text such as ``64K`` or ``1.5G``, with powers of 1024.
    :raises ValueError: *value* is neither.

    >>> parse_size("64K"), parse_size("1.5", unit=1 << 20)
    (65536, 1572864)
    """
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
    """Return a size in bytes; a plain number is in megabytes (1024 * 1024 bytes)."""
    return parse_size(value, 1 << 20)


def optional(convert: Callable[[object], T]) -> Callable[[object], T | None]:
    """Return a converter for a limit: 0, which means no limit in settings, becomes None.

    Inside, None alone means that there is no limit, and 0 is a limit like any other.
    """

    def converted(value: object) -> T | None:
        return convert(value) or None

    return converted


def least(*limits: int | None) -> int | None:
    """Return the smallest of *limits*, each of which may be None for no limit; None if there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def parse_duration(value: object, unit: str = "s") -> float:
    """Return a duration in seconds.

    :param value: a number in *unit*, or a text such as ``90s``, ``36h`` or ``3d``.
    :raises ValueError: *value* is neither.
    """
    match = _DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError("a time of 0 or more, such as 30s, 15m, 36h or 3d")
    return float(match[1]) * _SECONDS[(match[2] or unit).lower()]


def parse_days(value: object) -> float:
    """Return a duration in seconds; a plain number is in days."""
    return parse_duration(value, "d")


def parse_boolean(value: object) -> bool:
    """Return a bool from a bool or one of the texts true, yes, on, 1, false, no, off, 0."""
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text in _TRUE


def parse_list(value: object) -> tuple[str, ...]:
    """Return the items of a list, or of a text in which commas or white space separate them."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(str(word) for word in value)
    return tuple(str(value).replace(",", " ").split())


def parse_keys(value: object) -> tuple[str, ...]:
    """Return signing keys, newest first, from a list or from a text in which white space separates them."""
    keys = tuple(value) if isinstance(value, (list, tuple)) else tuple(str(value).split())
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ValueError("one key or more, the newest first; `fileupload key` generates a strong one")
    return keys


def parse_media_ranges(value: object) -> tuple[str, ...]:
    """Return media ranges, each ``type/subtype`` or ``type/*`` (RFC 9110, 12.5.1), in lower case."""
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
    """Return a whole number of at least 1."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise ValueError("a whole number of at least 1")
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
        raise ValueError("the path of a directory")
    return text


def parse_s3_url(value: object) -> str:
    """Return an ``s3://bucket/prefix`` URL without a trailing slash, or an empty text."""
    text = str(value).strip()
    parts = urlsplit(text)
    if text and (parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment):
        raise ValueError("a URL such as s3://bucket/prefix")
    return f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/") if text else ""


def _endpoint(value: object) -> str:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text)
    if text and not (parts.scheme in {"http", "https"} and parts.netloc and not parts.path):
        raise ValueError("a URL such as https://s3.example.com")
    return text


def _progress(value: object) -> str:
    text = str(value).strip()
    if text and urlsplit(text).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("a URL such as redis://127.0.0.1:6379/0")
    return text


def _part_size(value: object) -> int:
    size = parse_megabytes(value)
    if not 5 << 20 <= size <= 5 << 30:
        raise ValueError("a size from 5M to 5G, the part sizes that S3 allows")
    return size


def _parse_url_ttl(value: object) -> float:
    seconds = parse_duration(value)
    if not 1 <= seconds <= 7 * 86400:
        raise ValueError("a time from 1s to 7d, the lifetimes that S3 allows for presigned URLs")
    return seconds


def _parse_token(value: object) -> str:
    if re.search(r"\s", text := str(value).strip()):
        raise ValueError("a text without white space")
    return text


def parse_path(value: object) -> str:
    """Return a URL path with a leading and without a trailing slash, or an empty text."""
    if not re.fullmatch(r"(?:/[^?#\s]*[^?#\s/])?", text := str(value).strip()):
        raise ValueError("a path such as /upload, with a leading and without a trailing slash")
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
        raise ValueError("a URL such as https://uploads.example.com/upload, without a query")
    text = text.rstrip("/")
    return text if text.endswith("/upload") else text + "/upload"


def parse_origins(value: object) -> tuple[str, ...]:
    """Return origins, each ``scheme://host[:port]`` (RFC 6454, 6.2) or ``*``."""
    origins = parse_list(value)
    for origin in origins:
        parts = urlsplit(origin)
        plain = f"{parts.scheme}://{parts.netloc}" == origin
        if origin != "*" and not (parts.scheme in {"http", "https"} and parts.netloc and plain):
            raise ValueError("origins such as https://www.example.com (no path, no trailing slash), or *")
    return origins


def parse_public_url(value: object) -> str:
    """Return the URL of a site, ``scheme://host[:port][/prefix]``, without a default port or a trailing slash.

    An empty text stays empty.
    """
    if not (text := str(value).strip()):
        return ""
    authority = re.match(r"[^/]*//[^/]*", text)  # the scheme and the host are case-insensitive (RFC 3986, 6.2.2.1)
    match = _SITE.fullmatch(text.replace(authority[0], authority[0].lower(), 1)) if authority else None
    port = int(match[3]) if match and match[3] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise ValueError("a URL such as https://www.example.com or https://www.example.com:8443/files")
    scheme, host, _, prefix = match.groups()
    return f"{scheme}://{host}{'' if port in {None, DEFAULT_PORTS[scheme]} else f':{port}'}{prefix}"


def parse_proxies(value: object) -> tuple[str, ...]:
    """Return IP networks as texts, each from an address or a network, and ``unix`` for Unix sockets."""
    words = [word.lower() for word in parse_list(value)]
    try:
        return tuple(word if word == UNIX_SOCKET else str(ipaddress.ip_network(word)) for word in words)
    except ValueError:
        raise ValueError(
            "addresses and networks such as 127.0.0.1 or 10.0.0.0/8, and unix for Unix sockets; empty for none"
        ) from None


# Before the name of a setting in capitals: the environment variable by which a command gets the setting.
ENVIRONMENT_PREFIX = "FILEUPLOAD_"

# Settings whose values never appear in an error sentence.
SECRETS = frozenset({"upload_key", "s3_secret_access_key", "progress"})


def setting(convert: Callable[[Any], Any], default: Any, help: str) -> Any:  # noqa: A002
    """Return a dataclass field that holds one setting.

    :param convert: converts the text of an ini file or a Python value; raises ValueError with a description of the
        values it accepts, to be read after "it must be".
    :param help: describes the setting in one sentence.
    """
    return dataclasses.field(default=default, metadata={"convert": convert, "help": help})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of an upload pool and of its HTTP interface, converted: sizes in bytes, times in seconds.

    In ini files, in keywords and on the command line, plain numbers of ``max_size``, ``max_file_size``,
    ``min_free_space`` and ``direct_part_size`` are megabytes, and those of ``expire_after`` are days.

    >>> Settings.parse({"directory": "/srv/uploads", "max_size": "5G", "max_age": "2h"}).max_size
    5368709120
    """

    directory: str = setting(_directory, "", "Pool in a directory that all processes and hosts share.")
    pool: str = setting(parse_s3_url, "", "Pool in an object store, in place of a directory: s3://bucket/prefix.")
    s3_endpoint_url: str = setting(_endpoint, "", "URL of the S3 endpoint; empty: AWS.")
    s3_public_url: str = setting(_endpoint, "", "S3 endpoint URL for clients, in presigned URLs; empty: the same.")
    s3_region: str = setting(_parse_token, "", "S3 region; empty: the default of boto3.")
    s3_access_key_id: str = setting(_parse_token, "", "S3 access key id; empty: the default credentials of boto3.")
    s3_secret_access_key: str = setting(_parse_token, "", "S3 secret access key.")
    progress: str = setting(_progress, "", "Redis URL for upload progress with an object store: redis://host:port/0.")
    max_size: int | None = setting(
        optional(parse_megabytes), 100 << 30, "Maximum total size of the files of an upload; 0: no limit."
    )
    max_file_size: int | None = setting(
        optional(parse_megabytes), None, "Maximum size of each file of an upload; 0: only max_size."
    )
    upload_url: str = setting(_upload_url, "", "URL of a dedicated upload server; this app then receives no uploads.")
    upload_key: tuple[str, ...] = setting(
        parse_keys, (), "Signing keys, newest first; empty: one is generated and stored in the pool."
    )
    path: str = setting(parse_path, "", "Only path that receives uploads; empty: every path that ends in /upload.")
    max_age: float | None = setting(
        optional(parse_duration),
        7 * 86400.0,
        "Time after which an identifier can no longer start an upload; 0: no limit.",
    )
    anonymous: bool = setting(
        parse_boolean, False, "Let any client upload, with or without an identifier from U/identifier."
    )
    cors_origins: tuple[str, ...] = setting(
        parse_origins, (), "Origins of other sites whose pages may upload here (CORS)."
    )
    public_url: str = setting(
        parse_public_url,
        "",
        "URL of the site as browsers see it, scheme://host[:port][/prefix]; empty: from the request, and its proxies.",
    )
    trusted_proxies: tuple[str, ...] | None = setting(
        parse_proxies,
        None,
        "Addresses and networks of proxies whose X-Forwarded-* and Forwarded headers are believed, and unix for Unix "
        "sockets; not set: none, and on `fileupload serve` those on the same host.",
    )
    jsonp: bool = setting(parse_boolean, False, "Enable JSONP: callback=, and clear by GET.")
    downloads: bool = setting(parse_boolean, False, "GET U returns the file to clients with the identifier.")
    download_links: bool = setting(parse_boolean, False, "Downloads redirect to presigned URLs of the object store.")
    direct_part_size: int = setting(
        _part_size, 64 << 20, "Part size of direct uploads; a smaller file is sent as a single part."
    )
    direct_expires: float = setting(
        _parse_url_ttl, 3600.0, "Lifetime of the presigned URLs of direct uploads; clients can request new ones."
    )
    checksum: str = setting(_checksum, "sha256", "Checksum computed while a file is received: sha256 or none.")
    durable: bool = setting(parse_boolean, True, "Call fsync before an upload is reported as done.")
    expire_after: float | None = setting(
        optional(parse_days), None, "Age after which uploads are purged in the background; 0: never."
    )
    require_file: bool | None = setting(
        parse_boolean, None, "Refuse forms without a file; the dedicated server does so unless this is false."
    )
    max_files: int = setting(parse_count, 100, "Maximum number of files in a form.")
    max_fields: int = setting(parse_count, 1000, "Maximum number of text fields in a form.")
    max_field_size: int = setting(parse_size, 1 << 20, "Maximum size of one text field.")
    max_fields_size: int = setting(parse_size, 2 << 20, "Maximum total size of the text fields of a form.")
    max_headers: int = setting(parse_count, 8, "Maximum number of headers of one part of a form.")
    max_header_size: int = setting(parse_size, 4096, "Maximum size of one header of a part.")
    min_free_space: int | None = setting(
        optional(parse_megabytes), 256 << 20, "Free disk space that uploads must leave in the pool."
    )
    min_rate: int = setting(parse_size, 1024, "Minimum transfer rate of a client in bytes per second; 0: no minimum.")
    min_rate_grace: float = setting(parse_duration, 30.0, "Time for which a client may be slower than min_rate.")
    idle_timeout: float | None = setting(
        optional(parse_duration), 60.0, "Time without a byte after which a transfer is aborted; 0: no timeout."
    )
    content_types: tuple[str, ...] = setting(parse_media_ranges, (), "Accepted media types of files; empty: all.")
    extensions: tuple[str, ...] = setting(_extensions, (), "Accepted filename extensions; empty: all.")
    progress_interval: float = setting(parse_duration, 0.25, "Interval at which the status of an upload is published.")
    read_size: int | None = setting(
        optional(parse_size), None, "Maximum size of one read; 0: chosen for the WSGI server."
    )
    drain_size: int = setting(
        parse_size, 64 << 20, "Maximum bytes read and discarded of a rejected body, so that the client gets its answer."
    )
    drain_time: float = setting(parse_duration, 10.0, "Maximum time for reading a rejected body.")

    @classmethod
    def _fields(cls) -> dict[str, dataclasses.Field[Any]]:
        return {field.name: field for field in dataclasses.fields(cls) if "convert" in field.metadata}

    @classmethod
    def owns(cls, name: str) -> bool:
        """Return whether *name* is the name of a setting."""
        return name in cls._fields()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings with *values* converted; a value of None leaves its setting at the default.

        :param values: texts or Python values by setting name.
        :raises SettingError: a name is unknown (the sentence names the nearest known one), or a value is invalid.
        """
        known = cls._fields()
        converted = {}
        for name, value in values.items():
            if value is None:
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

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the values in the variables ``FILEUPLOAD_<NAME>``, by setting name; empty variables are left out.

        Other variables that begin like that are ignored: container platforms set such for a service of this name.

        :raises SettingError: a value is invalid.
        """
        names = (field.name for field in dataclasses.fields(cls) if "convert" in field.metadata)
        variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in names}
        found = {name: environ[variable] for name, variable in variables.items() if environ.get(variable)}
        for name, value in found.items():
            try:
                cls.parse({name: value})
            except SettingError as error:
                raise SettingError(f"environment variable {variables[name]}: {error}") from None
        return found
