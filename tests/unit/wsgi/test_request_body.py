"""The reader of bodies: lengths, paces and bounds, on a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fileupload.errors import Incomplete, InvalidLength, LengthRequired, TooLarge, TooSlow, UnsupportedRequest
from fileupload.settings import Settings
from fileupload.wsgi import request_body as body_module
from fileupload.wsgi.request_body import MIN_READ, BodyReader
from tests.support.wsgi_client import Clock, PacedClient, Stream, UploadSite, file_part, form


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the reader looks at."""
    clock = Clock()
    monkeypatch.setattr(body_module, "time", clock)
    return clock


def read_all(body: BodyReader) -> int:
    """Read to the end, and return how much came."""
    return sum(len(chunk) for chunk in body.chunks())


def reader(stream: Any, length: object = None, server: str = "", settings: Any = None, **environ: Any) -> BodyReader:
    given = {"wsgi.input": stream, "SERVER_SOFTWARE": server, "wsgi.input_terminated": True, **environ}
    if length is not None:
        given["CONTENT_LENGTH"] = length
    return BodyReader(given, Settings.parse(settings or {}))


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5_0", " 5", "5 ", "٣", "²", "0x5", "5.0", "1e3", "5,5", "5\n", "1" * 20]
)
def test_a_length_that_is_none_is_refused_unread(length: str) -> None:
    """Only 1 to 19 ASCII digits are a length: ``read(-1)`` waits for ever on several servers."""
    stream = Stream([b"x" * 5])
    with pytest.raises(InvalidLength):
        reader(stream, length)
    assert stream.asked == []


@pytest.mark.parametrize(("length", "number"), [("0", 0), ("5", 5), ("0005", 5), ("9" * 19, 10**19 - 1)])
def test_a_length_is_1_to_19_digits(length: str, number: int) -> None:
    """Leading zeros are allowed by RFC 9110, 8.6."""
    assert reader(Stream([]), length).length == number


def test_a_length_beside_a_transfer_encoding_is_refused() -> None:
    """Two ways to tell the end are how requests are smuggled (RFC 9112, 6.1)."""
    with pytest.raises(InvalidLength):
        reader(Stream([]), "5", HTTP_TRANSFER_ENCODING="chunked")


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked"])
def test_only_chunked_is_a_transfer_encoding(coding: str) -> None:
    """No other coding is undone by the servers, so the bytes would not be the file's."""
    with pytest.raises(InvalidLength):
        reader(Stream([]), HTTP_TRANSFER_ENCODING=coding)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    """A small body that becomes a large one is never unpacked."""
    with pytest.raises(UnsupportedRequest):
        reader(Stream([]), "5", HTTP_CONTENT_ENCODING=coding)
    assert reader(Stream([]), "5", HTTP_CONTENT_ENCODING="Identity").length == 5


@pytest.mark.parametrize("terminated", [None, False])
def test_a_body_without_an_end_is_refused(terminated: bool | None) -> None:
    """Without a length, and without a server that marks the end, a read might wait for ever."""
    environ: dict[str, Any] = {"wsgi.input_terminated": terminated}
    with pytest.raises(LengthRequired):
        reader(Stream([]), **environ)


def test_a_body_is_never_read_past_its_length() -> None:
    """What follows the body on the connection is not asked for."""
    stream = Stream([b"abc", b"defgh", b"NEXT REQUEST"])
    assert b"".join(reader(stream, "8").chunks()) == b"abcdefgh"
    assert stream.asked == [8, 5]


def test_an_empty_body_is_not_read() -> None:
    """Of no bytes none is asked for."""
    stream = Stream([b"NEXT REQUEST"])
    assert list(reader(stream, "0").chunks()) == []
    assert stream.asked == []


def test_a_body_that_ends_early_is_incomplete() -> None:
    """Several servers end a body in silence when the client dies."""
    with pytest.raises(Incomplete):
        list(reader(Stream([b"abc"]), "8").chunks())


@pytest.mark.parametrize("error", [OSError, ValueError, EOFError, RuntimeError])
def test_any_error_of_a_server_means_a_broken_connection(error: type[Exception]) -> None:
    """Each server has exceptions of its own for a client that is gone."""

    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise error

    body = reader(Stream(pieces()), "8")
    with pytest.raises(Incomplete):
        list(body.chunks())
    body.drain()  # finds nothing more to read


def test_a_limit_holds_without_a_length() -> None:
    """A body of the limit is read, and of one of a byte more that byte is the last."""
    assert len(b"".join(reader(Stream([b"x"] * 10)).chunks(10))) == 10
    stream = Stream([b"x"] * 20)
    with pytest.raises(TooLarge):
        list(reader(stream).chunks(10))
    assert len(stream.asked) == 11


