"""A collection of records as its clients have it: on kinto-http, which the ``[client]`` extra brings."""

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
_BLOCK = 256 << 10
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)  # what Kinto takes; its client would change others silently


class Collection:
    """One collection on a server; to be used in a ``with`` block."""

    def __init__(self, server: str, bucket: str, collection: str, credentials: str = "") -> None:
        """Use the *collection* in *bucket* at *server*, whose address ends with its version, such as ``/v1``.

        :raises SettingError: kinto-http is not installed, or one of these is not as it should be.
        """
        try:
            import kinto_http
            import requests
        except ImportError:
            raise SettingError("this needs kinto-http: pip install 'fileupload[client]'") from None
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
        # Bodies and files do not go through the client, which would hold each in memory.
        self._http = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def require_attachments(self) -> None:
        """Ask the server whether it takes files.

        :raises TransferFailed: it does not, or it does not answer.
        """
        if "attachments" not in self._capabilities:
            raise TransferFailed("the server takes no attachments: it does not tell that it can")

    def create(self) -> None:
        """Create the bucket and the collection, unless they are there, or that is not permitted.

        :raises TransferFailed: the server does not answer as expected.
        """
        bucket, collection = self._client.bucket_name, self._client.collection_name
        with _explained(), _tolerated({403, 412}):
            self._client.create_bucket(id=bucket)
        with _explained(), _tolerated({403, 412}):
            self._client.create_collection(id=collection, bucket=bucket)

    def records(self) -> list[dict[str, Any]]:
        """Return all records, in the order of their ids.

        :raises TransferFailed: they cannot be read.
        """
        found: list[dict[str, Any]] = []
        page: str | None = self._client.get_endpoint("records")
        while page:
            with _explained():
                body, headers = self._client.session.request("get", page)
            listed = body.get("data") if isinstance(body, dict) else None
            if not isinstance(listed, list):
                raise TransferFailed("the server's answer is no list of records")
            found += [each for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]
            page = headers.get("Next-Page")
        return sorted(found, key=lambda record: str(record["id"]))

    def attach(self, record_id: str, form: FormBody) -> dict[str, Any]:
        """Send the file in *form* for a record; return what the record then says of it.

        :raises TransferFailed: the server did not take it.
        """
        url = f"{self._server}{self._client.get_endpoint('records')}/{quote(record_id, safe='')}/attachment"
        headers = {"Content-Type": form.content_type, "Accept": "application/json"}
        with _explained():
            # After a redirection, the body could not be sent again.
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
            raise TransferFailed(_answer_text(response))
        return body

    @contextmanager
    def open(self, location: str) -> Iterator[Iterator[bytes]]:
        """Give the bytes at the *location* of a file, as they are stored, in a ``with`` block.

        No credentials are sent: files may lie on another host, and are as public as their address.

        :raises TransferFailed: they cannot be had.
        """
        # What is compressed in the file is to stay so, and what is not, too: the hash is that of the file.
        headers = {"Accept-Encoding": "identity"}
        with (
            _explained(),
            self._http.get(self._complete(location), headers=headers, timeout=_TIMEOUT, stream=True) as response,
        ):
            if response.status_code != 200:
                raise TransferFailed(f"the server answers {response.status_code} for the file")
            yield response.raw.stream(_BLOCK, decode_content=False)

    def _complete(self, location: str) -> str:
        """Return the whole address of *location* (RFC 3986, 5)."""
        if not urlsplit(location).scheme:
            attachments = self._capabilities.get("attachments")
            base = attachments.get("base_url") if isinstance(attachments, dict) else None
            if not isinstance(base, str) or not (base or location.startswith("/")):
                raise TransferFailed("its location is relative, and the server does not tell to what")
            location = urljoin(urljoin(self._server + "/", base.rstrip("/") + "/" if base else ""), location)
        if urlsplit(location).scheme not in {"http", "https"}:
            raise TransferFailed(f"its location {printable(location)!r} is no address of the web")
        return location

    @cached_property
    def _capabilities(self) -> Mapping[str, Any]:
        with _explained():
            info = self._client.server_info()
        capabilities = info.get("capabilities") if isinstance(info, dict) else None
        if not isinstance(capabilities, dict):
            raise TransferFailed("this is no Kinto server; does its address end with its version, such as /v1?")
        return capabilities


@contextmanager
def _explained() -> Iterator[None]:
    """Tell in a sentence what goes wrong between us and the server.

    :raises TransferFailed: something does.
    """
    import requests
    import urllib3
    from kinto_http.exceptions import KintoException

    try:
        yield
    except KintoException as error:
        told = str(error) if error.response is None else _answer_text(error.response)
        raise TransferFailed(told) from None
    except requests.Timeout:
        raise TransferFailed("the server does not answer in time") from None
    except requests.ConnectionError:
        raise TransferFailed("the server cannot be reached, or has closed the connection") from None
    except ValueError as error:  # of JSON, or of an address; requests derives its own from it
        raise TransferFailed(f"the server's answer cannot be used: {printable(str(error))}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransferFailed(f"the connection failed ({type(error).__name__})") from None


@contextmanager
def _tolerated(statuses: set[int]) -> Iterator[None]:
    """Pass over errors that the server answers with one of *statuses*."""
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


def _answer_text(response: Any) -> str:
    """Return what an answer that is no success says."""
    body = _json_of(response)
    words = [body.get(name) for name in ("message", "detail", "error")] if isinstance(body, dict) else []
    message = next(filter(None, words), "")
    if 300 <= response.status_code < 400:
        message = "a redirection; does the server's address end with its version, such as /v1?"
    return f"the server answers {response.status_code}" + (f": {printable(str(message))}" if message else "")
