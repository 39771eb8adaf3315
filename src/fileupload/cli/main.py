"""Command line of fileupload: the parser of its options, and the output of answers and errors.

The commands themselves are in the other modules of this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fileupload.cli.answer import Answer, CommandError
from fileupload.errors import SettingError, UploadError
from fileupload.settings import parse_count, parse_days, parse_duration, parse_origins

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: the command-line arguments; ``sys.argv`` if None.
    :return: the exit status: 0 for success, 1 for failure, 2 for a usage error.
    """
    try:
        try:
            options = _parser().parse_args(arguments)
        except SystemExit:  # after --help, --version and usage errors
            sys.stdout.flush()
            raise
        failed = _run(options)
        # Here, and not when the interpreter ends: an error must not be lost, and is no traceback.
        sys.stdout.flush()
        return failed
    except BrokenPipeError:  # the reader of the pipe has closed it
        _discard_output()
        return 1
    except OSError as error:
        _discard_output()
        print(f"fileupload: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    """Run the command of *options*, and print its answer; return the exit status.

    :raises OSError: standard output cannot be written.
    """
    try:
        answer = options.run(options)
    except (SettingError, UploadError, CommandError) as error:
        return _print_error(options, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _print_error(options, f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    if answer is None:
        return 0
    print(json.dumps(answer.data, ensure_ascii=False, indent=2) if options.json else answer.text)
    return 1 if answer.failed else 0


def _discard_output() -> None:
    """Discard what was not written to standard output, which the interpreter would try to write when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(options: argparse.Namespace, message: str) -> int:
    if options.json:
        print(json.dumps({"error": message}, ensure_ascii=False))
    print(f"fileupload: {message}", file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    """A parser that reports if standard output cannot be written; argparse itself ignores that."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


class _Version(argparse.Action):
    """Prints the version of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("fileupload")
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"fileupload {found}")
        parser.exit()


def _command(module: str, name: str) -> Callable[[argparse.Namespace], Answer | None]:
    """Return a command that is imported when it runs, so that ``--help`` loads none of them."""

    def run(options: argparse.Namespace) -> Answer | None:
        answer: Answer | None = getattr(import_module(f"fileupload.cli.{module}"), name)(options)
        return answer

    return run


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fileupload",
        description="Upload server, and tools for its pool.",
        epilog="example: fileupload serve --anonymous --directory /srv/uploads",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands_ = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands_)
    _add(
        commands_, "settings", _command("settings_command", "settings"), "list all settings with their defaults",
        "fileupload settings", pool=False,
    )  # fmt: skip
    _add(commands_, "key", _command("commands", "key"), "generate a signing key", "fileupload key", pool=False)
    command = _add(
        commands_, "identifier", _command("commands", "identifier"), "create upload identifiers for a pool",
        "fileupload identifier --directory /srv/uploads --max-size 20",
    )  # fmt: skip
    command.add_argument("--max-size", metavar="MB", help="maximum size of the upload, in megabytes (or 500K, 2G)")
    command.add_argument(
        "--max-age", metavar="TIME", help="time after which it can no longer start an upload: 90s, 15m, 2h, 3d"
    )
    command.add_argument(
        "--content-type",
        action="append",
        default=[],
        metavar="TYPE",
        help="accepted media type, such as image/*; may be repeated",
    )
    command.add_argument(
        "--count", type=_type_of(parse_count), default=1, metavar="N", help="number of identifiers (default: 1)"
    )
    command = _add(
        commands_,
        "status",
        _command("commands", "status"),
        "show the status of an upload",
        "fileupload status IDENTIFIER",
    )
    command.add_argument("identifier", help="the identifier, or the id that `ls` shows")
    _add_get(commands_)
    _add(
        commands_,
        "ls",
        _command("commands", "ls"),
        "list the uploads of a pool",
        "fileupload ls --directory /srv/uploads",
    )
    command = _add(
        commands_,
        "clear",
        _command("commands", "clear"),
        "remove an upload, finished or running",
        "fileupload clear IDENTIFIER",
    )
    command.add_argument("identifier", help="the identifier, or the id that `ls` shows")
    _add_purge(
        commands_, "purge", "remove the uploads of all applications without recent activity",
        "fileupload purge --older-than 3 --dry-run",
    )  # fmt: skip
    _add_pool(commands_)
    _add_records(commands_)
    attachments = _add_group(
        commands_, "attachments", "remove outdated session attachments", "fileupload attachments purge --help"
    )
    _add_purge(
        attachments, "purge_attachments", "remove outdated session attachments, and no other upload of the pool",
        "fileupload attachments purge --older-than 3 --dry-run",
    )  # fmt: skip
    return parser


