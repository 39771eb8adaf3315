"""The command that copies the files of a finished upload out of its pool: get."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable

from fileupload.cli.answer import Answer, CommandError
from fileupload.cli.commands import find_for_reading
from fileupload.formatting import format_size
from fileupload.numbered_names import numbered_names
from fileupload.pool.base import Bucket
from fileupload.record_client.transfers import printable
from fileupload.status import State, UploadedFile

STDOUT = "-"


def get(options: argparse.Namespace) -> Answer | None:
    """Write the files of a finished upload to standard output, to a file, or into a directory."""
    bucket = find_for_reading(options)
    status = bucket.get_status()
    if status.state is not State.DONE:
        raise CommandError(f"the upload is not finished, its state is {status.state!s}; see `fileupload status`")
    target = options.output
    into_directory = target != STDOUT and (target.endswith(os.sep) or os.path.isdir(target))
    if not status.files:
        raise CommandError("the upload has no file")
    if len(status.files) > 1 and not into_directory:
        raise CommandError(f"the upload has {len(status.files)} files; name an existing directory with --output")
    if target == STDOUT:
        _print_file(bucket, json=options.json)
        return None
    paths = [os.path.join(target, name) for name in _local_names(status.files)] if into_directory else [target]
    _check_targets(paths, force=options.force)
    for index, path in enumerate(paths):
        bucket.download_to(path, index)
    written = list(zip(paths, status.files, strict=True))
    return Answer(
        {"files": [{**file.to_json(), "path": path} for path, file in written]},
        "\n".join(f"{printable(path)}  {format_size(file.size)}" for path, file in written),
    )


def _print_file(bucket: Bucket, *, json: bool) -> None:
    """Write the only file of *bucket* to standard output.

    :raises CommandError: standard output is needed for JSON.
    """
    if json:
        raise CommandError("with --json the file cannot go to standard output; name a file with --output")
    with bucket.open(0) as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)


def _check_targets(paths: Iterable[str], *, force: bool) -> None:
    """Check that no file is overwritten, and that the directory of each exists, before anything is written.

    :raises CommandError: a path is taken, or its directory does not exist.
    """
    for path in paths:
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise CommandError(f"there is no directory {os.path.dirname(path)!r}")
        if os.path.lexists(path) and not force:
            raise CommandError(f"{printable(path)!r} exists; use --force to replace it")


def _local_names(files: Iterable[UploadedFile]) -> list[str]:
    """Return a different file name for each of *files*: the client's, if it has one, with a number if it is taken."""
    # Names are stored without directories; a record that was changed by hand must not lead out of the directory.
    names = [os.path.basename(file.filename) for file in files]
    return numbered_names(
        [f"file-{n}" if name in {"", ".", ".."} or "\0" in name else name for n, name in enumerate(names)]
    )
