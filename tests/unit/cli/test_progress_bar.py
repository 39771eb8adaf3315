"""The progress bar of transfers."""

import io
import sys

import pytest

from fileupload.record_client.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn_lines(stream: io.StringIO) -> list[str]:
    """Return the drawn lines, one string for each drawing."""
    return [line.strip() for line in stream.getvalue().split("\r")]


def test_a_terminal_has_a_bar_with_bytes_rate_and_time_left() -> None:
    """The bar shows percentage, bytes, total, rate and remaining time, and is erased at the end."""
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar.expect(2 << 20)
        bar.expect(-(1 << 20))
        bar.advance(512 << 10)
        bar.expect(0)  # draws immediately
    *drawn, last_but_one, last = drawn_lines(stream)
    assert drawn[-1].startswith("50%|")
    assert "| 512k/1.00M [" in drawn[-1]
    assert "<" in drawn[-1]
    assert drawn[-1].endswith("B/s]")
    assert (last_but_one, last) == ("", "")


def test_a_total_of_0_bytes_is_drawn() -> None:
    """A total of 0 bytes causes no division by zero."""
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar.expect(0)
        bar.advance(0)
    assert drawn_lines(stream)[-1] == ""


def test_a_terminal_without_unicode_gets_an_ascii_bar() -> None:
    """A terminal without Unicode gets a bar in ASCII, without an encoding error."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    with ProgressBar(stream) as bar:
        bar.expect(100)
        bar.advance(50)
        bar.expect(0)
    stream.flush()
    assert b" 50%|" in stream.buffer.getvalue()


def test_a_file_or_a_pipe_gets_no_bar() -> None:
    """A file or a pipe gets no bar."""
    stream = io.StringIO()
    with ProgressBar(stream) as bar:
        bar.expect(100)
        bar.advance(50)
    assert stream.getvalue() == ""


def test_without_tqdm_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is optional: without tqdm, transfers run without one."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar.expect(100)
        bar.advance(50)
    assert stream.getvalue() == ""
