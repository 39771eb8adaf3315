"""A collection of records on a Kinto server, accessed through kinto-http (installed by the extra ``[client]``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from fileupload.errors import SettingError
from fileupload.record_client.server import authorization
from fileupload.record_client.transfers import FormBody, TransferFailed, printable

_TIMEOUT = (15, 300)  # seconds for a connection, and for the next bytes of an answer
_BLOCK = 256 << 10  # bytes
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)  # the ids that Kinto accepts; kinto-http changes others


class Collection:
    """One collection on a server; a context manager.

    ::

        with Collection("https://kinto.example.com/v1", "main", "certificates") as collection:
            records = collection.records()
    """

    def __init__(self, server: str, bucket: str, collection: str, credentials: str = "") -> None:
        """Access a collection; nothing is sent yet.

        :param server: the URL of the server, with its version, such as ``/v1``.
        :param credentials: as for :func:`~fileupload.record_client.server.authorization`; empty for none.
        :raises SettingError: kinto-http is not installed, or an argument is invalid.
        """
        try:
            import kinto_http
            import requests
        except ImportError:
            raise SettingError("this needs kinto-http: pip install kinto-http tqdm") from None
        for name in (bucket, collection):
            if _ID.fullmatch(name) is None:
                raise SettingError(f"{printable(name)!r} cannot be the id of a bucket or a collection")
        auth = None
        if credentials:
            scheme, _, token = authorization(credentials).partition(" ")
            auth = kinto_http.TokenAuth(token, type=scheme)
        self._server = server.rstrip("/")
        self._client = kinto_http.Client(
            server_url=self._server, auth=auth, bucket=bucket, collection=collection, timeout=_TIMEOUT
        )
        # Files do not go through kinto-http, which would hold each in memory.
        self._http = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def require_attachments(self) -> None:
        """Check that the server has the capability ``attachments``.

        :raises TransferFailed: it has not, or it does not answer.
        """
        if "attachments" not in self._capabilities:
            raise TransferFailed("the server takes no attachments: it does not have the capability 'attachments'")

    def create(self) -> None:
        """Create the bucket and the collection, unless they exist or the server forbids it.

        :raises TransferFailed: the server does not answer as expected.
        """
        bucket, collection = self._client.bucket_name, self._client.collection_name
        with _translated_errors(), _ignored_statuses({403, 412}):
            self._client.create_bucket(id=bucket)
        with _translated_errors(), _ignored_statuses({403, 412}):
            self._client.create_collection(id=collection, bucket=bucket)

    def records(self) -> list[dict[str, Any]]:
        """Return all records, ordered by id.

        :raises TransferFailed: they cannot be read.
        """
        found: list[dict[str, Any]] = []
        page: str | None = self._client.get_endpoint("records")
        while page:
            with _translated_errors():
                body, headers = self._client.session.request("get", page)
            listed = body.get("data") if isinstance(body, dict) else None
            if not isinstance(listed, list):
                raise TransferFailed("the server's answer is no list of records")
            found += [each for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]
            page = headers.get("Next-Page")
        return sorted(found, key=lambda record: str(record["id"]))

    def attach(self, record_id: str, form: FormBody) -> dict[str, Any]:
        """Upload the file in *form* to a record; return the record's attribute ``attachment``.

        :raises TransferFailed: the server does not accept the file, or does not answer.
        """
        url = f"{self._server}{self._client.get_endpoint('records')}/{quote(record_id, safe='')}/attachment"
        headers = {"Content-Type": form.content_type, "Accept": "application/json"}
        with _translated_errors():
            # Redirects are not followed: the body could not be sent a second time.
            response = self._http.post(
                url,
                data=form,
                headers=headers,
                auth=self._client.session.auth,
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        body = _json_of(response)
        if response.status_code not in {200, 201} or not isinstance(body, dict):
            raise TransferFailed(_error_text(response))
        return body

    @contextmanager
    def open(self, location: str) -> Iterator[Iterator[bytes]]:
        """Yield the content of the file at *location*, as it is stored, block by block.

        No credentials are sent: the file may be on another host, and needs none.

        :raises TransferFailed: the file cannot be downloaded.
        """
        # The hash is that of the stored file: the server must not compress it, and requests must not decompress it.
        headers = {"Accept-Encoding": "identity"}
        with (
            _translated_errors(),
            self._http.get(self._complete(location), headers=headers, timeout=_TIMEOUT, stream=True) as response,
        ):
            if response.status_code != 200:
                raise TransferFailed(f"the server answers {response.status_code} for the file")
            yield response.raw.stream(_BLOCK, decode_content=False)

    def _complete(self, location: str) -> str:
        """Return the absolute URL of *location* (RFC 3986, 5).

        :raises TransferFailed: it is relative and the server has no base URL, or its scheme is not http or https.
        """
        if not urlsplit(location).scheme:
            attachments = self._capabilities.get("attachments")
            base = attachments.get("base_url") if isinstance(attachments, dict) else None
            if not isinstance(base, str) or not (base or location.startswith("/")):
                raise TransferFailed("its location is relative, and the server does not give a base URL")
            location = urljoin(urljoin(self._server + "/", base.rstrip("/") + "/" if base else ""), location)
        if urlsplit(location).scheme not in {"http", "https"}:
            raise TransferFailed(f"its location {printable(location)!r} is not an http or https URL")
        return location

    @cached_property
    def _capabilities(self) -> Mapping[str, Any]:
        with _translated_errors():
            info = self._client.server_info()
        capabilities = info.get("capabilities") if isinstance(info, dict) else None
        if not isinstance(capabilities, dict):
            raise TransferFailed("this is not a Kinto server; does its address end with its version, such as /v1?")
        return capabilities


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise errors of the connection and of the server as TransferFailed, with a sentence.

    :raises TransferFailed: in place of the errors of kinto-http, requests and urllib3.
    """
    import requests
    import urllib3
    from kinto_http.exceptions import KintoException

    try:
        yield
    except KintoException as error:
        raise TransferFailed(str(error) if error.response is None else _error_text(error.response)) from None
    except requests.Timeout:
        raise TransferFailed("the server does not answer in time") from None
    except requests.ConnectionError:
        raise TransferFailed("the server cannot be reached, or has closed the connection") from None
    except ValueError as error:  # invalid JSON, or an invalid URL
        raise TransferFailed(f"the server's answer cannot be used: {printable(str(error))}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransferFailed(f"the connection failed ({type(error).__name__})") from None


@contextmanager
def _ignored_statuses(statuses: set[int]) -> Iterator[None]:
    """Ignore an error that the server answers with one of *statuses*."""
    from kinto_http.exceptions import KintoException

    try:
        yield
    except KintoException as error:
        if error.response is None or error.response.status_code not in statuses:
            raise


def _json_of(response: Any) -> Any:
    with suppress(ValueError):
        return response.json()
    return None


def _error_text(response: Any) -> str:
    """Return a sentence for an answer that is not successful, with the server's own message."""
    body = _json_of(response)
    words = [body.get(name) for name in ("message", "detail", "error")] if isinstance(body, dict) else []
    message = next(filter(None, words), "")
    if 300 <= response.status_code < 400:
        message = "a redirection; does the server's address end with its version, such as /v1?"
    return f"the server answers {response.status_code}" + (f": {printable(str(message))}" if message else "")
