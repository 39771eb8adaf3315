"""What is known of an upload: frozen values, and their JSON form.

The JSON form is the one interface to clients, to the app and to the pool, so it is made and read here alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from fileupload.errors import UploadError


class State(StrEnum):
    """Where an upload stands."""

    STARTING = "starting"
    UPLOADING = "uploading"
    DONE = "done"
    ERROR = "error"
    UNKNOWN = "unknown"


# What reading a record raises that was not written here, or not whole.
FOREIGN = (ValueError, KeyError, TypeError, AttributeError)
_ATTEMPT = re.compile(r"[0-9A-Za-z_-]{0,64}", re.ASCII)
_FLAGS = ("resumable", "suspended", "kept")  # what a pool keeps beside the JSON form
RUNNING = frozenset({State.STARTING, State.UPLOADING})


def timestamp(seconds: float | None = None) -> str:
    """Return *seconds* since the epoch (now, if None) as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain_name(name: str) -> str:
    """Return the *name* of an attempt, which a pool makes a path or a key of.

    :raises ValueError: it might lead elsewhere.
    """
    if _ATTEMPT.fullmatch(name) is None:
        raise ValueError("not the name of an attempt")
    return name


def seconds_of(moment: str) -> float:
    """Return the seconds since the epoch of a :func:`timestamp`."""
    return datetime.fromisoformat(moment).timestamp()


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """One file of an upload.

    :ivar field: the name of the form field it came in; empty for a plain body.
    :ivar filename: the name that the client gave, without folders; never a path on the server.
    :ivar content_type: the media type that the client gave, in lower case, without parameters.
    :ivar size: its bytes.
    :ivar sha256: the hex digest of its bytes, or None with ``checksum = none``.
    """

    field: str
    filename: str
    content_type: str
    size: int
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in ``files``."""
        return {
            "field": self.field,
            "filename": self.filename,
            "content-type": self.content_type,
            "size": self.size,
            **({"sha256": self.sha256} if self.sha256 else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form."""
        return cls(
            field=data["field"],
            filename=data["filename"],
            content_type=data["content-type"],
            size=data["size"],
            sha256=data.get("sha256"),
        )


@dataclass(frozen=True, kw_only=True)
class DirectUploadTerms:
    """What was agreed of a file that the client sends to the pool by itself.

    :ivar part_size: the bytes of each of its parts but the last; 0 where the client chooses them.
    :ivar max_size: the most bytes that it may have, where its size is not known; None for any.
    :ivar sha256: the hex digest that it must have, or None.
    :ivar form: whether it comes in a form, in the place of parts.
    :ivar acl: the canned ACL of an object store that it gets, or an empty text.
    """

    acl: str = ""
    form: bool = False
    part_size: int = 0
    max_size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class UploadStatus(Mapping[str, Any]):
    """What is known of an upload; of a finished one, this is the descriptor that the app receives.

    It reads like an object (``status.state``) and like its JSON form (``status["content-type"]``).

    :ivar identifier: the signed identifier, where the asker gave it; the pool does not keep it.
    :ivar filename: the name of the first file, once known.
    :ivar size: bytes; of the whole body while it runs (None if unknown), of the first file when done.
    :ivar received: bytes; of the body while it runs, of the first file when done.
    :ivar buffered: True where the WSGI server stored the body before the app saw it, so that no progress
        can be told.
    :ivar resumable: True for an upload that may come in several requests, and so survives a crash; never shown.
    :ivar suspended: True while nobody is at such an upload; told by the pool, never shown.
    :ivar kept: True for a finished upload that is exempt from purging; never shown.
    :ivar direct: what was agreed, where the client sends its file to the pool by itself; never shown.
    :ivar attempt: the pool's name for the attempt that this status speaks of; never shown.
    :ivar owner: the application that began the attempt, such as ``session:<session>``; empty for an upload to the
        middleware, and for one that was stored before owners were recorded; never shown.
    """

    state: State
    identifier: str = ""
    filename: str = ""
    content_type: str = ""
    size: int | None = None
    received: int = 0
    started: str | None = None
    updated: str | None = None
    finished: str | None = None
    expires: str | None = None
    files: tuple[UploadedFile, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None
    buffered: bool = False
    resumable: bool = False
    suspended: bool = False
    kept: bool = False
    direct: DirectUploadTerms | None = None
    attempt: str = ""
    owner: str = ""

    @property
    def running(self) -> bool:
        """True while someone is at it: bytes may arrive at any moment."""
        return self.state in RUNNING and not self.suspended

    def done(self, files: tuple[UploadedFile, ...], fields: Mapping[str, tuple[str, ...]]) -> UploadStatus:
        """Return this status as it is once *files* and *fields* are complete."""
        first = files[0]
        now = timestamp()
        return replace(
            self,
            state=State.DONE,
            filename=first.filename,
            content_type=first.content_type,
            size=first.size,
            received=first.size,
            updated=now,
            finished=now,
            files=files,
            fields=fields,
        )

    def failed(self, error: UploadError, *, at: str | None = None) -> UploadStatus:
        """Return this status as it is after *error*, which happened now or *at* that time."""
        now = at or timestamp()
        return replace(
            self,
            state=State.ERROR,
            updated=now,
            finished=now,
            files=(),
            fields={},
            error=error.detail,
            code=error.code,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; keys without a meaning in this state are left out."""
        if self.state is State.UNKNOWN:
            return {"identifier": self.identifier, "state": str(self.state)}
        data: dict[str, Any] = {
            "identifier": self.identifier,
            "state": str(self.state),
            "filename": self.filename,
            "content-type": self.content_type,
            "size": self.size,
            "received": self.received,
        }
        if self.files and self.files[0].sha256:
            data["sha256"] = self.files[0].sha256
        for name in ("started", "updated", "finished", "expires", "error", "code"):
            if (value := getattr(self, name)) is not None:
                data[name] = value
        if self.buffered:
            data["buffered"] = True
        if self.state is State.DONE:
            data["files"] = [file.to_json() for file in self.files]
            data["fields"] = {name: list(values) for name, values in self.fields.items()}
        return data

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form that a pool keeps: without the identifier, with the attempt."""
        record = self.to_json()
        del record["identifier"]
        record["attempt"] = self.attempt
        if self.owner:
            record["owner"] = self.owner
        for name in _FLAGS:
            if getattr(self, name):
                record[name] = True
        if self.direct is not None:
            record["direct"] = asdict(self.direct)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_record` made.

        :raises: one of :data:`FOREIGN`, if it is something else.
        """
        return cls(
            state=State(record["state"]),
            filename=record["filename"],
            content_type=record["content-type"],
            size=record["size"],
            received=record["received"],
            files=tuple(UploadedFile.from_json(file) for file in record.get("files", ())),
            fields={name: tuple(values) for name, values in record.get("fields", {}).items()},
            buffered=bool(record.get("buffered", False)),
            resumable=bool(record.get("resumable", False)),
            suspended=bool(record.get("suspended", False)),
            kept=bool(record.get("kept", False)),
            direct=DirectUploadTerms(**record["direct"]) if "direct" in record else None,
            attempt=_plain_name(record["attempt"]),
            owner=str(record.get("owner", "")),
            started=record.get("started"),
            updated=record.get("updated"),
            finished=record.get("finished"),
            expires=record.get("expires"),
            error=record.get("error"),
            code=record.get("code"),
        )

    def __getitem__(self, key: str) -> Any:
        return self.to_json()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_json())

    def __len__(self) -> int:
        return len(self.to_json())
