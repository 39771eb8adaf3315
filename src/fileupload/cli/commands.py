"""Commands of the command line: serve, key, identifier, status, ls and clear."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from configparser import Error as ConfigError
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from fileupload.cli.answer import Answer, CommandError
from fileupload.deploy import make_manager, make_server_app
from fileupload.errors import SettingError
from fileupload.events import log_event
from fileupload.formatting import format_size
from fileupload.identifiers import is_id, new_key
from fileupload.manager import UploadManager
from fileupload.pool.base import Bucket
from fileupload.server.granian import ServerOptions
from fileupload.server.granian import serve as run_server
from fileupload.server.granian import settings_of as settings_of_app
from fileupload.server.log_format import configure_logging
from fileupload.settings import Settings
from fileupload.status import State, UploadStatus

_SERVER_OPTIONS = ("host", "port", "workers", "threads", "idle_timeout", "log_format")


def serve(options: argparse.Namespace) -> None:
    """Run the server until it is stopped."""
    configure_logging(options.log_format)
    if options.config:
        path, _, name = options.config.partition("#")
        make_app: Callable[[], WSGIApplication] = partial(_load_paste, os.path.abspath(path), name or None)
        listening = listen_options(path)
    else:
        make_app, listening = partial(make_server_app, settings_of(options, max_size=options.max_size)), {}
    app = make_app()  # reports invalid settings here, and not in each worker
    given = {name: getattr(options, name) for name in _SERVER_OPTIONS}
    listening.update((name, value) for name, value in given.items() if value is not None)
    run_server(make_app, ServerOptions(**listening), partial(_announce, options.log_format), settings_of_app(app))


def _announce(log_format: str, url: str) -> None:
    """Tell the URL of the running server: on standard output, or as an event of the log if that is for programs."""
    if log_format == "json":
        log_event(logging.INFO, "the server accepts connections", {"url": url})
    else:
        print(url, flush=True)


def key(options: argparse.Namespace) -> Answer:
    """Generate a signing key."""
    made = new_key()
    return Answer({"key": made}, made)


def identifier(options: argparse.Namespace) -> Answer:
    """Create identifiers."""
    manager = open_manager(options)
    try:
        made = [
            manager.create_identifier(
                max_size=options.max_size, max_age=options.max_age, content_types=options.content_type
            )
            for _ in range(options.count)
        ]
    except ValueError as error:
        raise CommandError(f"an option is invalid; it must be {error}") from None
    return Answer({"identifiers": made} if options.count != 1 else {"identifier": made[0]}, "\n".join(made))


def status(options: argparse.Namespace) -> Answer:
    """Show the status of an upload."""
    manager = open_manager(options)
    bucket = _find(manager, options.identifier)
    found = bucket.get_status()
    return Answer(found.to_json(), _describe(found))


def ls(options: argparse.Namespace) -> Answer:
    """List the uploads of the pool."""
    rows = [(bucket.id, bucket.get_status()) for bucket in open_manager(options).pool.buckets()]
    data = [{**found.to_json(), "identifier": None, "id": bucket_id} for bucket_id, found in rows]
    for row in data:
        del row["identifier"]
    lines = [
        f"{bucket_id}  {found.state:<9}  {format_size(found.received):>9}  {found.started or '-':<24}  {found.filename}"
        for bucket_id, found in rows
    ]
    return Answer({"uploads": data}, "\n".join(lines) or "The pool is empty.")


def clear(options: argparse.Namespace) -> Answer:
    """Remove an upload."""
    bucket = _find(open_manager(options), options.identifier)
    return Answer({"cleared": bucket.clear_upload()}, "The upload is removed.")


def settings_of(options: argparse.Namespace, *, max_size: str | None = None) -> Settings:
    """Return the settings from the command-line options, and from ``$FILEUPLOAD_DIRECTORY``.

    :param max_size: the value of the server's option; other commands have one of the same name for something else.
    :raises SettingError: a name is unknown, or a value is invalid.
    """
    values: dict[str, Any] = dict(options.set)
    directory = options.directory or values.get("directory") or os.environ.get("FILEUPLOAD_DIRECTORY")
    if directory or not values.get("pool"):
        values["directory"] = directory or "uploads"
    given = {
        "max_size": max_size,
        "upload_key": getattr(options, "key", None),
        "anonymous": getattr(options, "anonymous", None),
        "cors_origins": getattr(options, "cors_origin", None),
    }
    values.update((name, value) for name, value in given.items() if value)
    return Settings.parse(values)


def open_manager(options: argparse.Namespace) -> UploadManager:
    """Return the upload manager of an existing pool.

    :raises SettingError: there is no such pool, or a setting is invalid.
    """
    settings = settings_of(options)
    if settings.directory and not os.path.isdir(settings.directory):
        raise SettingError(f"there is no pool in {settings.directory!r}; name it with --directory")
    return make_manager(settings)


def _find(manager: UploadManager, name: str) -> Bucket:
    """Return the bucket of an identifier, or of the id that ``ls`` shows.

    An id has no signature and needs none: a process that can read the pool can read every bucket.

    :raises CommandError: there is no such bucket.
    """
    bucket = manager.pool.find_bucket(name) if is_id(name) else manager.access_upload_bucket(name)
    if bucket is None:
        known = is_id(name) or manager.verify_identifier(name)
        raise CommandError("there is no upload with this identifier" if known else "this identifier is not valid")
    return bucket


def _describe(found: UploadStatus) -> str:
    size = "?" if found.size is None else format_size(found.size)
    unnamed = "(no file)" if found.state is State.DONE and not found.files else "(no name yet)"
    lines = [f"{found.state}: {found.filename or unnamed}, {format_size(found.received)} of {size}"]
    if found.state is State.ERROR:
        lines.append(f"{found.error} ({found.code})")
    lines.extend(
        f"  {file.filename}  {format_size(file.size)}  {file.content_type}  {file.sha256 or ''}" for file in found.files
    )
    return "\n".join(lines)


def _load_paste(path: str, name: str | None) -> WSGIApplication:
    from paste.deploy import loadapp

    # Other servers do the same: modules in the current directory can be imported.
    sys.path.insert(0, os.getcwd())
    try:
        app: WSGIApplication = loadapp("config:" + path, name=name)
    except (LookupError, ImportError, ValueError, SyntaxError, ConfigError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"{path!r} cannot be loaded: {error.args[0] if error.args else error}") from None
    return app


def open_paste_file(path: str) -> Any:
    """Return a ``paste.deploy.loadwsgi.ConfigLoader`` of the Paste file at *path*; none of its apps is loaded.

    :raises SettingError: it cannot be read, or is not a Paste file.
    """
    from paste.deploy.loadwsgi import ConfigLoader

    try:
        return ConfigLoader(path)
    except FileNotFoundError:
        raise SettingError(f"there is no file {path!r}") from None
    except OSError as error:
        raise SettingError(f"{path!r} cannot be read: {error.strerror}") from None
    except (ConfigError, UnicodeDecodeError) as error:
        raise SettingError(f"{path!r} is not a valid Paste file: {error}") from None


def listen_options(path: str) -> dict[str, Any]:
    """Return the host and port of ``[server:main]`` in the Paste file at *path*.

    The section may use any server: only its directives are read, and the server that it names need not be installed.

    :raises SettingError: the file cannot be read, or the port is not a number.
    """
    parser = open_paste_file(path).parser
    if not parser.has_section("server:main"):
        return {}
    try:
        section = dict(parser["server:main"])
    except ConfigError as error:
        raise SettingError(f"{path!r} is not a valid Paste file: {error}") from None
    listening: dict[str, Any] = {name: section[name] for name in ("host", "port") if name in section}
    if "port" in listening:
        try:
            listening["port"] = int(listening["port"])
        except ValueError:
            raise SettingError(f"'port' in {path!r} cannot be {listening['port']!r}; it must be a number") from None
    return listening
