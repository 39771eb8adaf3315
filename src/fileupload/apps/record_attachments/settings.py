"""The settings of record attachments, for all records and for those below one address."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from fileupload.apps.record_attachments.urls import KINTO_RECORD, RecordTemplate
from fileupload.errors import SettingError
from fileupload.settings import Settings, parse_boolean, parse_s3_url, parse_size, setting

_GROUPS = {
    "documents": "pdf rtf odf ods gnumeric abw doc docx xls xlsx",
    "text": "txt",
    "images": "jpg jpe jpeg png gif svg bmp tiff",
    "audio": "wav mp3 aac ogg oga flac",
    "video": "mpeg 3gp avi divx dvr flv mp4 wmv",
    "data": "csv ini json plist xml yaml yml",
    "scripts": "js php pl py rb sh",
    "archives": "gz bz2 zip tar tgz txz 7z",
    "executables": "so exe dll",
    "default": "pdf rtf odf ods gnumeric abw doc docx xls xlsx txt jpg jpe jpeg png gif svg bmp tiff"
    " csv ini json plist xml yaml yml",
}
ANY = "any"
_EXTENSION = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}", re.ASCII)
# The canned ACLs of S3 that make sense for an object that is ours.
_ACLS = ("private", "public-read", "authenticated-read", "bucket-owner-read", "bucket-owner-full-control")
_PATTERN_NAMES = frozenset({"filename", "datetime", "rid"})


def _extension_groups(value: object) -> tuple[str, ...]:
    """Return the extensions of groups and extensions with ``+`` between them; none for any."""
    words = [word for part in str(value).lower().split("+") for word in part.split()]
    if not words or not all(word in _GROUPS or word == ANY or _EXTENSION.fullmatch(word) for word in words):
        raise ValueError(f"groups ({', '.join(sorted(_GROUPS))}, {ANY}) and extensions, with + between them")
    if ANY in words:
        return ()
    return tuple(dict.fromkeys(name for word in words for name in _GROUPS.get(word, word).split()))


def _mimetypes(value: object) -> tuple[tuple[str, str], ...]:
    """Return media types by extension, from ``.ftl:application/vnd.fluent;.db:application/vnd.sqlite3``."""
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
        raise ValueError("a relative folder such as {bucket_id}/{collection_id}, without dots")
    return text


def _filename_pattern(value: object) -> str:
    text = str(value).strip()
    names = set(_PLACEHOLDER.findall(text))
    if not names or not names <= _PATTERN_NAMES or set(_PLACEHOLDER.sub("", text)) & set("{}/\\\0"):
        raise ValueError("a name with one of {filename}, {datetime} and {rid} in it, such as {rid}-{filename}")
    return text


def _record_url(value: object) -> str:
    return RecordTemplate(str(value).strip()).template


def _base_url(value: object) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if text and not ((parts.scheme in {"http", "https"} and parts.netloc) or text.startswith("/")):
        raise ValueError("an address such as https://cdn.example.com/files/, a path such as /files/, or nothing")
    if parts.query or parts.fragment:
        raise ValueError("an address without a query")
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
        raise ValueError("the path of a folder")
    return text


def _acl(value: object) -> str:
    if (text := str(value).strip()) and text not in _ACLS:
        raise ValueError(f"one of {', '.join(_ACLS)}, or nothing")
    return text


@dataclass(frozen=True, kw_only=True)
class RecordSettings(Settings):
    """The pool's settings, and those of records.

    :ivar resources: what holds for the records below the first values of their address, such as ``("blog",)``.
    """

    record_url: str = setting(_record_url, KINTO_RECORD, "Where records live; its last placeholder is the record's.")
    api: str = setting(_api, "", "How the app speaks: kinto or rest; else kinto at Kinto's addresses.")
    base_path: str = setting(_path, "", "A public folder, or s3://bucket/prefix, for the files in place of the pool.")
    base_acl: str = setting(_acl, "", "ACL of the files in an object store, such as public-read; empty: none is sent.")
    base_url: str = setting(_base_url, "", "What stands before the locations of files; empty: they are relative.")
    extra_base_url: str = setting(_base_url, "", "What clients put before relative locations, advertised only.")
    serve_files: bool = setting(parse_boolean, False, "Serve the files at the path of base_url (or extra_base_url).")
    readonly: bool = setting(parse_boolean, False, "The heartbeat writes nothing.")
    folder: str = setting(_folder, "", "Folder of the files; {bucket_id} and such stand for parts of the address.")
    keep_old_files: bool = setting(parse_boolean, False, "Files stay when they are replaced or their record goes.")
    randomize: bool = setting(parse_boolean, True, "Files get random names.")
    filename_pattern: str = setting(
        _filename_pattern, "{filename}", "Their names else, of {filename}, {datetime} and {rid}."
    )
    extensions: tuple[str, ...] = setting(
        _extension_groups, _extension_groups("default"), "Groups of extensions, or extensions, with + between them."
    )
    mimetypes: tuple[tuple[str, str], ...] = setting(
        _mimetypes, (), "Media types by extension, before what clients say."
    )
    max_size_bytes: int = setting(parse_size, 0, "Most bytes of a file; 0: no limit but max_size.")
    resources: Mapping[tuple[str, ...], Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Convert *values*, by name; ``resources.<value>[.<value>].<name>`` holds for some records.

        :raises SettingError: a name is unknown, or a value is wrong.
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
                raise SettingError(f"setting 'folder' cannot hold {{{min(unknown)}}}; there are {', '.join(names)}")
        return dataclasses.replace(parsed, resources=resources)

    def _check_place(self) -> None:
        """Check that the files have a place of their own.

        :raises SettingError: it is the pool's, or a folder that is to have an ACL.
        """
        if self.base_acl and not self.is_in_store:
            raise SettingError("setting 'base_acl' is for files in an object store; 'base_path' must name it")
        pool, public = f"{self.pool}/", f"{self.base_path}/"
        # A location could else be the name of something in the pool.
        if self.pool and self.is_in_store and (pool.startswith(public) or public.startswith(pool)):
            raise SettingError(f"setting 'base_path' cannot be {self.base_path!r}: the pool is there, 'pool'")

    @classmethod
    def _parse_rule(cls, name: str, rule: str, value: Any) -> dict[str, Any]:
        if rule not in RULES:
            raise SettingError(f"setting {name!r} cannot be; for some records there are {', '.join(sorted(RULES))}")
        field = next(field for field in dataclasses.fields(cls) if field.name == rule)
        try:
            return {rule: field.metadata["convert"](value)}
        except ValueError as error:
            raise SettingError(f"setting {name!r} cannot be {value!r}; it must be {error}") from None

    def of(self, groups: tuple[str, ...]) -> RecordSettings:
        """Return the settings for records below *groups*, the values of their address; the longer path wins."""
        rules: dict[str, Any] = {}
        for length in range(1, len(groups) + 1):
            rules.update(self.resources.get(groups[:length], {}))
        return dataclasses.replace(self, **rules) if rules else self

    @property
    def is_in_store(self) -> bool:
        """Whether the files have a place in an object store, beside the pool."""
        return self.base_path.startswith("s3:")

    @property
    def uses_kinto_api(self) -> bool:
        """Whether the app speaks as Kinto does."""
        return self.api == "kinto" or (not self.api and self.record_url == KINTO_RECORD)


RULES = frozenset(
    {"folder", "keep_old_files", "randomize", "filename_pattern", "extensions", "mimetypes", "max_size_bytes"}
)
