"""Lifecycle and CORS rules of an ``s3_bucket``, for abandoned multipart uploads and for the requests of web pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fileupload.pool.s3.client import error_message, require_boto3, translate_startup_errors
from fileupload.pool.s3.store import S3Store

_Rule = dict[str, Any]  # as in boto3

METHODS = ("PUT", "POST", "GET", "HEAD")  # that pages may use
_EXPOSED = ("ETag", "Location")  # response headers that scripts may read; completing needs the ETags of parts
_MAX_AGE = 3600  # seconds for which browsers may cache a preflight response
# Error codes that blame the setting, not the rule.
_BAD_SETTING = frozenset({"NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


class RuleRefused(Exception):
    """The store refuses a rule; the message is that of the store.

    :ivar code: the error code of the store.
    """

    def __init__(self, code: str, answer: str) -> None:
        super().__init__(answer)
        self.code = code


class RuleResult(StrEnum):
    """The result of installing a rule; in a dry run, the result that an installation would have."""

    INSTALLED = "installed"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    UNCERTAIN = "uncertain"  # in a dry run: only an attempt would show whether the store supports such rules


@dataclass(frozen=True)
class _RuleType:
    """The names by which boto3 handles one type of rules.

    :ivar operation: the end of the names of the operations.
    :ivar parameter: the parameter of the operation that writes the rules.
    :ivar field: the list of rules in that parameter, and in the response.
    :ivar absent: the error code of the store if there are no rules.
    :ivar kept: other fields of the response, which must be sent again when the rules are written.
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
    """Install a rule by which the store aborts multipart uploads below *prefix* that are incomplete after *days*.

    :raises RuleRefused: the store does not support that.
    :raises SettingError: the ``s3_bucket`` cannot be reached.
    """
    rules = _Rules(store, _LIFECYCLE, prefix)
    # Amazon does not accept rules of the older form (Prefix) together with the newer one (Filter), and other rules may
    # use either.
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
    """Install a rule by which pages of these *origins* may send to the store, for the pool below *prefix*.

    :raises RuleRefused: the store does not support that.
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
    """All rules of one type of an ``s3_bucket``, including those that others have installed.

    :ivar name: the ID of the pool's own rule.
    :ivar found: the rules before any change.
    """

    def __init__(self, store: S3Store, kind: _RuleType, prefix: str) -> None:
        """Read the rules from the store."""
        self._store, self._kind = store, kind
        # Pools may share an s3_bucket. A hash, because an ID has at most 255 characters, and not every one is allowed.
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
        """Write *rule* in place of the pool's own rule, and keep all others."""
        own = [each for each in self.found if each.get("ID") == self.name]
        own = own or [each for each in self.found if _alike(each, rule)]  # for stores that do not keep IDs
        if len(own) == 1 and _alike(own[0], rule):
            return RuleResult.UNCHANGED
        if dry_run and self._kind.field not in self._answer:
            return RuleResult.UNCERTAIN
        if not dry_run:
            # The first CORS rule that matches counts. Rules of others for other origins still apply.
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
    """Return whether two rules are equal, except for the order of lists and the ID, which not every store keeps."""

    def content(rule: _Rule) -> _Rule:
        return {name: sorted(value) if isinstance(value, list) else value for name, value in rule.items()}

    return {**content(one), "ID": ""} == {**content(other), "ID": ""}


@contextmanager
def _answered(s3_bucket: str) -> Iterator[None]:
    """Raise RuleRefused if the store refuses a rule, SettingError if the ``s3_bucket`` cannot be used at all."""
    require_boto3()
    from botocore.exceptions import ClientError

    with translate_startup_errors("pool", f"s3://{s3_bucket}"):
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _BAD_SETTING:
                raise
            raise RuleRefused(code, error_message(error)) from None
