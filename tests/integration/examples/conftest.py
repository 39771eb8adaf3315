"""Starts the examples under real servers, each in a copy of its folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.folders import files_in
from tests.support.processes import start_group, stop_group, wait_for_line
from tests.support.waiting import PATIENCE

EXAMPLES = Path(__file__).parents[3] / "examples"
GUNICORN = ("gunicorn", "--threads", "8", "--bind", "127.0.0.1:0")


@dataclass(frozen=True)
class Recipe:
    """The start of an example: its folder, the modules that it needs, and the arguments of ``python``."""

    folder: str
    modules: tuple[str, ...]
    serve: tuple[str, ...]
    pool: str
    prepare: tuple[str, ...] = ()


FLASK = ("flask", ("flask", "gunicorn"), ("-m", *GUNICORN, "app:create_app()"), "instance/pool")
PYRAMID_MODULES = ("pyramid", "pyramid_jinja2", "gunicorn")
MIGRATE = ("manage.py", "migrate", "--verbosity", "0")

RECIPES = {
    "flask": Recipe(*FLASK),
    "django": Recipe("django", ("django", "gunicorn"), ("-m", *GUNICORN, "demo.wsgi"), "var/pool", MIGRATE),
    "django-waitress": Recipe(
        "django",
        ("django", "waitress"),
        ("-m", "waitress", "--listen=127.0.0.1:0", "demo.wsgi:application"),
        "var/pool",
        MIGRATE,
    ),
    "django-attachments": Recipe(
        "django-attachments", ("django", "gunicorn"), ("-m", *GUNICORN, "letters.wsgi"), "var/pool"
    ),
    "s3fileup": Recipe("s3fileup", ("flask", "gunicorn"), ("-m", *GUNICORN, "app:create_app()"), "instance/pool"),
    "pyramid": Recipe("pyramid", PYRAMID_MODULES, ("-m", *GUNICORN, "--paste", "demo.ini"), "var/pool"),
    "pyramid-granian": Recipe(
        "pyramid",
        ("pyramid", "pyramid_jinja2", "granian"),
        ("-m", "fileupload", "serve", "--port", "0", "demo.ini"),
        "var/pool",
    ),
}


@dataclass(frozen=True)
class ExampleSite:
    """A running example."""

    url: str
    folder: Path
    pool: Path

    def in_pool(self) -> list[Path]:
        """Return the files of uploads in the pool."""
        return [path for path in files_in(self.pool) if not path.name.startswith((".upload_key", ".turn", ".refusals"))]


Launch = Callable[..., str]
Start = Callable[..., ExampleSite]


def _environment(home: Path, **variables: str) -> dict[str, str]:
    # gunicorn keeps a socket in the home folder, and FLASK_ variables would configure the example.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    return {**inherited, "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables}


def _need(*modules: str, program: str | None = None) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if program and shutil.which(program) is None:
        missing.append(program)
    if missing and os.environ.get("FILEUPLOAD_REQUIRE_ALL") == "1":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def need() -> Callable[..., None]:
    """Skip the test where one of the modules, or the program, is missing; or fail it if all are required."""
    return _need


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Run ``python`` with arguments in a folder, until the end of the test; return the address it prints."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(arguments: tuple[str, ...], folder: Path, **variables: str) -> str:
        log = tmp_path / f"server-{len(processes)}.log"
        process = start_group([sys.executable, *arguments], log, cwd=folder, env=_environment(tmp_path, **variables))
        processes.append(process)
        (address,) = wait_for_line(process, log, r"(http://127\.0\.0\.1:[1-9]\d*)")
        return address

    yield run
    for process in processes:
        stop_group(process)


@pytest.fixture
def start(launch: Launch, tmp_path: Path) -> Start:
    """Start an example, by the name of its recipe, in a copy of its folder."""

    def run(name: str, **variables: str) -> ExampleSite:
        recipe = RECIPES[name]
        _need(*recipe.modules)
        folder = tmp_path / recipe.folder
        ignored = shutil.ignore_patterns("instance", "var", ".venv", "__pycache__")
        shutil.copytree(EXAMPLES / recipe.folder, folder, ignore=ignored, dirs_exist_ok=True)
        if recipe.prepare:
            subprocess.run([sys.executable, *recipe.prepare], cwd=folder, check=True, timeout=PATIENCE)
        return ExampleSite(launch(recipe.serve, folder, **variables), folder, folder / recipe.pool)

    return run
