"""The command line: its options, and how it speaks. What each command does is in ``commands``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fileupload.cli import commands, pool_commands, record_commands
from fileupload.errors import SettingError, UploadError
from fileupload.settings import parse_days, parse_duration, parse_origins

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0 done, 1 failed, 2 wrongly called."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.run(options)
    except (SettingError, UploadError, commands.CommandError) as error:
        return _print_error(options, str(error))
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _print_error(options, f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    if answer is None:
        return 0
    print(json.dumps(answer.data, ensure_ascii=False, indent=2) if options.json else answer.text)
    return 1 if answer.failed else 0


def _print_error(options: argparse.Namespace, message: str) -> int:
    if options.json:
        print(json.dumps({"error": message}, ensure_ascii=False))
    print(f"fileupload: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fileupload",
        description="Takes file uploads: a server for them, and tools for its pool.",
        epilog="example: fileupload serve --anonymous --directory /srv/uploads",
    )
    commands_ = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands_)
    _add(commands_, "key", commands.key, "make a signing key", "fileupload key", pool=False)
    command = _add(
        commands_, "identifier", commands.identifier, "make identifiers for a pool",
        "fileupload identifier --directory /srv/uploads --max-size 20",
    )  # fmt: skip
    command.add_argument("--max-size", metavar="MB", help="most megabytes that may be sent with it (or 500K, 2G)")
    command.add_argument("--max-age", metavar="TIME", help="how long an upload may begin with it: 90s, 15m, 2h, 3d")
    command.add_argument("--content-type", action="append", default=[], metavar="TYPE", help="only such files")
    command.add_argument("--count", type=int, default=1, metavar="N", help="make so many (default: 1)")
    command = _add(commands_, "status", commands.status, "tell how an upload stands", "fileupload status IDENTIFIER")
    command.add_argument("identifier", help="the identifier, or the id that `ls` shows")
    _add(commands_, "ls", commands.ls, "list the uploads of a pool", "fileupload ls --directory /srv/uploads")
    command = _add(
        commands_, "clear", commands.clear, "remove an upload, finished or running", "fileupload clear IDENTIFIER"
    )
    command.add_argument("identifier", help="the identifier, or the id that `ls` shows")
    command = _add(
        commands_, "purge", commands.purge, "remove uploads in which nothing happened for long",
        "fileupload purge --older-than 3 --dry-run",
    )  # fmt: skip
    command.add_argument(
        "--older-than", required=True, type=_by(parse_days), metavar="TIME", help="days, or a time such as 36h or 90m"
    )
    command.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    _add_pool(commands_)
    _add_records(commands_)
    return parser


def _add_serve(commands_: Any) -> None:
    command = _add(
        commands_, "serve", commands.serve, "run an upload server",
        "fileupload serve --anonymous --port 8080, or: fileupload serve paste.ini",
    )  # fmt: skip
    command.add_argument("config", nargs="?", metavar="PASTE_INI", help="serve the app of this file instead")
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port", type=_port, metavar="N", help="port to listen on; 0 takes a free one (default: 8080)"
    )
    command.add_argument(
        "--workers", type=_positive, metavar="N", help="processes (default: one on each processor, at most 4)"
    )
    command.add_argument("--threads", type=_positive, metavar="N", help="requests at once, in each (default: 1024)")
    command.add_argument(
        "--idle-timeout",
        "--silence",
        dest="idle_timeout",
        type=_by(parse_duration),
        metavar="TIME",
        help="end connections whose client sends nothing of a body, or takes nothing of an answer, for so long (60s)",
    )
    command.add_argument("--max-size", metavar="MB", help="most megabytes of an upload (or 500K, 2G); 0: any")
    command.add_argument("--key", action="append", default=[], help="signing key; several: the newest first")
    command.add_argument("--anonymous", action="store_true", help="let anyone upload, without an app's identifier")
    command.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN", help="such as https://a.example"
    )


def _add_pool(commands_: Any) -> None:
    commands_ = _add_group(commands_, "pool", "set up the place of a pool", "fileupload pool setup --help")
    command = _add(
        commands_, "setup", pool_commands.setup,
        "install in an object store the rules that end unfinished uploads and let pages upload",
        "fileupload pool setup --set pool=s3://my-bucket/uploads --origin https://www.example.com",
    )  # fmt: skip
    command.add_argument(
        "--abort-after", type=_positive, default=7, metavar="DAYS",
        help="the store aborts multipart uploads that are unfinished after so many days (default: 7)",
    )  # fmt: skip
    command.add_argument(
        "--origin", action="extend", type=_by(parse_origins), default=[], metavar="ORIGIN",
        help="pages that may upload, such as https://www.example.com; may be repeated (default: cors_origins)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only tell what would be done")


def _add_records(commands_: Any) -> None:
    commands_ = _add_group(
        commands_, "records", "upload and download the files of records, and remove those that no record speaks of",
        "fileupload records upload --help",
    )  # fmt: skip
    there = "--server http://127.0.0.1:8888/v1 --bucket blog --collection pictures"
    command = _add(
        commands_, "upload", record_commands.upload, "upload files, a record for each",
        f"fileupload records upload {there} *.png", pool=False,
    )  # fmt: skip
    _add_collection(command)
    command.add_argument("--gzip", action="store_true", help="send the files compressed; the records tell of them both")
    command.add_argument("--force", action="store_true", help="send also the files that are there already")
    command.add_argument("files", nargs="+", metavar="FILE", help="file to upload")
    command = _add(
        commands_, "download", record_commands.download, "download the files of all records of a collection",
        f"fileupload records download {there} --folder pictures", pool=False,
    )  # fmt: skip
    _add_collection(command)
    command.add_argument("--folder", default=".", metavar="DIR", help="where the files go (default: here)")
    _add_gc(commands_)


def _add_gc(commands_: Any) -> None:
    command = _add(
        commands_, "gc", record_commands.gc, "remove the files that no record speaks of",
        "fileupload records gc kinto.ini --server http://127.0.0.1:8888/v1 --dry-run",
    )  # fmt: skip
    command.add_argument(
        "config", nargs="?", metavar="PASTE_INI", help="file with the settings; without one, --set gives them"
    )
    _add_server(command)
    command.add_argument(
        "--older-than", type=_by(parse_days), default=3600.0, metavar="TIME",
        help="how long an upload may take to get into its record: days, or 36h, 90m (default: 1h)",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    command.add_argument(
        "--all-gone", action="store_true", help="believe a server other than Kinto that knows none of the records"
    )


def _add_collection(command: argparse.ArgumentParser) -> None:
    _add_server(command)
    command.add_argument("--bucket", required=True, metavar="ID", help="bucket of the collection")
    command.add_argument("--collection", required=True, metavar="ID", help="collection of the records")


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("--server", required=True, type=_server_url, metavar="URL", help="such as http://a.example/v1")
    command.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="or 'Bearer TOKEN' (default: $FILEUPLOAD_KINTO_AUTH, which none can see)",
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
        command.add_argument("--directory", metavar="DIR", help="the pool (default: $FILEUPLOAD_DIRECTORY, or uploads)")
        command.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", type=_assignment,
            help="any other setting, such as checksum=none",
        )  # fmt: skip
    return command


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _port(text: str) -> int:
    # getaddrinfo would silently take the remainder of a division by 65536.
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _server_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as http://127.0.0.1:8888/v1")
    if "@" in parts.netloc:
        raise argparse.ArgumentTypeError("the address must be without credentials; --auth takes them")
    return text.rstrip("/")


def _by(parse: Callable[[object], T]) -> Callable[[str], T]:
    """Return a converter of options, which tells what *parse* would have taken."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None

    return convert
