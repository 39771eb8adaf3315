"""Paste deployment: the filter, the app and the sample, loaded as by a server."""

import shutil
from pathlib import Path

import pytest
import webtest
from paste.deploy import loadapp

from fileupload.cli.commands import listen_options
from fileupload.errors import SettingError

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "paste.ini.sample"


def load(tmp_path: Path, text: str, name: str = "main") -> webtest.TestApp:
    """Load the app *name* of a Paste file."""
    (tmp_path / "paste.ini").write_text(text)
    return webtest.TestApp(loadapp(f"config:{tmp_path / 'paste.ini'}", name=name))


@pytest.mark.parametrize("name", ["main", "server"])
def test_the_sample_runs_as_it_is(tmp_path: Path, name: str) -> None:
    """Both applications in paste.ini.sample accept an upload, and share the pool."""
    shutil.copy(SAMPLE, tmp_path / "paste.ini.sample")
    app = webtest.TestApp(loadapp(f"config:{tmp_path / 'paste.ini.sample'}", name=name))
    identifier = app.post("/upload/identifier").json["identifier"]
    app.put(f"/upload?X-Progress-ID={identifier}&filename=a", b"bytes")
    assert app.get(f"/upload/status?X-Progress-ID={identifier}").json["state"] == "done"
    other = {"main": "server", "server": "main"}[name]
    second = webtest.TestApp(loadapp(f"config:{tmp_path / 'paste.ini.sample'}", name=other))
    assert second.get(f"/upload/status?X-Progress-ID={identifier}").json["state"] == "done"


def test_a_filter_takes_the_predecessors_directives(tmp_path: Path) -> None:
    """The directives directory, max_size, upload_url and upload_key work as in the predecessor."""
    app = load(
        tmp_path,
        """
        [pipeline:main]
        pipeline = upload page
        [filter:upload]
        use = egg:fileupload
        directory = %(here)s/pool
        max_size = 1
        upload_key = a key that is long enough
        upload_url = http://localhost:8081/files
        [app:page]
        use = egg:fileupload#page
        """.replace("\n        ", "\n"),
    )
    manager = app.app.manager
    assert manager.settings.max_size == 1 << 20
    assert manager.upload_url == "http://localhost:8081/files/upload"
    assert (tmp_path / "pool").is_dir()


@pytest.mark.parametrize(
    ("directives", "sentence"),
    [
        ("directory = p\nmax_sise = 1", "unknown setting 'max_sise'; did you mean 'max_size'?"),
        ("directory = p\nmax_size = big", "setting 'max_size' cannot be 'big'; it must be a size"),
        ("max_size = 1", "setting 'directory' is missing"),
        ("directory = p\nupload_url = x", "setting 'upload_url' cannot be 'x'"),
    ],
)
@pytest.mark.parametrize("kind", ["app", "filter"])
def test_bad_directives_stop_the_start(tmp_path: Path, kind: str, directives: str, sentence: str) -> None:
    """An unknown or invalid directive is refused with its name and the accepted values."""
    directives = directives.replace("directory = p", f"directory = {tmp_path / 'p'}")
    text = f"[{kind}:main]\nuse = egg:fileupload\n{directives}\n"
    if kind == "filter":
        text = text.replace("filter:main", "filter:f") + "[app:x]\nuse = egg:fileupload#page\n"
        text += "[pipeline:main]\npipeline = f x\n"
    with pytest.raises(SettingError) as caught:
        load(tmp_path, text)
    assert sentence in str(caught.value)


def test_the_server_section_is_read_without_its_server(tmp_path: Path) -> None:
    """`fileupload serve` reads only host and port of a Paste file, whose server need not be installed."""
    path = tmp_path / "paste.ini"
    path.write_text("[DEFAULT]\nnumber = 8081\n[server:main]\nuse = egg:absent\nhost = ::1\nport = %(number)s\n")
    assert listen_options(str(path)) == {"host": "::1", "port": 8081}
    path.write_text("[app:main]\nuse = egg:fileupload#page\n")
    assert listen_options(str(path)) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port = 80", "is not a valid Paste file"),
        ("[server:main]\nport = %(absent)s", "is not a valid Paste file"),
        ("[server:main]\nport = eighty", "'port' in .* cannot be 'eighty'; it must be a number"),
    ],
)
def test_a_bad_server_section_stops_the_start(tmp_path: Path, text: str, sentence: str) -> None:
    """An unreadable Paste file or a port that is not a number is refused with a sentence."""
    path = tmp_path / "paste.ini"
    path.write_text(text)
    with pytest.raises(SettingError, match=sentence):
        listen_options(str(path))


def test_every_setting_is_in_the_readme() -> None:
    """The table of directives in README.txt lists all settings, and no others."""
    import dataclasses
    import re

    from fileupload.settings import Settings

    text = (ROOT / "README.txt").read_text(encoding="utf-8")
    table = text.partition("Settings\n--------")[2]
    named = set(re.findall(r"^``(\w+)``", table, re.MULTILINE))
    assert named == {field.name for field in dataclasses.fields(Settings)}
