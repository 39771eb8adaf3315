"""Paste deployment: the filter, the app and the sample, loaded as by a server."""

import shutil
from pathlib import Path

import pytest
import webtest
from paste.deploy import loadapp

from fileupload.cli.commands import listen_options
from fileupload.cli.main import main
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


ENTRY_POINTS = {
    "filter:upload": "egg:fileupload",
    "app:upload": "egg:fileupload",
    "filter:attachments": "egg:fileupload#attachments",
    "app:attachments": "egg:fileupload#attachments",
    "filter:records": "egg:fileupload#records",
    "app:s3fileup": "egg:fileupload#s3fileup",
}


def section_of(entry_point: str, directory: Path, directives: str) -> tuple[str, str]:
    """Return a Paste file with one entry point, which has these directives, and the name of its app."""
    kind, _, name = entry_point.partition(":")
    text = f"[{entry_point}]\nuse = {ENTRY_POINTS[entry_point]}\ndirectory = {directory / 'pool'}\n{directives}\n"
    if kind == "app":
        return text, name
    return f"{text}[pipeline:main]\npipeline = {name} page\n[app:page]\nuse = egg:fileupload#page\n", "main"


@pytest.mark.parametrize("name", ["max_size", "upload_key", "path"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_global_setting_stops_the_start(tmp_path: Path, entry_point: str, name: str) -> None:
    """A setting in [DEFAULT] hides that of the section, so it is refused by name; its value is not shown."""
    text, app = section_of(entry_point, tmp_path, f"{name} = /one-secret-of-a-section")
    with pytest.raises(SettingError, match=f"'{name}' is global") as caught:
        load(tmp_path, f"[DEFAULT]\n{name} = /one-secret-value\n{text}", app)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_setting_that_is_set_stops_the_start(tmp_path: Path, entry_point: str) -> None:
    """The directive ``set`` of Paste makes a name global, so it is refused as well."""
    text, app = section_of(entry_point, tmp_path, "set max_size = 1")
    with pytest.raises(SettingError, match="'max_size' is global"):
        load(tmp_path, text, app)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_setting_among_the_variables_of_the_server_stops_the_start(tmp_path: Path, entry_point: str) -> None:
    """A variable that the server passes hides the directive of the section, so it is refused as well."""
    text, app = section_of(entry_point, tmp_path, "max_size = 1")
    (tmp_path / "paste.ini").write_text(text)
    with pytest.raises(SettingError, match="'max_size' is global"):
        loadapp(f"config:{tmp_path / 'paste.ini'}", name=app, global_conf={"max_size": "5"})


def test_rules_for_some_records_are_not_global_either(tmp_path: Path) -> None:
    """The setting ``resources.…`` of record attachments is refused in [DEFAULT] too."""
    text, app = section_of("filter:records", tmp_path, "")
    with pytest.raises(SettingError, match=r"'resources.blog.randomize' is global"):
        load(tmp_path, f"[DEFAULT]\nresources.blog.randomize = false\n{text}", app)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_section_can_take_a_global_value(tmp_path: Path, entry_point: str) -> None:
    """With ``get max_size = max_size`` a section has the value of [DEFAULT]; other global names do not matter."""
    text, app = section_of(entry_point, tmp_path, "get max_size = max_size")
    loaded = load(tmp_path, f"[DEFAULT]\nmax_size = 3\ndebug = true\n{text}", app)
    assert loaded.app.manager.settings.max_size == 3 << 20


def test_the_command_line_names_a_global_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fileupload serve` and `records gc` report a global setting in one sentence."""
    text, _ = section_of("filter:records", tmp_path, "max_size = 1")
    (tmp_path / "paste.ini").write_text(f"[DEFAULT]\nmax_size = 5\n{text}")
    (tmp_path / "pool").mkdir()
    for command in ("serve", "records gc --server http://127.0.0.1:1"):
        assert main([*command.split(), str(tmp_path / "paste.ini")]) == 1
        assert capsys.readouterr().err.startswith("fileupload: setting 'max_size' is global here")


def test_the_page_has_no_settings(tmp_path: Path) -> None:
    """A directive in a section of the page is refused with its name, and where it belongs."""
    with pytest.raises(SettingError, match="'max_size'; the settings of uploads belong to the filter"):
        load(tmp_path, "[app:main]\nuse = egg:fileupload#page\nmax_size = 1\n")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("name", ["app", "self", "global_conf", "settings"])
def test_no_directive_is_taken_for_an_argument(tmp_path: Path, entry_point: str, name: str) -> None:
    """A directive with the name of a parameter of the component is an unknown setting like any other."""
    text, app = section_of(entry_point, tmp_path, f"{name} = x")
    with pytest.raises(SettingError, match=f"unknown setting '{name}'"):
        load(tmp_path, text, app)


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
