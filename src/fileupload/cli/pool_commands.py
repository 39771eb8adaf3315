"""What the commands for the place of a pool do."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fileupload.cli.commands import Answer, settings_of
from fileupload.errors import SettingError
from fileupload.pool.s3.bucket_rules import METHODS, RuleRefused, RuleResult, install_cors, install_lifecycle
from fileupload.pool.s3.store import open_store

_RESULT_TEXT = {
    RuleResult.INSTALLED: ("is installed", "would be installed"),
    RuleResult.REPLACED: ("is replaced", "would be replaced"),
    RuleResult.UNCHANGED: ("is there already", "is there already"),
    RuleResult.UNCERTAIN: ("", "would be tried; the store does not tell beforehand whether it takes one"),
}
_NO_ORIGINS = "No CORS rule: name the origins of your pages with --origin, or in the setting cors_origins."


@dataclass(frozen=True)
class _Wanted:
    """A rule that a pool wants of its store.

    :ivar effect: what it does.
    :ivar instead: what to do where the store does not take it.
    :ivar install: asks the store for it; takes ``dry_run``.
    """

    name: str
    effect: str
    instead: str
    install: Callable[..., RuleResult]

    def ask(self, *, dry_run: bool) -> dict[str, str]:
        """Ask for it, and tell what has become of it."""
        told = {"rule": self.name}
        try:
            result = self.install(dry_run=dry_run)
        except RuleRefused as refused:
            text = f"No {self.name} rule: the store says {str(refused)!r}. Instead, {self.instead}."
            return {**told, "result": "refused", "answer": str(refused), "text": text}
        return {
            **told,
            "result": result,
            "text": f"The {self.name} rule {_RESULT_TEXT[result][dry_run]}: {self.effect}.",
        }


def setup(options: argparse.Namespace) -> Answer:
    """Install the rules by which a store serves a pool."""
    settings = settings_of(options)
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    if not settings.pool:
        return Answer({"rules": [], "dry-run": options.dry_run}, "Nothing is to be set up for a pool in a folder.")
    store, prefix = open_store(settings, settings.pool)
    days, origins = options.abort_after, options.origin or settings.cors_origins
    span = f"{days} day{'' if days == 1 else 's'}"
    lifecycle = _Wanted(
        "lifecycle",
        f"multipart uploads below s3://{store.s3_bucket}/{prefix} are aborted if they are unfinished after {span}",
        "run `fileupload purge` regularly, which aborts them too",
        partial(install_lifecycle, store, prefix, days),
    )
    cors = _Wanted(
        "CORS",
        f"pages of {', '.join(origins)} may {', '.join(METHODS)}",
        "let the whole store allow these origins (in Swift, cors_preflight_allow_origin of s3api and cors_allow_origin "
        "of the proxy-server), or let pages send through the nodes",
        partial(install_cors, store, prefix, origins),
    )
    rules = [lifecycle.ask(dry_run=options.dry_run)]
    rules.append(
        cors.ask(dry_run=options.dry_run) if origins else {"rule": "CORS", "result": "skipped", "text": _NO_ORIGINS}
    )
    failed = any(rule["result"] == "refused" for rule in rules)
    return Answer({"rules": rules, "dry-run": options.dry_run}, "\n".join(rule["text"] for rule in rules), failed)
