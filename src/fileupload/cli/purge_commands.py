"""Commands that remove outdated uploads: purge, for all uploads of a pool, and attachments purge."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from fileupload.apps.record_attachments.storage import RECORDS_OWNER
from fileupload.apps.session_attachments.bundle_index import session_owner
from fileupload.apps.session_attachments.bundles import remove_outdated
from fileupload.cli.answer import Answer, CommandError
from fileupload.cli.commands import open_manager
from fileupload.formatting import format_size
from fileupload.pool.base import Pool

_APPLICATIONS = {session_owner(""): "session attachments", RECORDS_OWNER: "record attachments", "s3fileup": "s3fileup"}

# Removes what is older than that many seconds, or with True for a dry run only finds it; yields bucket ids.
_Remove = Callable[[float, bool], Iterable[str]]


def purge(options: argparse.Namespace) -> Answer:
    """Remove the outdated uploads of all applications; of attachments, the entries of the index too."""
    pool = open_manager(options).pool

    def remove(older_than: float, dry_run: bool) -> Iterable[str]:
        yield from remove_outdated(pool, older_than, dry_run=dry_run)
        for bucket in pool.purge(older_than, dry_run=dry_run):
            yield bucket.id

    return _purge(options, pool, remove)


def purge_attachments(options: argparse.Namespace) -> Answer:
    """Remove the outdated attachments of sessions, and no other upload of the pool."""
    pool = open_manager(options).pool
    return _purge(options, pool, lambda older_than, dry_run: remove_outdated(pool, older_than, dry_run=dry_run))


def _purge(options: argparse.Namespace, pool: Pool, remove: _Remove) -> Answer:
    """Remove uploads. At a terminal, the command first says which, and asks.

    :raises CommandError: the answer was no.
    """
    began = time.monotonic()
    asks = not (options.yes or options.dry_run) and sys.stdin.isatty() and sys.stderr.isatty()
    found = list(dict.fromkeys(remove(options.older_than, True))) if asks or options.dry_run else []
    summary = _summarize(pool, found) if found else []
    if asks:
        if found:
            print("\n".join(["To be removed:", *summary]), file=sys.stderr)
            _confirm(f"Remove {_count(len(found))}?")
        # The age counts from before the question: what became older meanwhile was not mentioned.
        removed = list(dict.fromkeys(remove(options.older_than + time.monotonic() - began, False))) if found else []
    else:
        removed = found if options.dry_run else list(dict.fromkeys(remove(options.older_than, False)))
    verb = "would be removed" if options.dry_run else "removed"
    shown = summary if options.dry_run else []
    lines = [*removed, *shown, f"{_count(len(removed))} {verb}."]
    return Answer({"removed": removed, "dry-run": options.dry_run}, "\n".join(lines))


def _confirm(question: str) -> None:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was removed")


def _summarize(pool: Pool, bucket_ids: Iterable[str]) -> list[str]:
    """Return a line for each application: its uploads, and their bytes."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for bucket_id in bucket_ids:
        status = pool.bucket(bucket_id).get_status()
        size = sum(file.size for file in status.files) if status.files else status.received
        sizes[_application(status.owner)].append(size)
    return [f"  {name}: {_count(len(each))}, {format_size(sum(each))}" for name, each in sorted(sizes.items())]


def _application(owner: str) -> str:
    """Return the name of the application that has begun an upload; *owner* itself may hold a session."""
    return next((name for start, name in _APPLICATIONS.items() if owner.startswith(start)), "server or middleware")


def _count(number: int) -> str:
    return f"{number} upload{'' if number == 1 else 's'}"
