"""One large upload through a node into a real object store, compared with boto3; and directly, compared with curl."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.client import Body, Connection, Content
from bench.contestants import PEERS, ROOT, Contestant, Place
from bench.processes import peak_memory
from bench.report import Column, Table
from bench.servers import Server, ServerFailedError, running, say
from fileupload.deploy import make_manager
from fileupload.manager import UploadManager
from fileupload.pool.s3.store import make_client
from fileupload.settings import Settings

_REGION = "us-east-1"
COLUMNS = (
    Column("store", "store"),
    Column("name", "name"),
    Column("rate", "MB/s"),
    Column("best", "best"),
    Column("ratio", "beside", 2),
    Column("beside", "whom"),
    Column("peak", "peak MiB"),
    Column("title", "what"),
)


@dataclass(frozen=True)
class Kind:
    """A kind of store that the tests can run.

    :ivar script: the script that runs it, and prints its address.
    :ivar programs: the programs that it needs.
    """

    name: str
    script: Path
    key_id: str
    secret: str
    programs: tuple[str, ...] = ()

    def missing(self) -> str:
        """Return the missing requirement, or an empty text."""
        return ", ".join(program for program in self.programs if shutil.which(program) is None)


KINDS = (
    Kind("swift", ROOT / "tests" / "stores" / "swift.py", "tester:tester", "testing"),
    Kind("radosgw", ROOT / "tests" / "stores" / "radosgw.py", "tester", "testing", ("radosgw", "ceph-osd", "ceph-mon")),
)


@dataclass
class Way:
    """A way to upload into a store.

    :ivar send: sends the whole content, and returns the seconds.
    :ivar beside: the name of the way that it is compared with.
    """

    name: str
    title: str
    send: Callable[[], float]
    beside: str = ""
    server: Server | None = None
    runs: list[float] = field(default_factory=list)


def measure(root: Path, rounds: int, size: int) -> Table:
    """Send *size* bytes each way in turn, *rounds* times after one warm-up."""
    title = f"Upload of {size >> 20} MiB into an object store: median of {rounds}, after one warm-up"
    table = Table("stores", title, COLUMNS)
    for kind in KINDS:
        if missing := kind.missing():
            table.notes.append(f"missing: {kind.name} needs {missing}")
            continue
        say(f"starting {kind.name}")
        with (
            _noted(table, kind),
            _running_store(kind, root / kind.name) as endpoint,
            _ways(kind, endpoint, root, size) as ways,
        ):
            for number in range(rounds + 1):
                for way in ways:
                    seconds = way.send()
                    say(f"stores, {kind.name}, round {number}: {way.name} {size / seconds / 1e6:.0f} MB/s")
                    if number:
                        way.runs.append(seconds)
            table.rows += _rows(kind, ways, size)
    table.notes.append("beside: the median of the ratios of speed within each round")
    return table


@contextlib.contextmanager
def _noted(table: Table, kind: Kind) -> Iterator[None]:
    """Note a failed store below the table, which then has no rows for it."""
    try:
        yield
    except Exception as error:  # any error: the measurements of the others must not be lost
        say(f"{kind.name} failed: {error!r}")
        table.notes.append(f"failed: {kind.name}: {error}")


def _rows(kind: Kind, ways: Sequence[Way], size: int) -> Iterator[dict[str, Any]]:
    runs = {way.name: way.runs for way in ways}
    for way in ways:
        ratios = [theirs / ours for ours, theirs in zip(way.runs, runs.get(way.beside, ()), strict=False)]
        yield {
            "store": kind.name,
            "name": way.name,
            "title": way.title,
            "rate": size / median(way.runs) / 1e6,
            "best": size / min(way.runs) / 1e6,
            "ratio": median(ratios) if ratios else None,
            "beside": way.beside,
            "peak": peak_memory(way.server.session) / (1 << 20) if way.server else None,
            "runs": way.runs,
        }


@contextlib.contextmanager
def _running_store(kind: Kind, folder: Path) -> Iterator[str]:
    """Run a store; provide its address."""
    command = [sys.executable, str(kind.script), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise ServerFailedError(f"{kind.name} did not start")
        yield address
    finally:
        process.stdin.close()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ways(kind: Kind, endpoint: str, root: Path, size: int) -> Iterator[list[Way]]:
    """Provide all ways into a store, each with its requirements."""
    s3_bucket = f"bench-{uuid.uuid4().hex[:8]}"
    client = make_client(endpoint_url=endpoint, region=_REGION, key_id=kind.key_id, secret=kind.secret)
    client.create_bucket(Bucket=s3_bucket)
    settings = {
        "pool": f"s3://{s3_bucket}/pool",
        "s3_endpoint_url": endpoint,
        "s3_region": _REGION,
        "s3_access_key_id": kind.key_id,
        "s3_secret_access_key": kind.secret,
        "direct_part_size": "5G",
        "max_size": "0",
    }
    manager = make_manager(Settings.parse(settings))
    content = Content(size)
    arguments = [endpoint, kind.key_id, kind.secret, s3_bucket]
    boto3 = partial(_send_boto3, arguments, client, size)
    with contextlib.ExitStack() as stack:
        node, plain = (
            stack.enter_context(running(_node(name, settings | more), root))
            for name, more in (("ours", {}), ("ours-nohash", {"checksum": "none"}))
        )
        file = root / "content"
        with file.open("wb") as output:
            output.writelines(content.pieces())
        yield [
            Way("boto3-parts", "boto3, parts by 2 threads", partial(boto3, "parts")),
            Way("boto3-fileobj", "boto3, upload_fileobj, 4 threads", partial(boto3, "fileobj")),
            Way("ours", "through a node", partial(_send, node, manager, content), "boto3-parts", node),
            Way("ours-nohash", "without checksum", partial(_send, plain, manager, content), "boto3-parts", plain),
            Way("curl", "curl to a signed address", partial(_send_direct, node, manager, file, whole=False)),
            Way("direct", "asked for, curl, completed", partial(_send_direct, node, manager, file), "curl"),
        ]  # fmt: skip


def _node(name: str, settings: dict[str, str]) -> Contestant:
    options = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]

    def command(place: Place) -> list[str]:
        return [sys.executable, "-m", "fileupload", "serve", "--port", str(place.port), *options]

    return Contestant(name=name, title="", command=command, missing=str)


def _send(server: Server, manager: UploadManager, content: Content) -> float:
    identifier = manager.create_identifier()
    with Connection(server.place.port) as connection:
        answer = connection.upload("PUT", f"/upload?X-Progress-ID={identifier}", Body(content, multipart=False))
    manager.clear_upload_bucket(identifier)
    return answer.seconds


def _send_boto3(arguments: list[str], client: Any, size: int, way: str) -> float:
    key = uuid.uuid4().hex
    command = [sys.executable, str(PEERS / "boto3_sender.py"), way, *arguments, key, str(size)]
    seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    client.delete_object(Bucket=arguments[3], Key=key)
    return seconds


def _send_direct(server: Server, manager: UploadManager, file: Path, *, whole: bool = True) -> float:
    """Send *file* to a presigned URL; measure the *whole* upload, or only curl."""
    identifier = manager.create_identifier()
    query = f"X-Progress-ID={identifier}"
    wish = {"filename": "content", "content-type": "application/octet-stream", "size": file.stat().st_size}
    begun = time.perf_counter()
    offer = json.loads(_post(server, f"/upload/direct?{query}", json.dumps(wish).encode()))
    asked = time.perf_counter()
    subprocess.run(["curl", "--silent", "--fail", "-H", "Expect:", "-T", str(file), offer["url"]], check=True)
    sent = time.perf_counter()
    if whole:
        _post(server, f"/upload/direct/complete?{query}", b"")
    ended = time.perf_counter()
    manager.clear_upload_bucket(identifier)
    return ended - begun if whole else sent - asked


def _post(server: Server, target: str, body: bytes) -> bytes:
    with Connection(server.place.port) as connection:
        begun = time.perf_counter()
        head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.place.port}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.socket.sendall(head.encode() + body)
        return connection.receive(begun).body
