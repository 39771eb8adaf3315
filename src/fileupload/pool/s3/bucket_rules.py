"""Rules of an ``s3_bucket``, by which the store itself tidies up after a pool, and lets web pages send to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fileupload.pool.s3.client import error_message, translate_startup_errors
from fileupload.pool.s3.store import S3Store

_Rule = dict[str, Any]  # as boto3 has it

METHODS = ("PUT", "POST", "GET", "HEAD")  # that pages may use
_EXPOSED = ("ETag", "Location")  # headers of answers that scripts may read; who sends parts needs their ETags
_MAX_AGE = 3600  # seconds for which browsers need not ask again
# What is wrong with the setting, and not with the rule.
_NO_PLACE = frozenset({"NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


class RuleRefused(Exception):
    """The store does not take such a rule; the message is its own answer."""

    def __init__(self, code: str, answer: str) -> None:
        super().__init__(answer)
        self.code = code


class RuleResult(StrEnum):
    """What has become of a rule, or in a dry run would become of it."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    UNCERTAIN = "uncertain"  # in a dry run: whether the store knows such rules, only trying would tell


@dataclass(frozen=True)
class _RuleType:
    """How boto3 speaks of one kind of rules.

    :ivar absent: the store's word for none.
    :ivar kept: what else it tells with them, and must be told again when they are written.
    """

    operation: str
    parameter: str
    field: str
    absent: str
    kept: tuple[str, ...] = ()


_LIFECYCLE = _RuleType(
    "bucket_lifecycle_configuration", "LifecycleConfiguration", "Rules",
    "NoSuchLifecycleConfiguration", ("TransitionDefaultMinimumObjectSize",),
)  # fmt: skip
_CORS = _RuleType("bucket_cors", "CORSConfiguration", "CORSRules", "NoSuchCORSConfiguration")


def install_lifecycle(store: S3Store, prefix: str, days: int, *, dry_run: bool = False) -> RuleResult:
    """Let the store abort multipart uploads below *prefix* that are unfinished *days* after they began.

    :raises RuleRefused: it does not do that.
    :raises SettingError: the ``s3_bucket`` cannot be reached.
    """
    rules = _Rules(store, _LIFECYCLE, prefix)
    # Amazon takes no rules of the older and the newer form together, and not all that are there may be ours.
    older = any("Filter" not in rule for rule in rules.found if rule.get("ID") != rules.name)
    return rules.install(
        {
            "Status": "Enabled",
            **({"Prefix": prefix} if older else {"Filter": {"Prefix": prefix}}),
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        },
        dry_run=dry_run,
    )


def install_cors(store: S3Store, prefix: str, origins: Sequence[str], *, dry_run: bool = False) -> RuleResult:
    """Let pages of these *origins* send to the store and read from it, for the pool below *prefix*.

    :raises RuleRefused: the store does not do that.
    :raises SettingError: the ``s3_bucket`` cannot be reached.
    """
    rule = {
        "AllowedOrigins": list(origins),
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": list(_EXPOSED),
        "MaxAgeSeconds": _MAX_AGE,
    }
    return _Rules(store, _CORS, prefix).install(rule, dry_run=dry_run)


class _Rules:
    """All rules of one kind of an ``s3_bucket``, those of others among them.

    :ivar name: the ID of the pool's own.
    """

    def __init__(self, store: S3Store, kind: _RuleType, prefix: str) -> None:
        """Read them."""
        self._store, self._kind = store, kind
        # Pools may share an s3_bucket; an ID has at most 255 characters, of which not all are safe.
        self.name = f"fileupload-{hashlib.sha256(prefix.encode()).hexdigest()[:16]}"
        self._answer: dict[str, Any]
        try:
            self._answer = self._ask("get")
        except RuleRefused as refused:
            if refused.code != kind.absent:
                raise
            self._answer = {kind.field: []}
        self.found: list[_Rule] = self._answer.get(kind.field, [])

    def install(self, rule: _Rule, *, dry_run: bool) -> RuleResult:
        """Put *rule* in the place of the pool's own, or beside the others."""
        own = [each for each in self.found if each.get("ID") == self.name]
        own = own or [each for each in self.found if _alike(each, rule)]  # in stores that do not keep IDs
        if len(own) == 1 and _alike(own[0], rule):
            return RuleResult.UNCHANGED
        if dry_run and self._kind.field not in self._answer:
            return RuleResult.UNCERTAIN
        if not dry_run:
            # Of CORS rules the first that matches counts; what others have for other origins is as it was.
            merged = [{"ID": self.name, **rule}, *(each for each in self.found if each not in own)]
            kept = {name: self._answer[name] for name in self._kind.kept if name in self._answer}
            self._ask("put", **{self._kind.parameter: {self._kind.field: merged}}, **kept)
        return RuleResult.REPLACED if own else RuleResult.INSTALLED

    def _ask(self, verb: str, **parameters: Any) -> dict[str, Any]:
        operation = getattr(self._store.client, f"{verb}_{self._kind.operation}")
        with _answered(self._store.s3_bucket):
            answer: dict[str, Any] = operation(Bucket=self._store.s3_bucket, **parameters)
        return answer


def _alike(one: _Rule, other: _Rule) -> bool:
    """Tell whether two rules say the same; stores keep neither the order of lists nor, some, the ID."""

    def content(rule: _Rule) -> _Rule:
        return {name: sorted(value) if isinstance(value, list) else value for name, value in rule.items()}

    return {**content(one), "ID": ""} == {**content(other), "ID": ""}


@contextmanager
def _answered(s3_bucket: str) -> Iterator[None]:
    """Tell what is wrong with a rule from what is wrong with the place."""
    from botocore.exceptions import ClientError

    with translate_startup_errors("pool", f"s3://{s3_bucket}"):
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _NO_PLACE:
                raise
            raise RuleRefused(code, error_message(error)) from None
