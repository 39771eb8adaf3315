"""How the apps speak that hold the records: Kinto, and plain REST."""

from __future__ import annotations

import http
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar
from wsgiref.types import WSGIEnvironment

from webob import Response

from fileupload.apps.record_attachments.errors import ERRNOS, RecordError
from fileupload.apps.record_attachments.form import FIELD
from fileupload.apps.record_attachments.subrequests import AppClient, json_of
from fileupload.apps.record_attachments.urls import RecordAddress, RecordTemplate
from fileupload.errors import UploadError
from fileupload.wsgi.responses import json_response, problem, with_error_headers

_UNDEFINED = 999


class ApiAdapter(ABC):
    """What differs between apps. The plain one takes and gives a record as a JSON object.

    :ivar batch_path: where several requests can be sent in one; empty for nowhere.
    :ivar flush_path: where all records can be removed; empty for nowhere.
    :cvar envelope: the names under which the attributes are in a body.
    :cvar not_found_statuses: the statuses that a PATCH may be answered with where there is no such record.
    """

    batch_path = ""
    flush_path = ""
    envelope: ClassVar[tuple[str, ...]] = ()
    not_found_statuses: ClassVar[frozenset[int]] = frozenset({404})

    def __init__(self, template: RecordTemplate) -> None:
        self.template = template

    @abstractmethod
    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Return the app's own answer if the client may not write *record*, as far as it can be told beforehand."""

    @abstractmethod
    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Have the app take the attachment off *record*."""

    @abstractmethod
    def problem(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        """Return the answer to *error*."""

    @abstractmethod
    def body(self, attributes: dict[str, Any], permissions: dict[str, Any] | None) -> dict[str, Any]:
        """Return what is sent to the app to set *attributes*.

        :raises RecordError: it knows no permissions.
        """

    @abstractmethod
    def attributes(self, body: Any) -> Any:
        """Return the attributes in *body*, sent or answered; None if there are none."""

    def passes_batch_limit(self, client: AppClient, count: int) -> bool:
        """Tell whether the app refuses a batch of *count* requests, since they are too many."""
        return False

    @abstractmethod
    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the one address of what may have several."""

    def attachment(self, answer: Response) -> Any:
        """Return what the record in *answer* says of its attachment; None if nothing."""
        attributes = self.attributes(json_of(answer))
        return attributes.get(FIELD) if isinstance(attributes, dict) else None

    def removed(self, answer: Response) -> Iterable[str] | None:
        """Return the ids of what the app says it removed, or None if it does not say."""
        body = json_of(answer)
        listed = body.get("data") if isinstance(body, dict) else body
        if not isinstance(listed, list) or not all(isinstance(each, dict) and "id" in each for each in listed):
            return None
        return [str(each["id"]) for each in listed]


class RestApi(ApiAdapter):
    """An app in which the body of a record is the record."""

    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Return the app's answer if the client may not even read."""
        answer = client.request("GET", record.path)
        return answer if answer.status_code in {401, 403} else None

    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Set the attribute to null."""
        return client.request("PATCH", record.path, {FIELD: None}, conditional=True)

    def problem(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        """Return a problem document."""
        return problem(error, environ)

    def body(self, attributes: dict[str, Any], permissions: dict[str, Any] | None) -> dict[str, Any]:
        """Return the attributes."""
        if permissions is not None:
            raise RecordError("'permissions' mean nothing to this server", location="body")
        return attributes

    def attributes(self, body: Any) -> Any:
        """Return the body."""
        return body

    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the address as it is."""
        return segments


class KintoApi(ApiAdapter):
    """Kinto, in which a record is under ``data``, and each user has a bucket called ``default``."""

    # A timestamp that no record has: who may write is told 412, and nothing is written.
    _NEVER = '"1"'
    envelope: ClassVar[tuple[str, ...]] = ("data",)
    # Who may only create records is told 403 of those that are not there.
    not_found_statuses: ClassVar[frozenset[int]] = frozenset({403, 404})
    _BATCH_LIMIT = 25  # what Kinto takes in a batch if nothing is set

    def __init__(self, template: RecordTemplate) -> None:
        super().__init__(template)
        self.batch_path = template.at_root("batch")
        self.flush_path = template.at_root("__flush__")

    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Ask for a write that cannot be; Kinto looks at permissions first."""
        answer = client.request("PUT", record.path, {"data": {}}, headers={"If-Match": self._NEVER})
        return None if answer.status_code == http.HTTPStatus.PRECONDITION_FAILED else answer

    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Merge a null, which takes the attribute away (RFC 7396)."""
        body = {"data": {FIELD: None}}
        merge = {"Content-Type": "application/merge-patch+json"}
        return client.request("PATCH", record.path, body, conditional=True, headers=merge)

    def problem(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        """Return an error as Kinto has them."""
        errno = error.errno if isinstance(error, RecordError) else ERRNOS.get(error.status, _UNDEFINED)
        if error.status == http.HTTPStatus.BAD_REQUEST and errno == _UNDEFINED:
            errno = ERRNOS.get(error.status, 107)
        name = "Invalid parameters" if error.status == http.HTTPStatus.BAD_REQUEST else _reason(error.status)
        data: dict[str, Any] = {"code": error.status, "errno": errno, "error": name, "message": error.detail}
        if isinstance(error, RecordError) and error.location:
            data["details"] = [{"location": error.location, "name": None, "description": error.description}]
        return with_error_headers(json_response(data, error.status), error)

    def body(self, attributes: dict[str, Any], permissions: dict[str, Any] | None) -> dict[str, Any]:
        """Return the attributes under ``data``."""
        return {"data": attributes} | ({} if permissions is None else {"permissions": permissions})

    def attributes(self, body: Any) -> Any:
        """Return what is under ``data``."""
        return body.get("data") if isinstance(body, dict) else None

    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the address with the bucket's own id in the place of ``default``."""
        place = len(self.template.root) + 1
        if segments[place : place + 1] != ("default",):
            return segments
        bucket = self._root(client, "user").get("bucket")
        return (*segments[:place], bucket, *segments[place + 1 :]) if isinstance(bucket, str) else segments

    def passes_batch_limit(self, client: AppClient, count: int) -> bool:
        """Ask for the limit, where it may matter."""
        if count <= self._BATCH_LIMIT:
            return False
        limit = self._root(client, "settings").get("batch_max_requests")
        return isinstance(limit, int) and 0 < limit < count

    def _root(self, client: AppClient, name: str) -> dict[str, Any]:
        """Return what the server's root says under *name*."""
        root = json_of(client.request("GET", self.template.at_root("") + "/"))
        found = root.get(name) if isinstance(root, dict) else None
        return found if isinstance(found, dict) else {}


def _reason(status: int) -> str:
    return http.HTTPStatus(status).phrase
