"""The client of boto3, and what its errors mean."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fileupload.errors import SettingError, lacks_descriptors

_CONNECT_TIMEOUT = 5  # seconds
_READ_TIMEOUT = 30
_ATTEMPTS = 4  # of each request, with growing pauses, before the store is taken for gone
_CONNECTIONS = 64  # of a process; parts, progress and readers share them

_MISSING = frozenset({"NoSuchKey", "NotFound", "404", "NoSuchUpload", "InvalidPart"})
_NOT_NEW = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


def make_client(*, endpoint_url: str = "", region: str = "", key_id: str = "", secret: str = "") -> Any:
    """Return a boto3 client; what is empty is left to boto3's own chain.

    :raises SettingError: boto3 is not installed.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise SettingError("an object store needs boto3: pip install 'fileupload[s3]'") from None
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=region or None,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=secret or None,
        config=Config(
            # Else boto3 signs addresses for other stores than Amazon's in the old way, which signs no lengths.
            signature_version="s3v4",
            # Not every store knows the newer checksums; ours is SHA-256 over the whole file.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_CONNECTIONS,
            s3={
                "addressing_style": "path" if endpoint_url else "auto",
                # TLS keeps the bytes as they are; without it their hash is signed, by us and once more by the store.
                "payload_signing_enabled": endpoint_url.startswith("http://"),
            },
        ),
    )


@contextmanager
def translate_errors(key: str) -> Iterator[None]:
    """Turn what boto3 raises, at work on the object *key*, into OSError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _MISSING:
            raise FileNotFoundError(errno.ENOENT, "no such object", key) from None
        if code in _NOT_NEW or status == 412:
            raise FileExistsError(errno.EEXIST, "there is such an object", key) from None
        raise OSError(errno.EIO, f"the store says {code}", key) from error
    except BotoCoreError as error:
        number = errno.EMFILE if _lacks_descriptors(error) else errno.EIO
        raise OSError(number, f"the store cannot be reached ({type(error).__name__})", key) from error


def _lacks_descriptors(error: BaseException) -> bool:
    """Tell whether there was no file descriptor for a connection, as the errors behind *error* say."""
    seen: set[int] = set()
    behind: list[object] = [error]
    while behind:
        each = behind.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        if isinstance(each, OSError) and lacks_descriptors(each):
            return True
        seen.add(id(each))
        # botocore keeps the error of urllib3 among its keywords, and urllib3 that of the socket as its cause.
        behind += [each.__cause__, each.__context__, *getattr(each, "kwargs", {}).values()]
    return False


def error_message(error: Any) -> str:
    """Return what the store itself says in a ClientError."""
    answer = error.response.get("Error", {})
    return " ".join(str(answer[part]) for part in ("Code", "Message") if answer.get(part))


@contextmanager
def translate_startup_errors(setting: str, address: str) -> Iterator[None]:
    """Turn what boto3 raises into SettingError, with the store's own answer.

    :param setting: the name of the one that holds *address*.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise SettingError(
            f"setting {setting!r} cannot be {address!r}: the store says {error_message(error)!r}"
        ) from None
    except (BotoCoreError, OSError) as error:
        raise SettingError(f"setting {setting!r} cannot be {address!r}: {error}") from None