def sizes(client: PacedClient, server: str = "", settings: Any = None, count: int = 200) -> list[int]:
    for _, _ in zip(reader(client, None, server, settings).chunks(), range(count), strict=False):
        pass
    return client.asked


def test_reads_grow_while_they_return_fast(clock: Clock) -> None:
    """A fast client is soon asked for as much as suits the server, and the first read is small."""
    asked = sizes(PacedClient(clock, 1e9))
    assert asked[0] == MIN_READ == 4096
    assert asked == sorted(asked)
    assert asked[30] == asked[-1] == max(asked) >= 64 << 10


def test_reads_on_gunicorn_grow_to_a_mebibyte(clock: Clock) -> None:
    """gunicorn copies what is left over at each read, so it is asked for more at once."""
    assert max(sizes(PacedClient(clock, 1e9), "gunicorn/27.0.1")) == 1 << 20


@pytest.mark.parametrize("read_size", [1000, 4096, 10_000, 1 << 22])
def test_reads_never_exceed_read_size(clock: Clock, read_size: int) -> None:
    """The setting bounds every read, the first too, and is reached."""
    asked = sizes(PacedClient(clock, 1e10), "gunicorn", {"read_size": read_size})
    assert max(asked) == read_size
    assert asked[0] == min(4096, read_size)


def test_reads_of_a_slow_client_stay_small(clock: Clock) -> None:
    """At 20 KB/s a read never waits for more than 4 KiB, for servers block until it is filled."""
    assert set(sizes(PacedClient(clock, 20_000))) == {4096}


def test_reads_shrink_when_a_client_slows_down(clock: Clock) -> None:
    """A client that falls from 100 MB/s to 20 KB/s waits once for a large read, and is then asked for little."""
    client = PacedClient(clock, lambda second: 1e8 if second < 1 else 20_000)
    asked = sizes(client, count=3000)
    slow = asked.index(max(asked)) + asked.count(max(asked))
    assert set(asked[slow:]) == {4096}
    assert len(asked) > slow


def test_reads_settle_at_a_tenth_of_a_second(clock: Clock) -> None:
    """At a steady rate one read takes about as long as progress may wait for it."""
    asked = sizes(PacedClient(clock, 400_000))
    assert 0.025 <= asked[-1] / 400_000 <= 0.1


def test_progress_of_a_slow_client_is_fresh(tmp_path: Any, clock: Clock) -> None:
    """Of a client at 20 KB/s, other processes see at any moment what had come 0.25 s before."""
    site = UploadSite(tmp_path, min_rate=0)
    identifier = site.identifier()
    arrived: list[tuple[float, int]] = []

    class Watched(PacedClient):
        received = 0

        def read(self, size: int) -> bytes:
            data = super().read(size)
            seen = site.status(identifier).get("received", 0)  # before the first byte, nothing is known
            due = [count for moment, count in arrived if moment <= self.clock.now - 0.25]
            assert seen >= max(due, default=0)
            self.received += len(data)
            arrived.append((self.clock.now, self.received))
            return data

        def readline(self, size: int) -> bytes:
            raise AssertionError

        readlines = __iter__ = readline

    assert site.put(Watched(clock, 20_000, 100_000), identifier, CONTENT_LENGTH="100000").status == 200
    assert len(arrived) == 26


def test_a_client_under_the_least_rate_is_refused(clock: Clock) -> None:
    """It is refused at the end of the grace time, not before, and however little it sends."""
    client = PacedClient(clock, 1023)
    with pytest.raises(TooSlow):
        read_all(reader(client, settings={"min_rate": 1024, "min_rate_grace": 30}))
    assert 30 <= clock.now - 1000 < 35


@pytest.mark.parametrize("total", [0, 1, 2, 5000, 100_000])
@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
def test_the_first_byte_is_awaited_alone(total: int, declared: bool) -> None:
    """One byte is read first, and comes with the others, in their order; what was received counts each once."""
    content = bytes(number % 251 for number in range(total))
    stream = Stream([content] if content else [])
    body = reader(stream, str(total) if declared else None, server="gunicorn")
    assert body.wait_for_first_byte() is (total > 0)
    assert body.received == min(total, 1)
    assert stream.asked == ([1] if total or not declared else [])
    assert body.wait_for_first_byte() is (total > 0)
    chunks = list(body.chunks())
    assert b"".join(chunks) == content
    assert total <= 1 or len(chunks[0]) > 1
    assert body.received == total


