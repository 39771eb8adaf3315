"""The measured servers, each with a name, a command, and requirements."""

from __future__ import annotations

import importlib.util
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fileupload.wsgi.request_body import MAX_READ, traits_of

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")

# The largest reads of our own reader on these servers, so that the bare loops read in the same way.
GRANIAN_READ = MAX_READ
GUNICORN_READ = traits_of("gunicorn").largest_read
DJANGO_READ = 64 << 10  # Django's default


@dataclass(frozen=True)
class Place:
    """The port and folders of a server; all its files are in memory.

    :ivar directory: where the server stores the uploads.
    :ivar scratch: for temporary files.
    """

    port: int
    directory: Path
    scratch: Path
    log: Path

    @classmethod
    def make(cls, folder: Path, port: int) -> Self:
        """Create the folders."""
        place = cls(port, folder / "stored", folder / "scratch", folder / "log")
        place.directory.mkdir(parents=True, mode=0o700)
        place.scratch.mkdir()
        return place


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A server that is measured.

    :ivar title: a description for the table.
    :ivar missing: returns the missing requirement, or "".
    :ivar method: POST sends a form; PUT sends the file as it is.
    :ivar ours: whether uploads need identifiers.
    :ivar bare: whether the server stores the whole body, including the form around the file.
    :ivar beside: the name of the bare loop on the same server.
    """

    name: str
    title: str
    command: Callable[[Place], list[str]]
    missing: Callable[[], str]
    method: str = "POST"
    ours: bool = False
    bare: bool = False
    beside: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def _modules(*names: str) -> Callable[[], str]:
    def missing() -> str:
        return ", ".join(f"Python package {name}" for name in names if importlib.util.find_spec(name) is None)

    return missing


def _nginx(place: Place) -> list[str]:
    program = _find_nginx()
    values = {"port": place.port, "directory": place.directory, "scratch": place.scratch}
    # nginx's workers give up root's rights, and could not write here.
    values["user"] = "user root;" if os.geteuid() == 0 else ""
    config = place.scratch / "nginx.conf"
    config.write_text(string.Template((PEERS / "nginx.conf").read_text()).substitute(values))
    return [program, "-p", str(place.scratch), "-c", str(config)]


def _find_nginx() -> str:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") or ""


def _serve(*settings: str) -> Callable[[Place], list[str]]:
    options = [argument for setting in settings for argument in ("--set", setting)]
    return lambda place: [
        sys.executable, "-m", "fileupload", "serve", "--port", str(place.port),
        "--directory", str(place.directory), "--max-size", "0", *options,
    ]  # fmt: skip


def _module(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [sys.executable, "-m", name, str(place.port)]


def _gunicorn(app: str) -> Callable[[Place], list[str]]:
    return lambda place: [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{place.port}", "--worker-class", "gthread",
        "--threads", "16", "--timeout", "300", "--keep-alive", "60", "--log-level", "error", app,
    ]  # fmt: skip


def _granian(app: str) -> Callable[[Place], list[str]]:
    return lambda place: [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(place.port),
        "--http", "1", "--no-ws", "--blocking-threads", "16", "--log-level", "error", app,
    ]  # fmt: skip


def _uvicorn(app: str) -> Callable[[Place], list[str]]:
    return lambda place: [
        sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(place.port),
        "--no-access-log", "--log-level", "error", app,
    ]  # fmt: skip


def _busboy(place: Place) -> list[str]:
    return ["node", str(PEERS / "busboy_server.js"), str(place.port)]


def _missing_busboy() -> str:
    if shutil.which("node") is None:
        return "node"
    if (PEERS / "node_modules" / "busboy").is_dir():
        return ""
    if shutil.which("npm") is None:
        return "npm, to install busboy"
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    try:
        subprocess.run(command, cwd=PEERS, stdout=sys.stderr, check=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as error:
        return f"npm package busboy ({error})"
    return ""


def _ours() -> Iterable[Contestant]:
    for name, title, settings in (
        ("ours", "sha256, durable", ()),
        ("ours-nosync", "sha256", ("durable=false",)),
        ("ours-nohash", "durable", ("checksum=none",)),
        ("ours-nohash-nosync", "neither", ("checksum=none", "durable=false")),
    ):
        yield Contestant(
            name=name,
            title=f"fileupload serve: {title}",
            command=_serve(*settings),
            missing=_modules("granian"),
            ours=True,
            beside="bare-granian",
        )


def _ours_on_gunicorn() -> Iterable[Contestant]:
    for name, title, checksum in (
        ("ours-gunicorn", "sha256", "sha256"),
        ("ours-gunicorn-nohash", "no sha256", "none"),
    ):
        yield Contestant(
            name=name,
            title=f"UploadMiddleware on gunicorn gthread: {title}, not durable",
            command=_gunicorn("bench.peers.fileupload_app:app"),
            missing=_modules("gunicorn"),
            ours=True,
            beside="bare-gunicorn",
            environment={"BENCH_CHECKSUM": checksum, "BENCH_DURABLE": "false"},
        )


def _starlette() -> Iterable[Contestant]:
    parts = [name for name in ("httptools", "uvloop") if importlib.util.find_spec(name)]
    for name, title, app in (
        ("starlette", "form()", "bench.peers.starlette_app:app"),
        ("starlette-stream", "stream(), parsed by hand", "bench.peers.starlette_stream:app"),
    ):
        yield Contestant(
            name=name,
            title=f"Starlette {title}, uvicorn with {' and '.join(parts) or 'h11 and asyncio'}",
            command=_uvicorn(app),
            missing=_modules("starlette", "uvicorn", "python_multipart"),
        )


def _django_and_flask() -> Iterable[Contestant]:
    """Yield both in their most common setup, and in the fastest one measured."""
    for name, framework, server, read in (
        ("django", "Django TemporaryFileUploadHandler", "gunicorn", DJANGO_READ),
        ("django-tuned", "Django TemporaryFileUploadHandler", "gunicorn", GUNICORN_READ),
        ("django-granian", "Django TemporaryFileUploadHandler", "granian", DJANGO_READ),
        ("flask", "Flask save()", "gunicorn", 0),
        ("flask-granian", "Flask save()", "granian", 0),
    ):
        module = name.partition("-")[0]
        app = f"bench.peers.{module}_app:app"
        yield Contestant(
            name=name,
            title=f"{framework}, {server}" + (f", chunks of {read >> 10} KiB" if read else ""),
            command=_gunicorn(app) if server == "gunicorn" else _granian(app),
            missing=_modules(module, server),
            environment={"BENCH_READ_SIZE": str(read)},
        )


CONTESTANTS = (
    Contestant(
        name="nginx",
        title="nginx PUT, the limit",
        command=_nginx,
        missing=lambda: "" if _find_nginx() else "nginx",
        method="PUT",
    ),
    *_ours(),
    Contestant(
        name="bare-granian",
        title=f"bare loop, granian as in fileupload serve, reads of {GRANIAN_READ >> 10} KiB",
        command=_module("bench.peers.bare_granian"),
        missing=_modules("granian"),
        bare=True,
        environment={"BENCH_READ_SIZE": str(GRANIAN_READ)},
    ),
    *_ours_on_gunicorn(),
    Contestant(
        name="bare-gunicorn",
        title=f"bare loop, gunicorn gthread, reads of {GUNICORN_READ >> 10} KiB",
        command=_gunicorn("bench.peers.bare:app"),
        missing=_modules("gunicorn"),
        bare=True,
        environment={"BENCH_READ_SIZE": str(GUNICORN_READ)},
    ),
    Contestant(
        name="busboy",
        title="busboy on Node",
        command=_busboy,
        missing=_missing_busboy,
    ),
    *_starlette(),
    *_django_and_flask(),
)
