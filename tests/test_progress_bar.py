"""The line that tells how far a transfer is."""

import io

import pytest

from fileupload.cli.progress_bar import ProgressBar, describe_progress
from fileupload.formatting import format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("done", "total", "seconds", "expected"),
    [
        (0, 100, 0, "  0% [....................] 0 bytes of 100 bytes, 0 bytes/s"),
        (0, 0, 1, "  0% [....................] 0 bytes of 0 bytes, 0 bytes/s"),
        (512 << 10, 1 << 20, 1, " 50% [##########..........] 512 KB of 1 MB, 512 KB/s 0:01 left"),
        (1 << 20, 1 << 20, 2, "100% [####################] 1 MB of 1 MB, 512 KB/s"),
        (2 << 20, 1 << 20, 2, "100% [####################] 2 MB of 1 MB, 1 MB/s"),
    ],
)
def test_the_line_tells_amount_speed_and_time(done: int, total: int, seconds: float, expected: str) -> None:
    """The line has the share, the bytes, the speed, and the time that is left, if any of it can be told."""
    assert describe_progress(done, total, seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00")]
)
def test_times_are_told_as_on_a_clock(seconds: float, text: str) -> None:
    """Minutes and seconds, with hours from the first one."""
    assert format_duration(seconds) == text


def test_a_terminal_has_a_line_that_goes() -> None:
    """The line is written over itself, never wider than the terminal, and wiped at the end."""
    stream = Terminal()
    with ProgressBar(stream) as bar:
        bar.expect(100)
        bar.expect(-50)
        bar.advance(25)
    lines = stream.getvalue().split("\r")
    assert lines[1].startswith(" 50% [##########..........] 25 bytes of 50 bytes")
    assert lines[-1] == "\x1b[K"


def test_elsewhere_nothing_is_written() -> None:
    """A file or a pipe gets no bar."""
    stream = io.StringIO()
    with ProgressBar(stream) as bar:
        bar.expect(100)
        bar.advance(50)
    assert stream.getvalue() == ""
