"""The contract of direct uploads: files that clients send straight to the pool, in parts or by a form.

Parts may arrive in any order, several at once, and repeatedly: of each number, the last complete one counts. They
become a file when the owner of the attempt calls :meth:`DirectFile.assemble`, and change nothing afterwards. A part for
a bucket that was finished, cleared or begun again is refused, or ignored.

The terms of a direct upload (:class:`fileupload.status.DirectUploadTerms`) may carry options for the pool. Pools ignore
the options that they do not know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from fileupload.pool.parts import Form, Part, PartWriter, PresignedPut

ACL_HEADER = "x-amz-acl"  # the request header with the canned ACL of an object
OBJECT_ACL = "acl"  # a pool option: the canned ACL that the file gets in an object store, such as ``public-read``


class DirectFile(ABC):
    """The one file of a resumable attempt, which is suspended while the client sends.

    :ivar upload_id: a name that stays the same however often the attempt is resumed.
    :ivar streams_through_server: whether all bytes pass through this process when the file is assembled, so that
        hashing them costs little.
    """

    upload_id: str
    streams_through_server = False

    @abstractmethod
    def begin(self, *, form: bool) -> None:
        """Prepare the upload; called once, by the owner of the attempt.

        :param form: the client will send one object, by a form or by a PUT; otherwise it sends parts.
        """

    @abstractmethod
    def part_url(self, number: int, size: int | None, expires: float) -> str | None:
        """Return a presigned URL to which anyone can PUT a part.

        :param number: the number of the part, from 1.
        :param size: the exact size of the part in bytes; None for any size.
        :param expires: seconds for which the URL is valid.
        :return: None if our own server has to receive the part, with :meth:`receive_part`.
        :raises Superseded: there is no such upload in the pool.
        """

    @abstractmethod
    def form(self, min_size: int, max_size: int, content_type: str, expires: float) -> Form | None:
        """Return a presigned form with which anyone can post a file of *min_size* to *max_size* bytes.

        :param expires: seconds for which the form is valid.
        :return: None if our own server has to receive the file, as the only part.
        """

    def put(self, size: int | None, expires: float) -> PresignedPut | None:
        """Return a presigned request with which anyone can PUT the whole file, with the ACL of the terms as a header.

        Only for an upload that began with ``form``: a store does not accept an ACL with a part.

        :param size: the exact size in bytes; None for any size.
        :param expires: seconds for which it is valid.
        :return: None if our own server has to receive the file, as the only part.
        """
        return None

    def is_form_key(self, key: str) -> bool:
        """Return whether *key* is the secret object key of the form, known only to the client that received it."""
        return False

    @abstractmethod
    def receive_part(self, number: int, size: int | None = None, limit: int | None = None) -> PartWriter:
        """Begin to receive a part that the client sends to our own server.

        An older request that is still sending a part of this number is superseded, because the client has most likely
        sent the part again over a new connection. The older writer raises ``Superseded`` at its next operation, and its
        bytes are freed.

        :param size: the size in bytes that the request declares; None if it declares none.
        :param limit: maximum bytes of all parts together, those that are being received included; None for no limit.
        :raises TooLarge: the parts would exceed *limit*.
        :raises Superseded: the upload was finished, cleared or begun again.
        """

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """Return the complete parts in the order of their numbers; after :meth:`assemble`, one with the number 0."""

    @abstractmethod
    def assemble(self, parts: Sequence[Part], *, hashed: bool) -> str | None:
        """Make the file of exactly these *parts*; called by the owner, which has resumed the attempt.

        :return: the hex SHA-256 of the file, if *hashed*; otherwise None.
        :raises Incomplete: a part was replaced or removed since it was listed.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Remove the parts and the file."""
