"""Settings: converted by one table, and refused with a message that describes valid values."""

import os
from pathlib import Path
from typing import Any

import pytest

from fileupload.errors import SettingError
from fileupload.settings import Settings, parse_function

GOOD: list[tuple[str, Any, Any]] = [
    ("max_size", "10", 10 << 20),
    ("max_size", 10, 10 << 20),
    ("max_size", 0.5, 1 << 19),
    ("max_size", "5G", 5 << 30),
    ("max_size", "512 KiB", 512 << 10),
    ("max_size", "100b", 100),
    ("max_size", "0", None),
    ("min_free_space", "1", 1 << 20),
    ("max_field_size", "64", 64),
    ("max_field_size", "64k", 64 << 10),
    ("max_age", "90", 90.0),
    ("max_age", "2h", 7200.0),
    ("expire_after", "3", 3 * 86400.0),
    ("expire_after", "36h", 36 * 3600.0),
    ("durable", "off", False),
    ("durable", "TRUE", True),
    ("durable", False, False),
    ("checksum", "None", "none"),
    ("upload_key", "new old", ("new", "old")),
    ("upload_key", ["new", "old"], ("new", "old")),
    ("upload_url", "https://u.example/files", "https://u.example/files/upload"),
    ("upload_url", "https://u.example/upload/", "https://u.example/upload"),
    ("upload_url", "/files", "/files/upload"),
    ("path", "/in/box", "/in/box"),
    ("cors_origins", "https://a.example, http://b.example:8080", ("https://a.example", "http://b.example:8080")),
    ("cors_origins", "*", ("*",)),
    ("content_types", "image/*  Text/Plain", ("image/*", "text/plain")),
    ("extensions", ".PDF, tar.gz", ("pdf", "tar.gz")),
    ("max_files", "1", 1),
]

BAD: list[tuple[str, Any]] = [
    ("max_size", "much"),
    ("max_size", "-1"),
    ("max_size", -1),
    ("max_size", float("nan")),
    ("max_size", True),
    ("max_size", "٣"),
    ("max_age", "soon"),
    ("expire_after", "3 years"),
    ("durable", "maybe"),
    ("durable", ""),
    ("checksum", "md5"),
    ("upload_key", ""),
    ("upload_key", []),
    ("upload_url", "ftp://u.example/"),
    ("upload_url", "u.example"),
    ("upload_url", "https://u.example/?a=b"),
    ("upload_url", "https://[bad"),
    ("path", "upload"),
    ("path", "/upload/"),
    ("path", "/up?load"),
    ("cors_origins", "a.example"),
    ("cors_origins", "https://a.example/"),
    ("content_types", "image"),
    ("extensions", "../x"),
    ("max_files", "0"),
    ("max_files", "many"),
    ("directory", ""),
    ("directory", "a\0b"),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_values_are_converted(name: str, value: Any, expected: Any) -> None:
    """Strings of an ini file and Python values give the same typed setting."""
    assert getattr(Settings.parse({name: value}), name) == expected


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_stop_the_start(name: str, value: Any) -> None:
    """An invalid value is refused with the setting's name and the valid values; a key is never shown."""
    with pytest.raises(SettingError, match=rf"'{name}' cannot be .*; it must be ") as caught:
        Settings.parse({name: value})
    if value and name != "upload_key":
        assert repr(value) in str(caught.value)


def test_unknown_settings_are_refused_by_name() -> None:
    """An unknown setting is refused with its name and the most similar setting."""
    with pytest.raises(SettingError, match="unknown setting 'max_sise'; did you mean 'max_size'"):
        Settings.parse({"max_sise": "1"})
    with pytest.raises(SettingError, match="unknown setting 'zzz'; known are anonymous, "):
        Settings.parse({"zzz": "1"})


def test_a_bad_key_is_not_shown() -> None:
    """An error about a key does not contain the key."""
    with pytest.raises(SettingError) as caught:
        Settings.parse({"upload_key": ["secret", 5]})
    assert "secret" not in str(caught.value)


def test_the_defaults_are_safe() -> None:
    """The defaults have limits, signatures, durability and no cross-origin access."""
    settings = Settings()
    assert settings.max_size
    assert settings.max_files
    assert settings.max_fields_size
    assert settings.min_free_space
    assert settings.min_rate
    assert settings.durable
    assert settings.checksum == "sha256"
    assert [settings.anonymous, settings.jsonp, settings.downloads, settings.cors_origins] == [False] * 3 + [()]


def test_functions_are_found_by_name() -> None:
    """A function setting accepts the function or its name; an empty string means none."""
    assert parse_function(len) is len
    assert parse_function("") is None
    assert parse_function("os.path:join") is parse_function("os.path.join") is os.path.join
    assert parse_function("pathlib:Path.cwd") == Path.cwd


@pytest.mark.parametrize("name", ["x y", "os", "os:", "os:environ", "os:absent", "absent:f", ".os:getcwd", "1x:f"])
def test_names_of_no_function_are_refused(name: str) -> None:
    """An invalid function name is refused with the required form of a name."""
    with pytest.raises(ValueError, match=r"^a function as package\.module:function"):
        parse_function(name)