def test_the_wait_for_the_first_byte_counts(clock: Clock) -> None:
    """A client who lets the server wait longer than the grace time is refused when it begins to send."""
    client = PacedClient(clock, lambda now: 0.02 if now < 49 else 100_000)
    body = reader(client, settings={"min_rate": 1024, "min_rate_grace": 30})
    assert body.wait_for_first_byte()
    with pytest.raises(TooSlow):
        read_all(body)
    assert clock.now - 1000 < 51


def test_a_client_at_the_least_rate_is_served(clock: Clock) -> None:
    """The rate itself is enough, for as long as it takes."""
    client = PacedClient(clock, 1024, total=1024 * 300)
    assert read_all(reader(client, settings={"min_rate": 1024, "min_rate_grace": 30})) == 1024 * 300


def test_a_pause_within_the_grace_time_is_forgiven(clock: Clock) -> None:
    """What counts is the mean over the grace time; and past speed earns no later rest."""
    settings = {"min_rate": 1024, "min_rate_grace": 30}
    pausing = PacedClient(clock, lambda second: 400 if int(second) % 30 < 15 else 5000, total=1024 * 200)
    assert read_all(reader(pausing, settings=settings)) == 1024 * 200
    start = clock.now
    stopping = PacedClient(clock, lambda second: 1e8 if second + 1000 < start + 1 else 100)
    with pytest.raises(TooSlow):
        read_all(reader(stopping, settings=settings))


def test_min_rate_0_waits_for_anybody(clock: Clock) -> None:
    """Without a least rate, a byte a second is enough."""
    client = PacedClient(clock, 1, total=10_000)
    assert read_all(reader(client, settings={"min_rate": 0})) == 10_000


def test_a_slow_client_gets_408(tmp_path: Any, clock: Clock) -> None:
    """The refusal reaches client and status, and what had come is removed."""
    site = UploadSite(tmp_path, min_rate=1024, min_rate_grace=30)
    identifier = site.identifier()

    def pieces() -> Iterator[bytes]:
        for piece in form(file_part(b"x" * 60)):
            clock.now += 1
            yield bytes([piece])

    assert site.post(Stream(pieces()), identifier).outcome == (408, "too-slow")
    assert site.names(identifier) == {"status.json", "lock"}


def trusted(*arguments: Any, **options: Any) -> BodyReader:
    """Return the reader of a request with a valid identifier."""
    body = reader(*arguments, **options)
    body.trusted = True
    return body


def test_draining_is_bounded_in_bytes(clock: Clock) -> None:
    """Of a refused body no more than ``drain_size`` is read."""
    client = PacedClient(clock, 1e9)
    trusted(client, str(1 << 30), settings={"drain_size": 1_000_000}).drain()
    assert (1 << 30) - client.left == 1_000_000


def test_draining_is_bounded_in_time(clock: Clock) -> None:
    """Nor is it read for longer than ``drain_time``, but for the read that runs then."""
    client = PacedClient(clock, 100_000)
    trusted(client, str(1 << 30), settings={"drain_size": "1G", "drain_time": 5}).drain()
    assert 5 <= clock.now - 1000 < 6


@pytest.mark.parametrize("settings", [{"drain_size": 0}, {"drain_time": 0}])
def test_draining_may_be_switched_off(clock: Clock, settings: dict[str, int]) -> None:
    """With either bound at 0 nothing is read."""
    client = PacedClient(clock, 1e9)
    trusted(client, "100", settings=settings).drain()
    assert client.asked == []


def test_a_body_without_a_valid_identifier_is_not_drained_by_reads_that_nothing_ends() -> None:
    """Where the connection is not known, a blocked read could not be ended: the server closes the connection."""
    stream = Stream([b"abc", b"de"])
    reader(stream, "5").drain()
    assert stream.asked == []


def test_draining_ends_with_the_body() -> None:
    """A short body is read to its end, and not past it."""
    stream = Stream([b"abc", b"de", b"NEXT REQUEST"])
    trusted(stream, "5").drain()
    assert stream.asked == [5, 2]


@pytest.mark.parametrize("server", ["Granian", "gevent/26.9 Python/3.11"])
def test_a_body_that_waits_for_leave_is_not_drained(server: str) -> None:
    """Where the server sends 100 Continue with the first read, to drain a refused body would be to ask for it."""
    stream = Stream([b"x" * 10])
    reader(stream, "10", server, HTTP_EXPECT="100-continue").drain()
    assert stream.asked == []


def test_the_reader_looks_at_the_real_clock() -> None:
    """The tests above replace a clock that is there."""
    assert vars(body_module)["time"] is time