def _add_purge(commands_: Any, function: str, text: str, example: str) -> None:
    command = _add(commands_, "purge", _command("purge_commands", function), text, example)
    command.add_argument(
        "--older-than",
        required=True,
        type=_type_of(parse_days),
        metavar="TIME",
        help="age in days, or a time such as 36h or 90m",
    )
    command.add_argument("--dry-run", action="store_true", help="only report what would be removed")
    command.add_argument("--yes", action="store_true", help="do not ask; without a terminal, the command never asks")


def _add_serve(commands_: Any) -> None:
    command = _add(
        commands_, "serve", _command("commands", "serve"), "run an upload server",
        "fileupload serve --anonymous --port 8080, or: fileupload serve paste.ini",
    )  # fmt: skip
    command.add_argument("config", nargs="?", metavar="PASTE_INI", help="serve the app of this Paste file instead")
    command.add_argument("--host", help="host to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=_port, metavar="N", help="port to listen on; 0: any free port (default: 8080)")
    command.add_argument(
        "--workers",
        type=_type_of(parse_count),
        metavar="N",
        help="number of worker processes (default: one per processor, at most 4)",
    )
    command.add_argument(
        "--threads",
        type=_type_of(parse_count),
        metavar="N",
        help="concurrent requests per worker process (default: 1024)",
    )
    command.add_argument(
        "--idle-timeout",
        "--silence",
        dest="idle_timeout",
        type=_type_of(parse_duration),
        metavar="TIME",
        help="close connections whose client sends no byte of a body, or reads no byte of an answer, for this time "
        "(default: 60s)",
    )
    command.add_argument(
        "--log-format", choices=("text", "json"), default="text",
        help="format of the log on standard error; json: one object a line (default: text)",
    )  # fmt: skip
    command.add_argument(
        "--max-size", metavar="MB", help="maximum size of an upload, in megabytes (or 500K, 2G); 0: no limit"
    )
    command.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="signing key; may be repeated, newest first (better: $FILEUPLOAD_UPLOAD_KEY, which others cannot see)",
    )
    command.add_argument("--anonymous", action="store_true", help="create identifiers for any client")
    command.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="origin whose pages may upload, such as https://a.example; may be repeated",
    )


def _add_get(commands_: Any) -> None:
    command = _add(
        commands_, "get", _command("get_command", "get"), "write the files of a finished upload to a file or directory",
        "fileupload get IDENTIFIER -o report.pdf",
    )  # fmt: skip
    command.add_argument("identifier", help="the identifier, or the id that `ls` shows")
    command.add_argument(
        "-o", "--output", default="-", metavar="FILE",
        help="file to write; a directory: all files of the upload, under their own names; -: standard output (default)",
    )  # fmt: skip
    command.add_argument("--force", action="store_true", help="replace files that exist")


def _add_pool(commands_: Any) -> None:
    commands_ = _add_group(commands_, "pool", "set up the storage of a pool", "fileupload pool setup --help")
    command = _add(
        commands_, "setup", _command("pool_commands", "setup"),
        "install the lifecycle and CORS rules of a pool in its object store",
        "fileupload pool setup --set pool=s3://my-bucket/uploads --origin https://www.example.com",
    )  # fmt: skip
    command.add_argument(
        "--abort-after", type=_type_of(parse_count), default=7, metavar="DAYS",
        help="days after which the store aborts an unfinished multipart upload (default: 7)",
    )  # fmt: skip
    command.add_argument(
        "--origin", action="extend", type=_type_of(parse_origins), default=[], metavar="ORIGIN",
        help="origin whose pages may upload, such as https://www.example.com; may be repeated (default: cors_origins)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only report what would be done")


