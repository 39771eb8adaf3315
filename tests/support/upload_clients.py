"""A client of direct uploads, and the server's side of the protocol, on a pool without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import requests

from fileupload.errors import Superseded
from fileupload.pool.base import Attempt, Pool
from fileupload.pool.direct import DirectFile
from fileupload.pool.parts import Form, Part
from fileupload.status import DirectUploadTerms, State, UploadedFile, UploadStatus, timestamp
from tests.support.waiting import PATIENCE

ID = "0123456789abcdef" * 2
HOUR = 3600.0
LIFE = 600.0  # seconds for which addresses are valid

Send = Callable[[bytes], str]


class RefusedError(Exception):
    """An upload or part was refused."""


def begin(pool: Pool, sizes: Sequence[int], *, form: bool = False, at: float | None = None, bucket: str = ID) -> str:
    """Begin a direct upload of parts of these sizes; return its attempt."""
    moment = timestamp(at)
    status = UploadStatus(
        state=State.UPLOADING,
        filename="a.bin",
        content_type="image/png",
        size=sum(sizes),
        started=moment,
        updated=moment,
        resumable=True,
        direct=DirectUploadTerms(form=form, part_size=sizes[0]),
    )
    attempt = pool.begin(bucket, status)
    pool.direct(bucket, attempt.token).begin(form=form)
    attempt.suspend(status)
    return attempt.token


def address(direct: DirectFile, number: int, size: int, expires: float = LIFE) -> Send:
    """Return a function that sends a part to its address, requested now, and returns the stored part's ETag."""
    url = direct.part_url(number, size, expires)

    def send(content: bytes) -> str:
        if url is None:
            return receive(direct, content, number)
        answer = requests.put(url, data=content, timeout=PATIENCE)
        if answer.status_code != 200:
            raise RefusedError(f"{answer.status_code} {answer.text}")
        return answer.headers["ETag"]

    return send


def receive(direct: DirectFile, content: bytes, number: int = 1) -> str:
    """Receive a part as our own server does; return its ETag."""
    try:
        writer = direct.receive_part(number)
        writer.write(content)
        writer.close()
    except Superseded:
        raise RefusedError from None
    return writer.part.etag


def post(form: Form, content: bytes) -> None:
    """Post a form, as browsers do."""
    answer = requests.post(form.url, data=dict(form.fields), files={"file": ("b.bin", content)}, timeout=PATIENCE)
    if answer.status_code != 201:
        raise RefusedError(f"{answer.status_code} {answer.text}")


def addresses(pool: Pool, token: str, contents: Sequence[bytes]) -> list[Send]:
    """Return the functions that send each part."""
    direct = pool.direct(ID, token)
    return [address(direct, number, len(content)) for number, content in enumerate(contents, 1)]


def send_all(pool: Pool, token: str, contents: Sequence[bytes]) -> list[Send]:
    """Send all parts, and return the functions that send them again."""
    sending = addresses(pool, token, contents)
    for send, content in zip(sending, contents, strict=True):
        send(content)
    return sending


def assemble(pool: Pool) -> tuple[Attempt, Sequence[Part]]:
    """Claim the upload, and assemble its file; it is not done yet."""
    attempt = pool.resume(ID)
    direct = pool.direct(ID, attempt.token)
    parts = direct.parts()
    direct.assemble(parts, hashed=False)
    return attempt, parts


def finish(attempt: Attempt, parts: Sequence[Part]) -> None:
    """Mark the upload as done, as the protocol does."""
    size = sum(part.size for part in parts)
    file = UploadedFile(field="", filename="a.bin", content_type="image/png", size=size)
    attempt.finish(replace(attempt.status, resumable=False, suspended=False, direct=None).done((file,), {}))


def complete(pool: Pool, *, hashed: bool = False, bucket: str = ID) -> str | None:
    """Complete the upload; return the digest of its file."""
    attempt = pool.resume(bucket)
    direct = pool.direct(bucket, attempt.token)
    parts = direct.parts()
    digest = direct.assemble(parts, hashed=hashed)
    finish(attempt, parts)
    return digest


def read(pool: Pool, bucket: str = ID) -> bytes:
    """Return the bytes of the finished upload."""
    with pool.bucket(bucket).open() as file:
        return file.read()
