"""The sdist and the wheel, built as for a package index, and installed."""

from __future__ import annotations

import email
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 600  # seconds; the tools download what they need

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="build is not installed"),
]


def run(*arguments: str, folder: Path) -> str:
    """Run a command; return its output."""
    done = subprocess.run(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy of the checkout that has been used; return the folder that has them."""
    checkout = tmp_path_factory.mktemp("dist") / "checkout"
    ignored = shutil.ignore_patterns(
        ".git",
        ".venv",
        "node_modules",
        "build",
        "dist",
        "*.egg-info",
        "uploads",
        "results",
        "var",
        "instance",
        ".*_cache",
    )
    shutil.copytree(ROOT, checkout, ignore=ignored, symlinks=True)
    for junk in (
        "uploads/.upload_key",
        "bench/results/1.json",
        "examples/flask/instance/pool/.upload_key",
        "examples/kinto/var/file",
        "examples/django/.venv/bin/python",
        "tests/integration/browser/uppy/node_modules/uppy.js",
        "tests/unit/__pycache__/test_a.pyc",
    ):
        path = checkout / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run(sys.executable, "-m", "build", folder=checkout)
    return checkout / "dist"


def names_in_sdist(dist: Path) -> set[str]:
    [path] = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}


def test_a_package_index_accepts_both(dist: Path) -> None:
    """twine finds no fault: the README renders, and the metadata is complete."""
    told = run(sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir()), folder=dist)
    assert told.count("PASSED") == 2


def test_the_sdist_has_everything_but_leftovers(dist: Path) -> None:
    """The sdist has the documentation, examples, tests and the sample, and nothing that running them leaves."""
    names = names_in_sdist(dist)
    assert names >= {
        "CHANGES.txt", "LICENSE.txt", "Makefile", "README.txt", "paste.ini.sample", ".ci/run", "bench/__main__.py",
        "docs/deployment.txt", "docs/upload-page.png", "examples/flask/app.py", "examples/flask/templates/form.html",
        "examples/django/demo/static/demo/style.css", "src/fileupload/static/fileupload.js", "tests/conftest.py",
        "tests/system/test_distribution.py",
    }  # fmt: skip
    for folder in ("docs", "examples", "tests", "bench", "src"):
        files = {
            path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in {".txt", ".py", ".html"}
        }
        left_out = {str(path.relative_to(ROOT)) for path in files} - names
        assert {
            name for name in left_out if not set(Path(name).parts) & {"var", "instance", ".venv", "node_modules"}
        } == {name for name in left_out if "egg-info" in name}
    leftovers = ("node_modules", ".venv/", "instance/", "/var/", "uploads/.", "results/", ".pyc")
    assert [name for name in names if any(part in name for part in leftovers)] == []


def test_the_wheel_has_the_package_alone(dist: Path) -> None:
    """The wheel has the package with its data, the licence and the metadata, and no other folder."""
    [path] = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        [metadata] = [email.message_from_bytes(wheel.read(name)) for name in names if name.endswith("/METADATA")]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fileupload"}
    package = ROOT / "src/fileupload"
    files = {f"fileupload/{file.relative_to(package)}" for file in package.rglob("*") if file.is_file()}
    assert {name for name in names if name.startswith("fileupload/")} == {
        name for name in files if "__pycache__" not in name
    }
    assert any(name.endswith("licenses/LICENSE.txt") for name in names)
    assert metadata["Description-Content-Type"] == "text/x-rst"
    assert "Project-URL" not in metadata  # the project has no page; the name on PyPI is that of another one
    assert "Home-page" not in metadata


def test_the_wheel_works_when_it_is_installed(dist: Path, tmp_path: Path) -> None:
    """In an environment of its own, the middleware and the page are complete; so is the sdist."""
    run(sys.executable, "-m", "venv", "env", folder=tmp_path)
    python = str(tmp_path / "env/bin/python")
    program = """if True:
        import webob
        from fileupload.deploy import make_server_app
        from fileupload.settings import Settings
        app = make_server_app(Settings.parse({"directory": "pool", "anonymous": True}))
        for path in ("/", "/static/page.js", "/static/fileupload.css", "/upload/fileupload.js"):
            assert webob.Request.blank(path).get_response(app).status_code == 200, path
    """
    for pattern in ("*.whl", "*.tar.gz"):
        [path] = dist.glob(pattern)
        run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", str(path), folder=tmp_path)
        run(python, "-I", "-c", program, folder=tmp_path)
