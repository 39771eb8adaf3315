"""The reader of request bodies: lengths, rates and limits, with a simulated clock."""

from __future__ import annotations

import socket
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
    """Return the clock that the reader uses."""
    clock = Clock()
    monkeypatch.setattr(body_module, "time", clock)
    return clock


def read_all(body: BodyReader) -> int:
    """Read to the end, and return the number of bytes."""
    return sum(len(chunk) for chunk in body.chunks())


def reader(stream: Any, length: object = None, server: str = "", settings: Any = None, **environ: Any) -> BodyReader:
    given = {"wsgi.input": stream, "SERVER_SOFTWARE": server, "wsgi.input_terminated": True, **environ}
    if length is not None:
        given["CONTENT_LENGTH"] = length
    return BodyReader(given, Settings.parse(settings or {}))


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5_0", " 5", "5 ", "٣", "²", "0x5", "5.0", "1e3", "5,5", "5\n", "1" * 20]
)
def test_an_invalid_length_is_refused_unread(length: str) -> None:
    """A length other than 1 to 19 ASCII digits is refused, since ``read(-1)`` blocks for ever on several servers."""
    stream = Stream([b"x" * 5])
    with pytest.raises(InvalidLength):
        reader(stream, length)
    assert stream.asked == []


@pytest.mark.parametrize(("length", "number"), [("0", 0), ("5", 5), ("0005", 5), ("9" * 19, 10**19 - 1)])
def test_a_length_is_1_to_19_digits(length: str, number: int) -> None:
    """A length may have leading zeros (RFC 9110, 8.6)."""
    assert reader(Stream([]), length).length == number


def test_a_length_beside_a_transfer_encoding_is_refused() -> None:
    """A length with a transfer coding is refused, since it allows request smuggling (RFC 9112, 6.1)."""
    with pytest.raises(InvalidLength):
        reader(Stream([]), "5", HTTP_TRANSFER_ENCODING="chunked")


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked"])
def test_only_chunked_is_a_transfer_encoding(coding: str) -> None:
    """Other transfer codings are refused, since servers do not decode them."""
    with pytest.raises(InvalidLength):
        reader(Stream([]), HTTP_TRANSFER_ENCODING=coding)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    """A compressed body is refused, and never decompressed."""
    with pytest.raises(UnsupportedRequest):
        reader(Stream([]), "5", HTTP_CONTENT_ENCODING=coding)
    assert reader(Stream([]), "5", HTTP_CONTENT_ENCODING="Identity").length == 5


@pytest.mark.parametrize("terminated", [None, False])
def test_a_body_without_an_end_is_refused(terminated: bool | None) -> None:
    """A body without a length is refused on a server that does not mark its end, since a read might block."""
    environ: dict[str, Any] = {"wsgi.input_terminated": terminated}
    with pytest.raises(LengthRequired):
        reader(Stream([]), **environ)


def test_a_body_is_never_read_past_its_length() -> None:
    """Bytes after the body on the connection are not read."""
    stream = Stream([b"abc", b"defgh", b"NEXT REQUEST"])
    assert b"".join(reader(stream, "8").chunks()) == b"abcdefgh"
    assert stream.asked == [8, 5]


def test_an_empty_body_is_not_read() -> None:
    """An empty body is not read."""
    stream = Stream([b"NEXT REQUEST"])
    assert list(reader(stream, "0").chunks()) == []
    assert stream.asked == []


def test_a_body_that_ends_early_is_incomplete() -> None:
    """A truncated body is incomplete, also on servers that end it without an error."""
    with pytest.raises(Incomplete):
        list(reader(Stream([b"abc"]), "8").chunks())


@pytest.mark.parametrize("error", [OSError, ValueError, EOFError, RuntimeError])
def test_any_error_of_a_server_means_a_broken_connection(error: type[Exception]) -> None:
    """Any exception of a server during a read means a broken connection."""

    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise error

    body = reader(Stream(pieces()), "8")
    with pytest.raises(Incomplete):
        list(body.chunks())
    body.drain()  # reads nothing more


