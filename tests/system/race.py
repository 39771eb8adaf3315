"""Begins, finishes, fails, clears and reads two uploads at random; several such processes race on one pool.

``python race.py POOL SEED`` prints a line for each violation.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable

from fileupload.errors import AlreadyDone, FileMissing, Incomplete, Superseded
from fileupload.pool.directory.pool import DirectoryPool
from fileupload.status import State, UploadedFile, UploadStatus, timestamp

IDS = ("0" * 32, "1" * 32)
ACTIONS = 600


def upload(pool: DirectoryPool, bucket_id: str, chance: random.Random) -> None:
    """Fill the bucket, or abort the upload."""
    now = timestamp()
    status = UploadStatus(state=State.STARTING, started=now, updated=now)
    data = chance.randbytes(chance.choice((0, 10, 50_000)))
    file = UploadedFile(
        field="", filename="a", content_type="a/b", size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    try:
        attempt = pool.begin(bucket_id, status)
    except AlreadyDone:
        return
    try:
        writer = attempt.create_file()
        writer.write(data)
        attempt.publish(status)
        writer.close()
        if chance.random() < 0.3:
            attempt.fail(status.failed(Incomplete("It broke off.")))
        else:
            attempt.finish(status.done((file,), {}))
    except Superseded as error:
        attempt.fail(status.failed(error))


def read(pool: DirectoryPool, bucket_id: str, chance: random.Random) -> None:
    """Read the bucket, and report inconsistent answers."""
    bucket = pool.find_bucket(bucket_id)
    if bucket is None:
        return
    status = bucket.get_status()
    if status.code == "interrupted":
        print("an upload is called interrupted, though no process ended")
    if status.state != "done":
        return
    try:
        with bucket.open() as file:
            true = hashlib.sha256(file.read()).hexdigest() == status.files[0].sha256
    except FileMissing:
        true = False
    if not true and bucket.get_status() == status:
        print("an upload is called done, and its bytes are not what was sent")


def clear(pool: DirectoryPool, bucket_id: str, chance: random.Random) -> None:
    """Remove the bucket."""
    pool.clear(bucket_id)


def main(directory: str, seed: int) -> None:
    """Perform random operations."""
    pool, chance = DirectoryPool(directory, durable=False), random.Random(seed)
    actions: tuple[Callable[[DirectoryPool, str, random.Random], None], ...] = (upload, upload, clear, read)
    for _ in range(ACTIONS):
        chance.choice(actions)(pool, chance.choice(IDS), chance)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
