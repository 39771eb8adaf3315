"""Adapters for the APIs of the apps that hold the records: Kinto's, and plain REST."""

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
    """The interface to the API of an app.

    :ivar batch_path: the path of batch requests; empty if the app has none.
    :ivar flush_path: the path at which a POST removes all records; empty if the app has none.
    :cvar envelope: the keys under which a body contains the attributes.
    :cvar not_found_statuses: the statuses of answers to a PATCH of a record that does not exist.
    """

    batch_path = ""
    flush_path = ""
    envelope: ClassVar[tuple[str, ...]] = ()
    not_found_statuses: ClassVar[frozenset[int]] = frozenset({404})

    def __init__(self, template: RecordTemplate) -> None:
        self.template = template

    @abstractmethod
    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Return the app's refusal if the client may not write *record*, or None if it may, as far as that is known."""

    @abstractmethod
    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Remove the attribute from *record*; return the app's answer."""

    @abstractmethod
    def problem(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        """Return the response for *error*."""

    @abstractmethod
    def body(self, attributes: dict[str, Any], permissions: dict[str, Any] | None) -> dict[str, Any]:
        """Return the body of a request that sets *attributes*.

        :raises RecordError: the API has no permissions.
        """

    @abstractmethod
    def attributes(self, body: Any) -> Any:
        """Return the attributes in the *body* of a request or of an answer; None if it has none."""

    def passes_batch_limit(self, client: AppClient, count: int) -> bool:
        """Return whether the app refuses a batch of *count* requests as too large."""
        return False

    @abstractmethod
    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the canonical address of a resource that may have several."""

    def attachment(self, answer: Response) -> Any:
        """Return the attribute ``attachment`` of the record in *answer*, or None."""
        attributes = self.attributes(json_of(answer))
        return attributes.get(FIELD) if isinstance(attributes, dict) else None

    def removed(self, answer: Response) -> Iterable[str] | None:
        """Return the ids of the records that the app has removed, or None if its answer does not list them."""
        body = json_of(answer)
        listed = body.get("data") if isinstance(body, dict) else body
        if not isinstance(listed, list) or not all(isinstance(each, dict) and "id" in each for each in listed):
            return None
        return [str(each["id"]) for each in listed]


class RestApi(ApiAdapter):
    """A plain REST API: the body of a request is the record."""

    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Return the app's refusal if the client may not even read the record."""
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
            raise RecordError("this server does not support 'permissions'", location="body")
        return attributes

    def attributes(self, body: Any) -> Any:
        """Return the body."""
        return body

    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the address as it is."""
        return segments


class KintoApi(ApiAdapter):
    """Kinto's API: a record is under the key ``data``, and each user has a bucket with the alias ``default``."""

    # A timestamp that no record has. A request with it writes nothing: an authorised client is answered with 412.
    _NEVER = '"1"'
    envelope: ClassVar[tuple[str, ...]] = ("data",)
    # A client that may only create records is answered with 403 for records that do not exist.
    not_found_statuses: ClassVar[frozenset[int]] = frozenset({403, 404})
    _BATCH_LIMIT = 25  # Kinto's default for batch_max_requests

    def __init__(self, template: RecordTemplate) -> None:
        super().__init__(template)
        self.batch_path = template.at_root("batch")
        self.flush_path = template.at_root("__flush__")

    def check_permission(self, client: AppClient, record: RecordAddress) -> Response | None:
        """Send a write with an If-Match that never holds; Kinto checks permissions before the condition."""
        answer = client.request("PUT", record.path, {"data": {}}, headers={"If-Match": self._NEVER})
        return None if answer.status_code == http.HTTPStatus.PRECONDITION_FAILED else answer

    def detach(self, client: AppClient, record: RecordAddress) -> Response:
        """Set the attribute to null, as kinto-attachment does; remove it if the collection's schema allows no null."""
        body = {"data": {FIELD: None}}
        answer = client.request("PATCH", record.path, body, conditional=True)
        if answer.status_code != http.HTTPStatus.BAD_REQUEST:
            return answer
        merge = {"Content-Type": "application/merge-patch+json"}  # here a null removes the attribute (RFC 7396)
        return client.request("PATCH", record.path, body, conditional=True, headers=merge)

    def problem(self, error: UploadError, environ: WSGIEnvironment) -> Response:
        """Return an error in Kinto's form."""
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
        """Return the value of ``data``."""
        return body.get("data") if isinstance(body, dict) else None

    def canonical(self, client: AppClient, segments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the address with the id of the user's bucket instead of ``default``."""
        position = len(self.template.root) + 1
        if segments[position : position + 1] != ("default",):
            return segments
        bucket = self._root(client, "user").get("bucket")
        return (*segments[:position], bucket, *segments[position + 1 :]) if isinstance(bucket, str) else segments

    def passes_batch_limit(self, client: AppClient, count: int) -> bool:
        """Compare *count* with the server's limit, which is read only for more requests than Kinto's default."""
        if count <= self._BATCH_LIMIT:
            return False
        limit = self._root(client, "settings").get("batch_max_requests")
        return isinstance(limit, int) and 0 < limit < count

    def _root(self, client: AppClient, name: str) -> dict[str, Any]:
        """Return the object *name* in the server's root document; empty if there is none."""
        root = json_of(client.request("GET", self.template.at_root("") + "/"))
        found = root.get(name) if isinstance(root, dict) else None
        return found if isinstance(found, dict) else {}


def _reason(status: int) -> str:
    return http.HTTPStatus(status).phrase