def test_a_limit_holds_without_a_length() -> None:
    """A body at the limit is read; of a longer one, reading stops one byte past the limit."""
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
    """The first read is small, and reads of a fast client grow to the size that suits the server."""
    asked = sizes(PacedClient(clock, 1e9))
    assert asked[0] == MIN_READ == 4096
    assert asked == sorted(asked)
    assert asked[30] == asked[-1] == max(asked) >= 64 << 10


def test_reads_on_gunicorn_grow_to_a_mebibyte(clock: Clock) -> None:
    """Reads on gunicorn are larger, since it copies the rest of its buffer at each read."""
    assert max(sizes(PacedClient(clock, 1e9), "gunicorn/27.0.1")) == 1 << 20


@pytest.mark.parametrize("read_size", [1000, 4096, 10_000, 1 << 22])
def test_reads_never_exceed_read_size(clock: Clock, read_size: int) -> None:
    """The setting limits every read, including the first, and is reached."""
    asked = sizes(PacedClient(clock, 1e10), "gunicorn", {"read_size": read_size})
    assert max(asked) == read_size
    assert asked[0] == min(4096, read_size)


def test_reads_of_a_slow_client_stay_small(clock: Clock) -> None:
    """A read from a client at 20 KB/s is at most 4 KiB, since servers block until it is complete."""
    assert set(sizes(PacedClient(clock, 20_000))) == {4096}


def test_reads_shrink_when_a_client_slows_down(clock: Clock) -> None:
    """A client that slows from 100 MB/s to 20 KB/s blocks in one large read, and then in small ones."""
    client = PacedClient(clock, lambda second: 1e8 if second < 1 else 20_000)
    asked = sizes(client, count=3000)
    slow = asked.index(max(asked)) + asked.count(max(asked))
    assert set(asked[slow:]) == {4096}
    assert len(asked) > slow


def test_reads_settle_at_a_tenth_of_a_second(clock: Clock) -> None:
    """One read at a steady rate takes about as long as the interval of progress updates."""
    asked = sizes(PacedClient(clock, 400_000))
    assert 0.025 <= asked[-1] / 400_000 <= 0.1


def test_progress_of_a_slow_client_is_fresh(tmp_path: Any, clock: Clock) -> None:
    """The progress of a client at 20 KB/s is at most 0.25 s old in other processes."""
    site = UploadSite(tmp_path, min_rate=0)
    identifier = site.identifier()
    arrived: list[tuple[float, int]] = []

    class Watched(PacedClient):
        received = 0

        def read(self, size: int) -> bytes:
            data = super().read(size)
            seen = site.status(identifier).get("received", 0)  # before the first byte, the status is unknown
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


def test_a_client_below_the_minimum_rate_is_refused(clock: Clock) -> None:
    """A client below the minimum rate is refused at the end of the grace time, and not before."""
    client = PacedClient(clock, 1023)
    with pytest.raises(TooSlow):
        read_all(reader(client, settings={"min_rate": 1024, "min_rate_grace": 30}))
    assert 30 <= clock.now - 1000 < 35


@pytest.mark.parametrize("total", [0, 1, 2, 5000, 100_000])
@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
def test_the_first_byte_is_awaited_alone(total: int, declared: bool) -> None:
    """The first byte is read alone and returned with the others in order; each received byte counts once."""
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
    """A client that sends its first byte after the grace time is refused."""
    client = PacedClient(clock, lambda now: 0.02 if now < 49 else 100_000)
    body = reader(client, settings={"min_rate": 1024, "min_rate_grace": 30})
    assert body.wait_for_first_byte()
    with pytest.raises(TooSlow):
        read_all(body)
    assert clock.now - 1000 < 51


