"""Commands for the storage of a pool: pool setup."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fileupload.cli.answer import Answer
from fileupload.cli.commands import settings_of
from fileupload.errors import SettingError
from fileupload.pool.s3.bucket_rules import METHODS, RuleRefused, RuleResult, install_cors, install_lifecycle
from fileupload.pool.s3.store import open_store

_RESULT_TEXT = {
    RuleResult.INSTALLED: ("is installed", "would be installed"),
    RuleResult.REPLACED: ("is replaced", "would be replaced"),
    RuleResult.UNCHANGED: ("is already installed", "is already installed"),
    RuleResult.UNCERTAIN: ("", "would be tried; the store does not tell in advance whether it supports one"),
}
_NO_ORIGINS = "No CORS rule: name the origins of your pages with --origin, or in the setting cors_origins."


@dataclass(frozen=True)
class _StoreRule:
    """Lifecycle or CORS rule that a pool needs in its object store.

    :ivar effect: the effect of the rule, for people.
    :ivar instead: the alternative if the store does not support the rule.
    :ivar install: installs the rule, or with ``dry_run`` only returns the result of that.
    """

    name: str
    effect: str
    instead: str
    install: Callable[..., RuleResult]

    def apply(self, *, dry_run: bool) -> dict[str, str]:
        """Install the rule; return its name, the result and a text for people."""
        named = {"rule": self.name}
        try:
            result = self.install(dry_run=dry_run)
        except RuleRefused as refused:
            text = f"No {self.name} rule: the store answers {str(refused)!r}. Instead, {self.instead}."
            return {**named, "result": "refused", "answer": str(refused), "text": text}
        return {
            **named,
            "result": result,
            "text": f"The {self.name} rule {_RESULT_TEXT[result][dry_run]}: {self.effect}.",
        }


def setup(options: argparse.Namespace) -> Answer:
    """Install the lifecycle rule and the CORS rule of a pool in its object store.

    :raises SettingError: the pool is not configured correctly, or the store cannot be used.
    """
    settings = settings_of(options)
    if settings.pool and settings.directory:
        raise SettingError("settings 'pool' and 'directory' cannot both be given; there is one pool")
    if not settings.pool:
        return Answer({"rules": [], "dry-run": options.dry_run}, "A pool in a directory needs no setup.")
    store, prefix = open_store(settings, settings.pool)
    days, origins = options.abort_after, options.origin or settings.cors_origins
    span = f"{days} day{'' if days == 1 else 's'}"
    lifecycle = _StoreRule(
        "lifecycle",
        f"multipart uploads below s3://{store.s3_bucket}/{prefix} are aborted if they are unfinished after {span}",
        "run `fileupload purge` regularly, which also aborts them",
        partial(install_lifecycle, store, prefix, days),
    )
    cors = _StoreRule(
        "CORS",
        f"pages of {', '.join(origins)} may {', '.join(METHODS)}",
        "allow these origins in the configuration of the store (in Swift, cors_preflight_allow_origin of s3api and "
        "cors_allow_origin of the proxy-server), or let pages upload through the nodes",
        partial(install_cors, store, prefix, origins),
    )
    rules = [lifecycle.apply(dry_run=options.dry_run)]
    rules.append(
        cors.apply(dry_run=options.dry_run) if origins else {"rule": "CORS", "result": "skipped", "text": _NO_ORIGINS}
    )
    failed = any(rule["result"] == "refused" for rule in rules)
    return Answer({"rules": rules, "dry-run": options.dry_run}, "\n".join(rule["text"] for rule in rules), failed)
