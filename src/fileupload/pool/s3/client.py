"""Makes clients of boto3, and translates their errors to OSError and SettingError."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fileupload.errors import SettingError, lacks_descriptors

_CONNECT_TIMEOUT = 5  # seconds
_READ_TIMEOUT = 30
_ATTEMPTS = 4  # of each request, with exponential backoff
_CONNECTIONS = 64  # of a process, shared by parts, presence and readers

_MISSING = frozenset({"NoSuchKey", "NotFound", "404", "NoSuchUpload", "InvalidPart"})
_NOT_NEW = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


def make_client(*, endpoint_url: str = "", region: str = "", key_id: str = "", secret: str = "") -> Any:
    """Return a boto3 client; boto3's own configuration applies for each argument that is empty.

    :raises SettingError: boto3 is not installed.
    """
    require_boto3()
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=region or None,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=secret or None,
        config=Config(
            # For other endpoints than Amazon's, boto3 would presign with version 2, which does not sign lengths.
            signature_version="s3v4",
            # Not every store supports the newer checksums. Ours is the SHA-256 of the whole file.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_CONNECTIONS,
            s3={
                "addressing_style": "path" if endpoint_url else "auto",
                # TLS protects the bytes. Without it their hash is signed, which costs us and the store one more pass.
                "payload_signing_enabled": endpoint_url.startswith("http://"),
            },
        ),
    )


_CLOCK_DIFFERS = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_CLOCK_HINT = "set the clock of this host, for example with NTP"


def require_boto3() -> None:
    """Check that boto3 is installed.

    :raises SettingError: it is not.
    """
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise SettingError("an object store needs boto3: pip install boto3") from None


@contextmanager
def translate_errors(key: str) -> Iterator[None]:
    """Translate an exception of boto3, in a request for the object *key*, to OSError.

    A missing object, multipart upload or part becomes FileNotFoundError; an unmet condition becomes FileExistsError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _MISSING:
            raise FileNotFoundError(errno.ENOENT, "no such object", key) from None
        if code in _NOT_NEW or status == 412:
            raise FileExistsError(errno.EEXIST, "the condition does not hold", key) from None
        hint = f"; {_CLOCK_HINT}" if code in _CLOCK_DIFFERS else ""
        raise OSError(errno.EIO, f"the object store answered {code}{hint}", key) from error
    except BotoCoreError as error:
        number = errno.EMFILE if _lacks_descriptors(error) else errno.EIO
        raise OSError(number, f"the object store cannot be reached ({type(error).__name__})", key) from error


def _lacks_descriptors(error: BaseException) -> bool:
    """Return whether an error behind *error* says that no file descriptor was left for a connection."""
    seen: set[int] = set()
    behind: list[object] = [error]
    while behind:
        each = behind.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        if isinstance(each, OSError) and lacks_descriptors(each):
            return True
        seen.add(id(each))
        # botocore keeps the error of urllib3 in its kwargs, and urllib3 keeps that of the socket as its cause.
        behind += [each.__cause__, each.__context__, *getattr(each, "kwargs", {}).values()]
    return False


def error_message(error: Any) -> str:
    """Return code and message of the store's response in a ClientError."""
    answer = error.response.get("Error", {})
    return " ".join(str(answer[part]) for part in ("Code", "Message") if answer.get(part))


@contextmanager
def translate_startup_errors(setting: str, address: str) -> Iterator[None]:
    """Translate an exception of boto3 to SettingError, with the store's own message.

    :param setting: the name of the setting that has the value *address*.
    """
    require_boto3()
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        hint = f"; {_CLOCK_HINT}" if error.response.get("Error", {}).get("Code") in _CLOCK_DIFFERS else ""
        raise SettingError(
            f"setting {setting!r} cannot be {address!r}: the object store answered {error_message(error)!r}{hint}"
        ) from None
    except (BotoCoreError, OSError) as error:
        raise SettingError(f"setting {setting!r} cannot be {address!r}: {error}") from None
