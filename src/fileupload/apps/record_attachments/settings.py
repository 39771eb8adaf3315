"""Settings of record attachments, for all records and for the records of a resource."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from fileupload.apps.record_attachments.urls import KINTO_RECORD, RecordTemplate
from fileupload.errors import SettingError
from fileupload.settings import Settings, optional, parse_boolean, parse_s3_url, parse_size, setting

_GROUPS = {
    "documents": "pdf rtf odf ods gnumeric abw doc docx xls xlsx",
    "text": "txt",
    "images": "jpg jpe jpeg jfif png gif svg bmp tif tiff webp heic heif avif",
    "audio": "wav mp3 aac ogg oga flac",
    "video": "mpeg 3gp avi divx dvr flv mp4 wmv",
    "data": "csv ini json plist xml yaml yml",
    "scripts": "js php pl py rb sh",
    "archives": "gz bz2 zip tar tgz txz 7z",
    "executables": "so exe dll",
    "default": "pdf rtf odf ods gnumeric abw doc docx xls xlsx txt jpg jpe jpeg jfif png gif svg bmp tif"
    " tiff webp heic heif avif csv ini json plist xml yaml yml",
}
ANY = "any"
_EXTENSION = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}", re.ASCII)
# The canned ACLs of S3 for objects whose writer owns the bucket.
_ACLS = ("private", "public-read", "authenticated-read", "bucket-owner-read", "bucket-owner-full-control")
_PATTERN_NAMES = frozenset({"filename", "datetime", "rid"})
_MAX_PATTERN = 40  # characters
_LEAST_BYTES = 1 << 20  # a max_size without a unit from which it is rather in bytes than in megabytes: 1 TB
_HTTP_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_DIRECTIVE = rf"{_HTTP_WORD}(?:=(?:{_HTTP_WORD}|\"[^\"\\\x00-\x1f\x7f-\U0010ffff]*\"))?"
_CACHE_CONTROL = re.compile(rf"{_DIRECTIVE}(?:\s*,\s*{_DIRECTIVE})*")


def _extension_groups(value: object) -> tuple[str, ...]:
    """Return the extensions in a list of groups and extensions such as ``images+pdf``; empty if ``any`` is listed."""
    words = [word for part in str(value).lower().split("+") for word in part.split()]
    if not words or not all(word in _GROUPS or word == ANY or _EXTENSION.fullmatch(word) for word in words):
        raise ValueError(f"groups ({', '.join(sorted(_GROUPS))}, {ANY}) and extensions, with + between them")
    if ANY in words:
        return ()
    return tuple(dict.fromkeys(name for word in words for name in _GROUPS.get(word, word).split()))


def _mimetypes(value: object) -> tuple[tuple[str, str], ...]:
    """Return pairs of extension and media type from ``.ftl:application/vnd.fluent;.db:application/vnd.sqlite3``."""
    types = {}
    for rule in filter(None, (part.strip() for part in str(value).lower().split(";"))):
        extension, _, kind = (part.strip() for part in rule.partition(":"))
        if not _EXTENSION.fullmatch(extension.removeprefix(".")) or not _MEDIA_TYPE.fullmatch(kind):
            raise ValueError("rules such as .ftl:application/vnd.fluent with ; between them")
        types["." + extension.removeprefix(".")] = kind
    return tuple(types.items())


def _folder(value: object) -> str:
    text = str(value).strip().strip("/")
    plain = _PLACEHOLDER.sub("x", text)
    if any(part.startswith(".") for part in plain.split("/")) or set(plain) & set("{}\\\0") or "//" in plain:
        raise ValueError("a relative path such as {bucket_id}/{collection_id}, without segments that begin with a dot")
    return text


def _filename_pattern(value: object) -> str:
    text = str(value).strip()
    names = set(_PLACEHOLDER.findall(text))
    if not names or not names <= _PATTERN_NAMES or set(_PLACEHOLDER.sub("", text)) & set("{}/\\\0"):
        raise ValueError("a filename with {filename}, {datetime} or {rid} in it, such as {rid}-{filename}")
    if len(text) > _MAX_PATTERN or len(_PLACEHOLDER.findall(text)) != len(names):
        raise ValueError(f"a pattern of at most {_MAX_PATTERN} characters, with each placeholder at most once")
    return text


def _cache_control(value: object) -> str:
    if (text := str(value).strip()) and not _CACHE_CONTROL.fullmatch(text):
        raise ValueError("directives of the header Cache-Control (RFC 9111, 5.2) such as public, max-age=3600")
    return text


def _record_url(value: object) -> str:
    return RecordTemplate(str(value).strip()).template


def _base_url(value: object) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if text and not ((parts.scheme in {"http", "https"} and parts.netloc) or text.startswith("/")):
        raise ValueError("a URL such as https://cdn.example.com/files/, a path such as /files/, or empty")
    if parts.query or parts.fragment:
        raise ValueError("a URL without a query")
    return text if not text or text.endswith("/") else text + "/"


def _api(value: object) -> str:
    if (text := str(value).strip().lower()) not in {"", "kinto", "rest"}:
        raise ValueError("kinto or rest")
    return text


def _path(value: object) -> str:
    text = str(value).strip()
    if text.startswith("s3:"):
        return parse_s3_url(text)
    if "\0" in text:
        raise ValueError("the path of a directory")
    return text


def _acl(value: object) -> str:
    if (text := str(value).strip()) and text not in _ACLS:
        raise ValueError(f"one of {', '.join(_ACLS)}, or empty")
    return text


@dataclass(frozen=True, kw_only=True)
class RecordSettings(Settings):
    """Settings of record attachments, converted: sizes in bytes, times in seconds.

    :ivar resources: settings that override the others for some records, by the first values of the record's address,
        such as ``("blog",)``.
    """

    record_url: str = setting(
        _record_url, KINTO_RECORD, "URL path template of records; its last placeholder is the record id."
    )
    api: str = setting(_api, "", "API of the app: kinto or rest; empty: kinto if record_url is Kinto's, else rest.")
    base_path: str = setting(
        _path, "", "Public directory, or s3://bucket/prefix, that stores the files; empty: the pool."
    )
    base_acl: str = setting(
        _acl, "", "Canned ACL of the files in an object store, such as public-read; empty: no ACL is sent."
    )
    cache_control: str = setting(
        _cache_control,
        "",
        "Header Cache-Control of the files, stored with them in an object store and sent by serve_files; empty: none "
        "in a store, 'public, no-cache' by serve_files.",
    )
    base_url: str = setting(_base_url, "", "URL prefix of file locations; empty: locations are relative.")
    extra_base_url: str = setting(
        _base_url, "", "URL prefix that is only advertised to clients, which put it before relative locations."
    )
    serve_files: bool = setting(parse_boolean, False, "Serve the files at the path of base_url (or extra_base_url).")
    readonly: bool = setting(parse_boolean, False, "The heartbeat endpoint does not write to the storage.")
    folder: str = setting(
        _folder, "", "Directory of the files; placeholders of record_url such as {bucket_id} are filled in."
    )
    keep_old_files: bool = setting(parse_boolean, False, "Keep files that are replaced, or whose record is deleted.")
    randomize: bool = setting(parse_boolean, True, "Store files under random names.")
    filename_pattern: str = setting(
        _filename_pattern, "{filename}", "Pattern of stored names, with {filename}, {datetime} (in UTC) and {rid}."
    )
    extensions: tuple[str, ...] = setting(
        _extension_groups,
        _extension_groups("default"),
        "Accepted filename extensions and groups of extensions, separated by +.",
    )
    mimetypes: tuple[tuple[str, str], ...] = setting(
        _mimetypes, (), "Media types by extension, which override those that clients send."
    )
    max_size_bytes: int | None = setting(optional(parse_size), None, "Maximum size of a file; 0: only max_size.")
    resources: Mapping[tuple[str, ...], Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @staticmethod
    def unit_warning(values: Mapping[str, Any]) -> str:
        """Return a sentence if ``max_size`` in *values* seems to be in bytes, as in kinto-attachment; else nothing."""
        text = str(values.get("max_size", "")).strip()
        if not text.isdecimal() or int(text) < _LEAST_BYTES:
            return ""
        return (
            f"setting 'max_size' is {text}, in megabytes; if these are bytes, as in kinto-attachment, set "
            f"'max_size_bytes = {text}' instead, and if not, write the unit, as in {text}M"
        )

    @classmethod
    def owns(cls, name: str) -> bool:
        """Return whether *name* is the name of a setting, or that of a rule for some of the records."""
        return super().owns(name) or name.startswith("resources.")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings with *values* converted.

        :param values: by setting name, or by ``resources.<value>[.<value>].<name>`` for the records whose addresses
            begin with these values.
        :raises SettingError: a name is unknown, or a value is invalid.
        """
        own = {name: value for name, value in values.items() if not name.startswith("resources.")}
        parsed = super().parse(own)
        public = parsed.base_url or parsed.extra_base_url
        if parsed.serve_files and urlsplit(public).path in {"", "/"}:
            raise SettingError(f"setting 'serve_files' needs a 'base_url' with a path such as /files/, not {public!r}")
        parsed._check_place()
        names = RecordTemplate(parsed.record_url).names
        depth = len(names) - 1
        resources: dict[tuple[str, ...], dict[str, Any]] = {}
        for name, value in values.items():
            if name.startswith("resources."):
                *path, rule = name.split(".")[1:]
                if not 1 <= len(path) <= depth:
                    raise SettingError(f"setting {name!r} must name 1 to {depth} values of the address and one setting")
                resources.setdefault(tuple(path), {}).update(cls._parse_rule(name, rule, value))
        for folder in (parsed.folder, *(rules.get("folder", "") for rules in resources.values())):
            if unknown := set(_PLACEHOLDER.findall(folder)) - set(names):
                raise SettingError(
                    f"setting 'folder' cannot hold {{{min(unknown)}}}; record_url has {', '.join(names)}"
                )
        return dataclasses.replace(parsed, resources=resources)

    def _check_place(self) -> None:
        """Check the storage location of the files.

        :raises SettingError: it overlaps the pool, or ``base_acl`` is set without an object store.
        """
        if self.base_acl and not self.is_in_store:
            raise SettingError("setting 'base_acl' is for files in an object store; 'base_path' must name it")
        pool, public = f"{self.pool}/", f"{self.base_path}/"
        # Otherwise the location of a file could be the key of an object of the pool.
        if self.pool and self.is_in_store and (pool.startswith(public) or public.startswith(pool)):
            raise SettingError(f"setting 'base_path' cannot be {self.base_path!r}: it overlaps setting 'pool'")

    @classmethod
    def _parse_rule(cls, name: str, rule: str, value: Any) -> dict[str, Any]:
        if rule not in RULES:
            raise SettingError(f"setting {name!r} is unknown; for some records one can set {', '.join(sorted(RULES))}")
        field = next(field for field in dataclasses.fields(cls) if field.name == rule)
        try:
            return {rule: field.metadata["convert"](value)}
        except ValueError as error:
            raise SettingError(f"setting {name!r} cannot be {value!r}; it must be {error}") from None

    def of(self, groups: tuple[str, ...]) -> RecordSettings:
        """Return the settings of the records whose addresses have the values *groups*; the longest match wins."""
        rules: dict[str, Any] = {}
        for length in range(1, len(groups) + 1):
            rules.update(self.resources.get(groups[:length], {}))
        return dataclasses.replace(self, **rules) if rules else self

    @property
    def is_in_store(self) -> bool:
        """True if ``base_path`` is in an object store."""
        return self.base_path.startswith("s3:")

    @property
    def uses_kinto_api(self) -> bool:
        """True if the app has the API of Kinto."""
        return self.api == "kinto" or (not self.api and self.record_url == KINTO_RECORD)


RULES = frozenset(
    {"folder", "keep_old_files", "randomize", "filename_pattern", "extensions", "mimetypes", "max_size_bytes"}
)
