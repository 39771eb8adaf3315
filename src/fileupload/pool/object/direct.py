"""Direct uploads into an object store: the client uses presigned URLs, and no byte passes through this process.

::

    f/<data>/0             the file; also the target of the parts, in a store that rejects parts after completion
    f/<data>/0.direct      the target of the parts in any other store: copied to the file when it is complete
    f/<data>/0.direct-…    what a form has posted, or one PUT has sent, also copied; the key is a secret between us and
                           the client
    f/<data>/0.parts       the upload id of the multipart upload
    f/<data>/0.form        the secret end of the form's key
    f/<data>/0.receiving   the request of our own server that receives the file now, if one does

Clients always send parts, even of a small file, because a presigned URL can be used again until it expires, also after
the upload is finished. A part that arrives then is refused, because its multipart upload is complete; a PUT of an
object would replace the file. Two cases need more:

- OpenStack Swift accepts such a part and thereby breaks the object that was made of it. So there the parts make another
  object, which the store copies: the copy is the file.
- A posted form makes a plain object, which a second post would replace. So it is copied too, on condition that its ETag
  is still the one that was checked. The same holds for a PUT of the whole file, which clients use that send an ACL
  themselves: Amazon S3 refuses an ACL with a part.

Completing may be interrupted anywhere and is then done again. Each step first looks whether its result exists.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property

from fileupload import clocks
from fileupload.errors import Incomplete, Superseded
from fileupload.pool.direct import OBJECT_ACL, DirectFile
from fileupload.pool.object.bucket_store import ObjectBucketStore
from fileupload.pool.object.keys import data_prefix_of
from fileupload.pool.object.multipart_writer import DEFAULT_PART_SIZE, ObjectWriter
from fileupload.pool.parts import Form, Part, PartWriter, PresignedPut
from fileupload.status import RUNNING, UploadStatus, seconds_of, timestamp
from fileupload.wsgi.headers import extended_filename

_CHUNK = 1 << 20  # bytes


class ObjectDirect(DirectFile):
    """A direct upload whose file is an object, made of parts that have a URL each, or posted by a form."""

    def __init__(self, bucket: ObjectBucketStore, attempt: str, terms: UploadStatus | None = None) -> None:
        self.upload_id = data_prefix_of(attempt)
        self._bucket = bucket
        self._store = bucket.store
        self._acl = acl = terms.direct.pool_options.get(OBJECT_ACL, "") if terms is not None and terms.direct else ""
        if terms is not None and acl:
            disposition = f"attachment; {extended_filename(terms.filename)}"
            self._store = bucket.store.with_object_headers(terms.content_type, disposition=disposition, acl=acl)
        self._file = bucket.file_key(attempt, 0)
        self._upload_note = self._file + ".parts"
        self._form_note = self._file + ".form"
        self._receiving = self._file + ".receiving"
        self._target = self._file if self._store.rejects_late_parts else self._file + ".direct"
        self._upload: str | None = None

    def begin(self, *, form: bool) -> None:
        """Create the multipart upload; for a form, choose its secret key."""
        if form:
            self._store.put(self._form_note, secrets.token_hex(16).encode())
        else:
            self._upload = self._store.create_multipart_upload(self._target, "application/octet-stream")
            self._store.put(self._upload_note, self._upload.encode())

    @cached_property
    def _sent(self) -> str:
        """The key of the object that is copied to the file."""
        return (self._form_key() if self._read_upload() is None else None) or self._file + ".direct"

    def _form_key(self) -> str | None:
        with suppress(FileNotFoundError):
            return f"{self._file}.direct-{self._store.get(self._form_note).decode()}"
        return None

    def is_form_key(self, key: str) -> bool:
        """Compare *key* with the key of the form, in constant time."""
        return hmac.compare_digest(key.encode(errors="replace"), (self._form_key() or "").encode())

    def _read_upload(self) -> str | None:
        """Return the upload id of the multipart upload; None for a form."""
        if self._upload is None:
            with suppress(FileNotFoundError):
                self._upload = self._store.get(self._upload_note).decode()
        return self._upload

    def part_url(self, number: int, size: int | None, expires: float) -> str:
        """Return a presigned URL of the store."""
        upload = self._read_upload()
        if upload is None:
            raise Superseded  # or the process crashed before it had created the multipart upload
        return self._store.part_url(self._target, upload, number, size, expires)

    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return a form with a POST policy; None if the store does not support POST policies."""
        return self._store.presigned_post(self._sent, min_size, max_size, content_type, expires)

    def put(self, size: int | None, expires: float) -> PresignedPut:
        """Return a presigned request of the store."""
        return self._store.presigned_put(self._sent, size, expires, acl=self._acl)

    def receive_part(self, number: int, size: int | None = None, limit: int | None = None) -> PartWriter:
        """Receive a posted form, for a store that does not support POST policies.

        A store has no locks. So the newest request writes its name beside the object, and older ones look for it before
        they send. Their multipart uploads are aborted at once, since their clients may keep them waiting.
        """
        self.require_open()
        name = secrets.token_hex(8)
        self._store.put(self._receiving, name.encode())
        for key, upload, _ in list(self._store.list_multipart_uploads(self._sent)):
            if key == self._sent:
                self._store.abort_multipart_upload(key, upload)
        writer = ObjectWriter(self._store, self._bucket.part_executor, self._sent, expected=None)
        return _ObjectPart(self, writer, number, name)

    def is_superseded(self, name: str) -> bool:
        """Return whether a request that began after the request *name* receives the object now."""
        try:
            return self._store.get(self._receiving).decode() != name
        except FileNotFoundError:  # the newest request has ended
            return False

    def end_receiving(self, name: str) -> None:
        """Remove the note of the request *name*, which has ended, unless it is that of a newer request."""
        if not self.is_superseded(name):
            self._store.delete([self._receiving])

    def require_open(self) -> None:
        """Check that the client may still send.

        :raises Superseded: the upload was finished, cleared or begun again, or is being completed.
        """
        status = self._bucket.status()
        if status.state not in RUNNING or status.running or data_prefix_of(status.attempt) != self.upload_id:
            raise Superseded

    def parts(self) -> Sequence[Part]:
        """Ask the store for the parts, the posted object or the file."""
        # Assembling removes the parts after the file exists. So if neither the file nor the parts are found, because
        # the file was assembled in between, a second look finds the file.
        for find in (self._assembled, self._stored, self._assembled):
            with suppress(FileNotFoundError):
                return find()
        return []

    def _assembled(self) -> list[Part]:
        """Return the file, which a process has assembled before it crashed.

        :raises FileNotFoundError: there is none; :meth:`_stored` raises it too.
        """
        return [replace(self._store.stat(self._file), number=0)]

    def _stored(self) -> list[Part]:
        """Return the parts, or the posted object."""
        if (upload := self._read_upload()) is None:
            return [self._store.stat(self._sent)]
        return sorted(self._store.parts(self._target, upload), key=lambda part: part.number)

    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Let the store make the file; it is read back only to be hashed."""
        if parts[0].number:
            try:
                self._make(parts)
            except (FileNotFoundError, FileExistsError):
                if not self._is_made(parts):
                    raise Incomplete("A part was sent again while the upload was being completed.") from None
        self._store.delete([self._sent, self._upload_note, self._receiving])
        return self._hash() if hashed else None

    def _make(self, parts: Sequence[Part]) -> None:
        sent = parts[0].etag
        if (upload := self._read_upload()) is not None:
            # In a store where the object is copied, a process may have completed it and crashed before the copy.
            with nullcontext() if self._store.rejects_late_parts else suppress(FileNotFoundError):
                self._store.complete_multipart_upload(self._target, upload, parts)
            if self._store.rejects_late_parts:
                return
            sent = self._store.stat(self._sent).etag
            if sent.strip('"') != _etag_of(parts):
                # A part arrived after completion and broke the object: it can neither be read nor completed again.
                raise FileNotFoundError(errno.ENOENT, "the object was made of other parts", self._sent)
        self._store.copy(self._sent, self._file, etag=sent)

    def _is_made(self, parts: Sequence[Part]) -> bool:
        """Return whether another process, which took this one for crashed, has made the file of *parts* meanwhile."""
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
        """Return the object that was posted last."""
        return self._store.stat(self._sent)

    def remove_sent(self) -> None:
        """Remove a posted object that arrived too late."""
        self._store.delete([self._sent])

    def abandon(self) -> None:
        """Abort the multipart upload, and remove all objects of the direct upload."""
        if (upload := self._read_upload()) is not None:
            self._store.abort_multipart_upload(self._target, upload)
        self._store.delete([self._file, self._sent, self._upload_note, self._form_note, self._receiving])


def with_sent_parts(bucket: ObjectBucketStore, status: UploadStatus) -> UploadStatus:
    """Return *status*; if it is that of a running direct upload, with the bytes the client has sent, and their time."""
    if status.direct is None or status.state not in RUNNING:
        return status
    parts = ObjectDirect(bucket, status.attempt).parts()
    moments = [timestamp(time.time() - part.age) for part in parts]
    # Otherwise a time that is far ahead would hide the times of the parts, which are by the clock of the store.
    if status.updated and not (moments and clocks.is_far_ahead(seconds_of(status.updated))):
        moments.append(status.updated)
    return replace(status, received=sum(part.size for part in parts), updated=max(moments, default=None))


def _etag_of(parts: Sequence[Part]) -> str:
    """Return the ETag that S3-compatible stores give to an object made of *parts*."""
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class _ObjectPart(PartWriter):
    """Writes a posted file that our own server receives into the object that is copied later."""

    def __init__(self, direct: ObjectDirect, writer: ObjectWriter, number: int, name: str) -> None:
        self._direct = direct
        self._number = number
        self._writer = writer
        self._name = name

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        :raises Superseded: another request receives the object now.
        """
        taken = self._writer.taken
        # No part is smaller than DEFAULT_PART_SIZE, so a check at each multiple of it precedes every part.
        if (taken + len(data)) // DEFAULT_PART_SIZE != taken // DEFAULT_PART_SIZE:
            self._require_newest()
        with self._aborted_means_superseded():
            self._writer.write(data)

    def _require_newest(self) -> None:
        if self._direct.is_superseded(self._name):
            raise Superseded

    @staticmethod
    @contextmanager
    def _aborted_means_superseded() -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:  # a newer request has aborted the multipart upload
            raise Superseded from None

    def close(self) -> None:
        """Make the object, unless the upload was finished or sent again meanwhile."""
        self._require_newest()
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
        """Remove an object that was not closed."""
        self._writer.abandon()
        self._direct.end_receiving(self._name)
