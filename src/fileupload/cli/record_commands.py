"""Commands for the files of records: records upload, records download, records gc and records import."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from configparser import Error as ConfigError
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from fileupload.apps.record_attachments.file_import import (
    ImportFinding,
    ImportVerdict,
    RecordImport,
    RecordsUnreadable,
)
from fileupload.apps.record_attachments.garbage_collection import Finding, RecordGarbage, Verdict
from fileupload.apps.record_attachments.public_storage import make_storage
from fileupload.apps.record_attachments.settings import RecordSettings
from fileupload.apps.record_attachments.urls import RecordTemplate
from fileupload.cli.answer import Answer, CommandError
from fileupload.cli.commands import open_paste_file
from fileupload.deploy import check_global_conf, make_pool
from fileupload.errors import SettingError
from fileupload.record_client.collection import Collection
from fileupload.record_client.download import download_files
from fileupload.record_client.progress_bar import ProgressBar
from fileupload.record_client.server import RecordServer
from fileupload.record_client.transfers import Outcome, TransferFailed, TransferResult, printable
from fileupload.record_client.upload import upload_files

_FILTER = "egg:fileupload#records"
_SHOWN = frozenset({Verdict.LINKED, Verdict.LEFT, Verdict.REMOVED, Verdict.MISSING, Verdict.UNKNOWN})


def upload(options: argparse.Namespace) -> Answer:
    """Upload files, each as the attachment of a record."""
    try:
        with _open_collection(options) as collection, ProgressBar() as bar:
            outcomes = upload_files(collection, options.files, bar, compress=options.gzip, force=options.force)
    except TransferFailed as error:
        raise CommandError(str(error)) from None
    return _summarize_outcomes(outcomes, TransferResult.UPLOADED)


def download(options: argparse.Namespace) -> Answer:
    """Download the attachments of a collection."""
    try:
        with _open_collection(options) as collection, ProgressBar() as bar:
            outcomes = download_files(collection, options.folder, bar)
    except TransferFailed as error:
        raise CommandError(str(error)) from None
    return _summarize_outcomes(outcomes, TransferResult.DOWNLOADED)


def gc(options: argparse.Namespace) -> Answer:
    """Remove the files that no record refers to (garbage collection)."""
    settings = _record_settings(options)
    collect = partial(
        RecordGarbage,
        make_storage(make_pool(settings), settings),
        settings,
        _find_server(options, settings).get_json,
        older_than=options.older_than,
    )
    if not settings.uses_kinto_api and not options.all_gone:
        _require_a_record(collect(dry_run=True).collect())
    return _summarize_findings(list(collect(dry_run=options.dry_run).collect()), dry_run=options.dry_run)


def import_files(options: argparse.Namespace) -> Answer:
    """Enter files that kinto-attachment has stored into the ledger of their records."""
    settings = _record_settings(options)
    if not settings.base_path:
        raise CommandError("set base_path to the directory, or s3://bucket/prefix, in which the files are")
    if not settings.uses_kinto_api:
        raise CommandError("records of Kinto only can be imported; setting 'api' is rest")
    records = RecordImport(
        make_storage(make_pool(settings), settings),
        settings,
        _find_server(options, settings).get_pages,
        base_urls=tuple(options.base_url),
        verify=options.verify,
        dry_run=options.dry_run,
    )
    try:
        findings = list(records.run())
    except RecordsUnreadable as error:
        raise CommandError(f"{error}; the --auth user must be permitted to read all records") from None
    return _summarize_import(findings, dry_run=options.dry_run)


def _summarize_import(findings: list[ImportFinding], *, dry_run: bool) -> Answer:
    counts = Counter(finding.verdict for finding in findings)
    imported = "would be imported" if dry_run else "imported"
    texts = {**{verdict: verdict.value for verdict in ImportVerdict}, ImportVerdict.IMPORTED: imported}
    shown = [finding for finding in findings if finding.verdict is not ImportVerdict.KNOWN]
    lines = [_describe(finding, texts) for finding in shown]
    lines.append(", ".join(f"{counts[verdict]} {texts[verdict]}" for verdict in ImportVerdict))
    data = {
        "files": [
            {"record": each.record, "location": each.location, "verdict": each.verdict.value, "reason": each.reason}
            for each in shown
        ],
        "summary": {verdict.value: counts[verdict] for verdict in ImportVerdict},
        "dry-run": dry_run,
    }
    done = counts[ImportVerdict.IMPORTED] + counts[ImportVerdict.KNOWN]
    return Answer(data, "\n".join(lines), failed=done < len(findings))


def _require_a_record(findings: Iterable[Finding]) -> None:
    """Check that the server knows at least one of the records: otherwise it may be the wrong server.

    :raises CommandError: it knows none of them.
    """
    seen = [finding.verdict for finding in findings if finding.record]
    if Verdict.REMOVED in seen and set(seen) <= {Verdict.REMOVED, Verdict.LEFT, Verdict.UNKNOWN}:
        raise CommandError(
            "the server knows none of these records; check --server and record_url, or pass --all-gone if all are gone"
        )


def _open_collection(options: argparse.Namespace) -> Collection:
    return Collection(options.server, options.bucket, options.collection, _credentials(options))


def _credentials(options: argparse.Namespace) -> str:
    return options.auth or os.environ.get("FILEUPLOAD_KINTO_AUTH") or ""


def _summarize_outcomes(outcomes: list[Outcome], done: TransferResult) -> Answer:
    counts = Counter(outcome.result for outcome in outcomes)
    lines = [
        f"{printable(outcome.name)}: {outcome.result}" + (f", {printable(outcome.detail)}" if outcome.detail else "")
        for outcome in outcomes
    ]
    current, failed = counts[TransferResult.CURRENT], counts[TransferResult.FAILED]
    lines.append(f"{counts[done]} {done}, {current} {TransferResult.CURRENT}, {failed} failed")
    files = [
        {"file": printable(outcome.name), "result": outcome.result.value, **outcome.data}
        | ({"error": outcome.detail} if outcome.result is TransferResult.FAILED else {})
        for outcome in outcomes
    ]
    summary = {result.value: counts[result] for result in (done, TransferResult.CURRENT, TransferResult.FAILED)}
    return Answer({"files": files, "summary": summary}, "\n".join(lines), failed=counts[TransferResult.FAILED] > 0)


def _record_settings(options: argparse.Namespace) -> RecordSettings:
    """Return the settings of the filter whose files are collected or imported.

    :raises SettingError: they are invalid, or a directory that they name does not exist.
    """
    given = dict(options.set)
    # Beside a Paste file the environment counts for nothing: the running app does not have these settings either.
    values: dict[str, Any] = _read_filter(options.config) if options.config else _of_environment(options, given)
    values.update(given)
    if options.directory or not values.get("pool"):
        environ = os.environ.get("FILEUPLOAD_DIRECTORY")
        values["directory"] = options.directory or values.get("directory") or environ or "uploads"
    settings = RecordSettings.parse(values)
    # make_pool would create a missing directory: these commands must not.
    if settings.directory and not os.path.isdir(settings.directory):
        raise SettingError(f"there is no pool in {settings.directory!r}; name it with --directory")
    if settings.base_path and not settings.is_in_store and not os.path.isdir(settings.base_path):
        raise SettingError(f"setting 'base_path' cannot be {settings.base_path!r}: there is no such directory")
    return settings


def _of_environment(options: argparse.Namespace, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the environment; without those of its pool, if the options name another one."""
    found: dict[str, Any] = dict(RecordSettings.from_environment(os.environ))
    if options.directory or given.get("directory") or given.get("pool"):
        for name in ("directory", "pool"):
            found.pop(name, None)
    return found


