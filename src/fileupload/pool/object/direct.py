"""Direct uploads into an object store: the client has signed addresses, and no byte passes through us."""

from __future__ import annotations

import errno
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from fileupload.errors import Incomplete, Superseded
from fileupload.pool.direct import DirectFile, Form, Part, PartWriter
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE, ObjectWriter
from fileupload.pool.object.snapshot import data_prefix_of
from fileupload.status import RUNNING, UploadStatus

if TYPE_CHECKING:
    from fileupload.pool.object.pool import ObjectPool

_CHUNK = 1 << 20


class ObjectDirect(DirectFile):
    """An object that is made of parts, each with an address of its own, or posted by a form.

    ::

        f/<token>/0             the file; the parts are for it, where a store seals what was made of parts
        f/<token>/0.direct      else for this: it is copied, since parts may come later
        f/<token>/0.direct-…    what was posted by a form: copied too; whoever knows this key was offered the form
        f/<token>/0.parts       the name of the undertaking that has the parts
        f/<token>/0.form        the end of the key for the form
        f/<token>/0.receiving   which request of our own server's receives it now, while one does
    """

    def __init__(self, pool: ObjectPool, bucket_id: str, attempt: str, terms: UploadStatus | None = None) -> None:
        self._pool = pool
        self._store = pool.store
        if terms is not None and terms.direct is not None and terms.direct.acl:
            disposition = f"attachment; filename*=UTF-8''{quote(terms.filename or 'file', safe='')}"
            self._store = pool.store.with_object_headers(
                terms.content_type, disposition=disposition, acl=terms.direct.acl
            )
        self._id = bucket_id
        self._data = data_prefix_of(attempt)
        self._file = pool.key(bucket_id, "f", self._data, "0")
        self._note = self._file + ".parts"
        self._form_note = self._file + ".form"
        self._receiving = self._file + ".receiving"
        self._target = self._file if self._store.rejects_late_parts else self._file + ".direct"
        self._upload: str | None = None

    def begin(self, *, form: bool) -> None:
        """Begin the undertaking; a form needs none, but a key that nobody guesses."""
        if form:
            self._store.put(self._form_note, secrets.token_hex(16).encode())
        else:
            self._upload = self._store.create_multipart_upload(self._target, "application/octet-stream")
            self._store.put(self._note, self._upload.encode())

    @cached_property
    def _sent(self) -> str:
        """The key of what is copied in the end."""
        return (self._form_key() if self._read_upload() is None else None) or self._file + ".direct"

    def _form_key(self) -> str | None:
        with suppress(FileNotFoundError):
            return f"{self._file}.direct-{self._store.get(self._form_note).decode()}"
        return None

    def is_form_key(self, key: str) -> bool:
        """Compare *key* with what the form was given."""
        # However much of it is right, the answer takes as long.
        return hmac.compare_digest(key.encode(errors="replace"), (self._form_key() or "").encode())

    def _read_upload(self) -> str | None:
        """Return the name of the undertaking, or None for a form."""
        if self._upload is None:
            with suppress(FileNotFoundError):
                self._upload = self._store.get(self._note).decode()
        return self._upload

    def part_url(self, number: int, size: int | None, expires: float) -> str:
        """Return an address of the store."""
        upload = self._read_upload()
        if upload is None:
            raise Superseded  # or a crash came before it was begun
        return self._store.part_url(self._target, upload, number, size, expires)

    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return an address of the store, and the policy that it asks for; None if it knows none."""
        return self._store.presigned_post(self._sent, min_size, max_size, content_type, expires)

    def receive_part(self, number: int, size: int = 0, limit: int | None = None) -> PartWriter:
        """Take what was posted, in the place of a store that takes no forms.

        A store has no locks, so the newest request leaves its name beside the object, and the others look for it. What
        they have sent is aborted at once, since their clients may keep them waiting.
        """
        self.require_open()
        name = secrets.token_hex(8)
        self._store.put(self._receiving, name.encode())
        for key, upload, _ in list(self._store.list_multipart_uploads(self._sent)):
            if key == self._sent:
                self._store.abort_multipart_upload(key, upload)
        return _ObjectPart(
            self, ObjectWriter(self._store, self._pool.part_executor, self._sent, expected=None), number, name
        )

    def is_superseded(self, name: str) -> bool:
        """Tell whether a request that began later than that of *name* receives the object now."""
        try:
            return self._store.get(self._receiving).decode() != name
        except FileNotFoundError:  # the newest one has ended
            return False

    def end_receiving(self, name: str) -> None:
        """Remove the *name* of a request that has ended, unless another has taken its place."""
        if not self.is_superseded(name):
            self._store.delete([self._receiving])

    def require_open(self) -> None:
        """Look whether the client may still send.

        :raises Superseded: the upload was finished, cleared or begun anew, or is being completed.
        """
        status = self._pool.status(self._id)
        if status.state not in RUNNING or status.running or data_prefix_of(status.attempt) != self._data:
            raise Superseded

    def parts(self) -> Sequence[Part]:
        """Ask the store."""
        # What is assembled while we look for its parts is there in the end.
        for find in (self._assembled, self._stored, self._assembled):
            with suppress(FileNotFoundError):
                return find()
        return []

    def _assembled(self) -> list[Part]:
        """Return the file itself, made by somebody who did not come to say so.

        :raises FileNotFoundError: there is none; :meth:`_stored` does so too.
        """
        return [replace(self._store.stat(self._file), number=0)]

    def _stored(self) -> list[Part]:
        """Return the parts, or what was posted."""
        if (upload := self._read_upload()) is None:
            return [self._store.stat(self._sent)]
        return sorted(self._store.parts(self._target, upload), key=lambda part: part.number)

    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Let the store make the object; it is read back only to be hashed."""
        if parts[0].number:
            try:
                self._make(parts)
            except (FileNotFoundError, FileExistsError):
                if not self._is_made(parts):
                    raise Incomplete("A part was sent again while the upload was being completed.") from None
        self._store.delete([self._sent, self._note, self._receiving])
        return self._hash() if hashed else None

    def _make(self, parts: Sequence[Part]) -> None:
        sent = parts[0].etag
        if (upload := self._read_upload()) is not None:
            # Where it is to be copied, it may have been made before, by somebody who did not come to copy it.
            with nullcontext() if self._store.rejects_late_parts else suppress(FileNotFoundError):
                self._store.complete_multipart_upload(self._target, upload, parts)
            if self._store.rejects_late_parts:
                return
            sent = self._store.stat(self._sent).etag
            if sent.strip('"') != _etag_of(parts):
                # A part came after it was made: it can neither be read nor made again.
                raise FileNotFoundError(errno.ENOENT, "made of other parts", self._sent)
        self._store.copy(self._sent, self._file, etag=sent)

    def _is_made(self, parts: Sequence[Part]) -> bool:
        """Tell whether somebody else has made the file of *parts* meanwhile: of two owners, one is so no more."""
        with suppress(FileNotFoundError):
            return self._store.stat(self._file).size == sum(part.size for part in parts)
        return False

    def _hash(self) -> str:
        digest = hashlib.sha256()
        with self._store.open(self._file) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def stat_sent(self) -> Part:
        """Return what was posted last."""
        return self._store.stat(self._sent)

    def remove_sent(self) -> None:
        """Remove what was posted, and came too late."""
        self._store.delete([self._sent])

    def abandon(self) -> None:
        """Abort the undertaking, and remove what it has made."""
        if (upload := self._read_upload()) is not None:
            self._store.abort_multipart_upload(self._target, upload)
        self._store.delete([self._file, self._sent, self._note, self._form_note, self._receiving])


