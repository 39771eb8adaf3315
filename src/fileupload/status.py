"""The status of an upload: frozen values, with their JSON form and their stored record.

The JSON form is the interface to clients and to the app. A pool stores a *record*, which is the JSON form without the
identifier, with a few keys that are never shown. Both are written and read in this module only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Self

from fileupload.errors import UploadError
from fileupload.formatting import encode_json


class State(StrEnum):
    """The state of an upload, as in the ``state`` of its JSON form."""

    STARTING = "starting"
    UPLOADING = "uploading"
    DONE = "done"
    ERROR = "error"
    UNKNOWN = "unknown"


RUNNING = frozenset({State.STARTING, State.UPLOADING})

_ATTEMPT_ID = re.compile(r"[0-9A-Za-z_-]{0,64}", re.ASCII)
_FLAGS = ("resumable", "suspended", "kept")  # keys of a record that the JSON form does not have


class InvalidRecord(ValueError):
    """The data is not a record: it was not written by :meth:`UploadStatus.to_record`, or is truncated."""


def timestamp(seconds: float | None = None) -> str:
    """Return *seconds* since the epoch (now, if None) as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(moment: str) -> float:
    """Return the seconds since the epoch of a :func:`timestamp`.

    :raises ValueError: *moment* is not such a text.
    """
    return datetime.fromisoformat(moment).timestamp()


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """One file of an upload.

    :ivar field: name of the form field that held the file; empty for a plain body.
    :ivar filename: name given by the client, without directories; never a path on the server.
    :ivar content_type: media type given by the client, in lower case, without parameters.
    :ivar size: size in bytes.
    :ivar sha256: hex digest of the bytes, or None with ``checksum = none``.
    """

    field: str
    filename: str
    content_type: str
    size: int
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, an item of ``files``."""
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
    """The terms of a direct upload: the file that the client may send straight to the pool.

    :ivar form: True if the client sends one object, by a form or by a PUT; False if it sends parts.
    :ivar part_size: size in bytes of each part but the last; None if the client chooses the sizes.
    :ivar max_size: maximum size of the file in bytes, where its size is not known beforehand; None for no limit.
    :ivar sha256: hex digest that the file must have, or None.
    :ivar pool_options: options that only the pool interprets (see :mod:`fileupload.pool.direct`).
    """

    form: bool = False
    part_size: int | None = None
    max_size: int | None = None
    sha256: str | None = None
    pool_options: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return the form in which a pool stores the terms."""
        return {
            **self.pool_options,
            "form": self.form,
            "part_size": self.part_size or 0,  # pools of earlier versions store None as 0
            "max_size": self.max_size,
            "sha256": self.sha256,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_record` returned; the keys that it does not know are the pool's options."""
        own = {"form", "part_size", "max_size", "sha256"}
        return cls(
            form=bool(record.get("form", False)),
            part_size=record.get("part_size") or None,
            max_size=record.get("max_size"),
            sha256=record.get("sha256"),
            pool_options={key: str(value) for key, value in record.items() if value and key not in own},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class UploadStatus(dict[str, Any]):
    """The status of an upload; that of a finished one is the descriptor that the app receives.

    It reads like an object (``status.state``), and is a dictionary with its JSON form (``status["content-type"]``,
    ``json.dumps(status)``), because the predecessor's ``get_status`` returned a dictionary. Both are read-only;
    ``dict(status)`` is a copy that can be changed.

    :ivar identifier: the signed identifier, if the caller knows it; pools do not store it.
    :ivar filename: name of the first file, once it is known.
    :ivar size: bytes of the whole body while the upload runs (None if unknown), of the first file when it is done.
    :ivar received: bytes received of the body while the upload runs, size of the first file when it is done.
    :ivar buffered: True if the WSGI server buffered the body before the app saw it, so that there is no progress.
    :ivar resumable: True if the upload may come in several requests, and so survives a crash; never shown.
    :ivar suspended: True while no request works on a resumable upload; set by the pool, never shown.
    :ivar kept: True for a finished upload that is exempt from purging; never shown.
    :ivar direct: the terms, for a direct upload; never shown.
    :ivar attempt: the pool's name of the attempt that this status describes; never shown.
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

    def __post_init__(self) -> None:
        # A real dictionary with real items: the encoder in C of the json module looks for them directly.
        super().update(self._make_json())

    @property
    def running(self) -> bool:
        """True while a request works on the upload, so that bytes may arrive at any moment."""
        return self.state in RUNNING and not self.suspended

    def done(self, files: tuple[UploadedFile, ...], fields: Mapping[str, tuple[str, ...]]) -> UploadStatus:
        """Return the status of the finished upload with these *files*, of which a form may have none, and *fields*."""
        first = files[0] if files else UploadedFile(field="", filename="", content_type="", size=0)
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
        """Return the status of the upload that failed with *error*, now or *at* that :func:`timestamp`."""
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
        """Return the JSON form, without the keys that have no meaning in this state."""
        return dict(self)

    def _make_json(self) -> dict[str, Any]:
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
        """Return the record: the JSON form without the identifier, with the keys that are never shown."""
        record = self.to_json()
        del record["identifier"]
        record["attempt"] = self.attempt
        if self.owner:
            record["owner"] = self.owner
        for name in _FLAGS:
            if getattr(self, name):
                record[name] = True
        if self.direct is not None:
            record["direct"] = self.direct.to_record()
        return record

    def to_stored(self) -> bytes:
        """Return the record as JSON text, in the form in which pools store it."""
        return encode_json(self.to_record())

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Read what :meth:`to_record` returned.

        :raises InvalidRecord: it is something else.
        """
        try:
            return cls._from_record(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRecord(f"not a record: {type(error).__name__}") from error

    @classmethod
    def from_stored(cls, data: bytes | str) -> Self:
        """Read what :meth:`to_stored` returned.

        :raises InvalidRecord: it is something else, such as a truncated text.
        """
        try:
            record = json.loads(data)
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
            raise InvalidRecord("not a JSON text") from error
        return cls.from_record(record)

    @classmethod
    def _from_record(cls, record: Mapping[str, Any]) -> Self:
        # A pool makes a path or a key of it: a planted record must not lead out of the bucket.
        if _ATTEMPT_ID.fullmatch(record["attempt"]) is None:
            raise ValueError("not the name of an attempt")
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
            direct=DirectUploadTerms.from_record(record["direct"]) if "direct" in record else None,
            attempt=record["attempt"],
            owner=str(record.get("owner", "")),
            started=record.get("started"),
            updated=record.get("updated"),
            finished=record.get("finished"),
            expires=record.get("expires"),
            error=record.get("error"),
            code=record.get("code"),
        )

    def __eq__(self, other: object) -> bool:
        """Compare all fields with another status, or the JSON form with any other dictionary."""
        return vars(self) == vars(other) if isinstance(other, UploadStatus) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # that of dict would compare the items only

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are made of the fields: the items follow from them, and cannot be set.
        return partial(type(self), **vars(self)), ()

    def _refuse_change(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a status is read-only; dict(status) is a copy that can be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse_change
    clear = pop = popitem = setdefault = update = _refuse_change