def _read_filter(config: str) -> dict[str, Any]:
    """Return the directives of the filter in a Paste file.

    :param config: path of the file; ``path#name`` selects one of several filters.
    :raises SettingError: the file has no such filter, or several.
    """
    path, _, wanted = config.partition("#")
    loader = open_paste_file(path)
    try:
        found = [
            section.removeprefix("filter:")
            for section in loader.parser.sections()
            if section.startswith("filter:")
            and loader.parser.get(section, "use", fallback="") == _FILTER
            and wanted in {"", section.removeprefix("filter:")}
        ]
        if len(found) != 1:
            raise SettingError(f"{path!r} has {len(found) or 'no'} filters with 'use = {_FILTER}'; name one with #")
        context = loader.filter_context(found[0])
    except (ConfigError, LookupError) as error:
        raise SettingError(f"{path!r} is not a valid Paste file: {error}") from None
    check_global_conf(RecordSettings, context.global_conf, context.local_conf)
    return dict(context.local_conf)


def _find_server(options: argparse.Namespace, settings: RecordSettings) -> RecordServer:
    """Return the server of the records; a Kinto server is checked by its root document.

    :raises CommandError: it is not a Kinto server. Any other server would answer 404 for all records.
    """
    root = RecordTemplate(settings.record_url).at_root("").rstrip("/")
    server = RecordServer(options.server.removesuffix(root), _credentials(options))
    if settings.uses_kinto_api:
        try:
            status, body = server.get_json(root + "/")
        except OSError as error:
            raise CommandError(f"the server cannot be reached: {error}") from None
        if status != 200 or not isinstance(body, dict) or "capabilities" not in body:
            raise CommandError(f"there is no Kinto server at {urlsplit(options.server).netloc}: it answers {status}")
    return server


def _summarize_findings(findings: list[Finding], *, dry_run: bool) -> Answer:
    counts = Counter(finding.verdict for finding in findings)
    removed = "would be removed" if dry_run else "removed"
    texts = {**{verdict: verdict.value for verdict in Verdict}, Verdict.REMOVED: removed}
    lines = [_describe(finding, texts) for finding in findings if finding.verdict in _SHOWN]
    lines.append(", ".join(f"{counts[verdict]} {texts[verdict]}" for verdict in Verdict))
    if counts[Verdict.UNKNOWN]:
        lines.append("Files with an unknown state were kept. The --auth user must be permitted to read all records.")
    data = {
        "files": [
            {"record": each.record, "location": each.location, "verdict": each.verdict.value, "reason": each.reason}
            for each in findings
            if each.verdict in _SHOWN
        ],
        "summary": {verdict.value: counts[verdict] for verdict in Verdict},
        "dry-run": dry_run,
    }
    return Answer(data, "\n".join(lines), failed=counts[Verdict.UNKNOWN] > 0)


def _describe(finding: Finding | ImportFinding, texts: Mapping[Any, str]) -> str:
    place = " ".join(filter(None, (finding.record, finding.location)))
    reason = f", {printable(finding.reason)}" if finding.reason else ""
    return f"{printable(place)}: {texts[finding.verdict]}{reason}"