def _add_records(commands_: Any) -> None:
    commands_ = _add_group(
        commands_, "records", "upload, download, import and garbage-collect the files of records",
        "fileupload records upload --help",
    )  # fmt: skip
    there = "--server http://127.0.0.1:8888/v1 --bucket blog --collection pictures"
    command = _add(
        commands_, "upload", _command("record_commands", "upload"), "upload files, each as the attachment of a record",
        f"fileupload records upload {there} *.png", pool=False,
    )  # fmt: skip
    _add_collection(command)
    command.add_argument(
        "--gzip", action="store_true", help="compress the files; the records describe the original file too"
    )
    command.add_argument("--force", action="store_true", help="upload files that are up to date, too")
    command.add_argument("files", nargs="+", metavar="FILE", help="file to upload")
    command = _add(
        commands_, "download", _command("record_commands", "download"),
        "download the files of all records of a collection",
        f"fileupload records download {there} --folder pictures", pool=False,
    )  # fmt: skip
    _add_collection(command)
    command.add_argument(
        "--folder", default=".", metavar="DIR", help="target directory (default: the current directory)"
    )
    _add_gc(commands_)
    _add_import(commands_)


def _add_import(commands_: Any) -> None:
    command = _add(
        commands_, "import", _command("record_commands", "import_files"),
        "enter files that kinto-attachment has stored into the ledger of their records; nothing is moved or removed",
        "fileupload records import kinto.ini --server http://127.0.0.1:8888/v1 --dry-run",
    )  # fmt: skip
    _add_filter(command)
    _add_server(command)
    command.add_argument(
        "--base-url", action="append", default=[], metavar="URL",
        help="URL prefix of the locations in the records, if it is not base_url; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--verify", action="store_true", help="read each file, and compare its SHA-256, not only its size"
    )
    command.add_argument("--dry-run", action="store_true", help="only report what would be imported")


def _add_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "config",
        nargs="?",
        metavar="PASTE_INI",
        help="Paste file with the filter; --set overrides its settings",
    )


def _add_gc(commands_: Any) -> None:
    command = _add(
        commands_, "gc", _command("record_commands", "gc"),
        "remove the files that no record refers to (garbage collection)",
        "fileupload records gc kinto.ini --server http://127.0.0.1:8888/v1 --dry-run",
    )  # fmt: skip
    _add_filter(command)
    _add_server(command)
    command.add_argument(
        "--older-than", type=_type_of(parse_days), default=3600.0, metavar="TIME",
        help="time after which a file without a record is garbage, in days (or 36h, 90m); younger ones may still be "
        "on their way into a record (default: 1h)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only report what would be removed")
    command.add_argument(
        "--all-gone",
        action="store_true",
        help="continue even if the server (other than Kinto) knows none of the records",
    )


def _add_collection(command: argparse.ArgumentParser) -> None:
    _add_server(command)
    command.add_argument("--bucket", required=True, metavar="ID", help="Kinto bucket of the collection")
    command.add_argument("--collection", required=True, metavar="ID", help="collection of the records")


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--server",
        required=True,
        type=_server_url,
        metavar="URL",
        help="URL of the server, such as http://a.example/v1",
    )
    command.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="credentials, or 'Bearer TOKEN' (default: $FILEUPLOAD_KINTO_AUTH, which other users cannot see)",
    )


def _add_group(commands_: Any, name: str, text: str, example: str) -> Any:
    group = commands_.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
    )
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _add(commands_: Any, name: str, run: Any, text: str, example: str, *, pool: bool = True) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands_.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print JSON")
    if pool:
        command.add_argument(
            "--directory", metavar="DIR", help="pool in a directory (default: $FILEUPLOAD_DIRECTORY, or uploads)"
        )
        command.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", type=_assignment,
            help="any setting, such as checksum=none; may be repeated (default: $FILEUPLOAD_<NAME>; see `settings`)",
        )  # fmt: skip
    return command


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value


def _port(text: str) -> int:
    # getaddrinfo silently reduces the port modulo 65536.
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _server_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as http://127.0.0.1:8888/v1")
    if "@" in parts.netloc:
        raise argparse.ArgumentTypeError("the URL must not contain credentials; use --auth")
    return text.rstrip("/")


def _type_of(parse: Callable[[object], T]) -> Callable[[str], T]:
    """Return an argparse type from a converter of settings, with the description of its ValueError in the error."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None

    return convert
