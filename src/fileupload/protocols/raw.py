"""The protocol of a plain PUT: ``curl -T file '…/upload?X-Progress-ID=ID&filename=name'``."""

from __future__ import annotations

from functools import partial

from fileupload.errors import LengthRequired, UnsupportedRequest
from fileupload.protocols.base import Transfer, WholeBodyProtocol
from fileupload.protocols.receiver import Receiver
from fileupload.protocols.upload_request import UploadRequest
from fileupload.protocols.whole_file import refuse_envelope
from fileupload.wsgi.headers import clean_filename, disposition_filename, media_type, type_of
from fileupload.wsgi.request_body import BodyReader

# Many clients send this type by default (curl --data, urllib), whatever the body is; no file has it.
_FORM_TYPE = "application/x-www-form-urlencoded"


class RawProtocol(WholeBodyProtocol):
    """The whole body is the file; its name comes from Content-Disposition or ``filename=``."""

    name = "put"
    methods = ("PUT",)
    may_be_empty = True

    def prepare(self, request: UploadRequest) -> Transfer:
        """Check length, name and type; return the function that stores the body."""
        refuse_envelope(request.environ.get("CONTENT_TYPE", ""))
        if not request.body.detects_truncation:
            # A form needs no length: its closing boundary proves that it is complete.
            raise LengthRequired(
                "Send the length of the file as Content-Length: without it, this server cannot distinguish a broken"
                " connection from the end of the file. A form (multipart/form-data) may be sent without it."
            )
        policy = request.policy
        policy.check_file_size(request.body.length)
        filename, content_type = _name_and_type(request)
        policy.check_file("", filename, content_type)
        return partial(_transfer, request.body, filename, content_type)


def _transfer(body: BodyReader, filename: str, content_type: str, receiver: Receiver) -> None:
    receiver.begin_file("", filename, content_type)
    for chunk in body.chunks():
        receiver.write(chunk)
        receiver.publish_if_due()
    receiver.end_file()


def _name_and_type(request: UploadRequest) -> tuple[str, str]:
    filename = request.filename or _declared_name(request)
    given = request.environ.get("CONTENT_TYPE", "")
    return filename, media_type("" if type_of(given) == _FORM_TYPE else given, filename)


def _declared_name(request: UploadRequest) -> str:
    """Return the name in ``Content-Disposition``, or else the one in the query; empty if there is none.

    :raises UnsupportedRequest: the header cannot be read.
    """
    try:
        filename = disposition_filename(request.environ.get("HTTP_CONTENT_DISPOSITION", ""))
    except ValueError as error:
        raise UnsupportedRequest(f"The header Content-Disposition cannot be read: {error}.") from None
    return filename or clean_filename(request.query.get("filename", ""))