def test_a_client_at_the_minimum_rate_is_served(clock: Clock) -> None:
    """A client at exactly the minimum rate is never refused."""
    client = PacedClient(clock, 1024, total=1024 * 300)
    assert read_all(reader(client, settings={"min_rate": 1024, "min_rate_grace": 30})) == 1024 * 300


def test_a_pause_within_the_grace_time_is_forgiven(clock: Clock) -> None:
    """The rate is the mean over the grace time; earlier speed does not allow a later pause."""
    settings = {"min_rate": 1024, "min_rate_grace": 30}
    pausing = PacedClient(clock, lambda second: 400 if int(second) % 30 < 15 else 5000, total=1024 * 200)
    assert read_all(reader(pausing, settings=settings)) == 1024 * 200
    start = clock.now
    stopping = PacedClient(clock, lambda second: 1e8 if second + 1000 < start + 1 else 100)
    with pytest.raises(TooSlow):
        read_all(reader(stopping, settings=settings))


def test_a_minimum_rate_of_0_accepts_any_rate(clock: Clock) -> None:
    """With a minimum rate of 0, one byte per second is accepted."""
    client = PacedClient(clock, 1, total=10_000)
    assert read_all(reader(client, settings={"min_rate": 0})) == 10_000


def test_a_slow_client_gets_408(tmp_path: Any, clock: Clock) -> None:
    """Response and status contain the refusal of a slow client, and the received bytes are removed."""
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
    """Draining a refused body reads at most ``drain_size`` bytes."""
    client = PacedClient(clock, 1e9)
    trusted(client, str(1 << 30), settings={"drain_size": 1_000_000}).drain()
    assert (1 << 30) - client.left == 1_000_000


def test_draining_is_bounded_in_time(clock: Clock) -> None:
    """Draining takes at most ``drain_time``, plus the read that is running then."""
    client = PacedClient(clock, 100_000)
    trusted(client, str(1 << 30), settings={"drain_size": "1G", "drain_time": 5}).drain()
    assert 5 <= clock.now - 1000 < 6


@pytest.mark.parametrize("settings", [{"drain_size": 0}, {"drain_time": 0}])
def test_draining_may_be_switched_off(clock: Clock, settings: dict[str, int]) -> None:
    """With either limit at 0 nothing is drained."""
    client = PacedClient(clock, 1e9)
    trusted(client, "100", settings=settings).drain()
    assert client.asked == []


def test_an_untrusted_body_is_not_drained_by_uninterruptible_reads() -> None:
    """A body with neither a valid identifier nor interruptible reads is not drained."""
    stream = Stream([b"abc", b"de"])
    reader(stream, "5").drain()
    assert stream.asked == []


def test_draining_ends_with_the_body() -> None:
    """A short body is drained to its end, and not past it."""
    stream = Stream([b"abc", b"de", b"NEXT REQUEST"])
    trusted(stream, "5").drain()
    assert stream.asked == [5, 2]


@pytest.mark.parametrize("server", ["Granian", "gevent/26.9 Python/3.11"])
def test_a_body_awaiting_100_continue_is_not_drained(server: str) -> None:
    """A body awaiting 100 Continue is not drained, since the first read would request it."""
    stream = Stream([b"x" * 10])
    reader(stream, "10", server, HTTP_EXPECT="100-continue").drain()
    assert stream.asked == []


def test_the_reader_uses_the_real_time_module() -> None:
    """The clock that the tests above replace exists."""
    assert vars(body_module)["time"] is time


def test_a_server_without_known_connections_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says once for each server that its silent clients cannot be disconnected from here."""
    with socket.socket() as connection:
        reader(Stream([]), "5", "gunicorn/1", **{"gunicorn.socket": connection})
    reader(Stream([]), "5", "waitress")  # buffers bodies
    reader(Stream([]), "0", "Unknown/1.0")  # no body
    assert caplog.messages == []
    for _ in range(2):
        reader(Stream([]), "5", "Unknown/1.0")
    assert [message.partition(" does")[0] for message in caplog.messages] == ["the server Unknown/1.0"]