def _etag_of(parts: Sequence[Part]) -> str:
    """Return the ETag that S3-compatible stores give an object made of *parts*."""
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class _ObjectPart(PartWriter):
    """What came by our own server, on its way into the object that is copied later."""

    def __init__(self, direct: ObjectDirect, writer: ObjectWriter, number: int, name: str) -> None:
        self._direct = direct
        self._number = number
        self._writer = writer
        self._name = name

    def write(self, data: bytes) -> None:
        """Take all of *data*.

        :raises Superseded: another request receives the object now.
        """
        taken = self._writer.taken
        # No part is smaller than that, so none is sent without a look.
        if (taken + len(data)) // DEFAULT_PART_SIZE != taken // DEFAULT_PART_SIZE:
            self._require_place()
        with self._aborted_means_superseded():
            self._writer.write(data)

    def _require_place(self) -> None:
        if self._direct.is_superseded(self._name):
            raise Superseded

    @staticmethod
    @contextmanager
    def _aborted_means_superseded() -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:  # the multipart upload was aborted by another request
            raise Superseded from None

    def close(self) -> None:
        """Make the object, unless the upload was finished or sent again meanwhile."""
        self._require_place()
        with self._aborted_means_superseded():
            self._writer.close()
        self._direct.end_receiving(self._name)
        self.part = replace(self._direct.stat_sent(), number=self._number)
        try:
            self._direct.require_open()
        except Superseded:
            self._direct.remove_sent()
            raise

    def abandon(self) -> None:
        """Leave nothing of an object that was not closed."""
        self._writer.abandon()
        self._direct.end_receiving(self._name)
