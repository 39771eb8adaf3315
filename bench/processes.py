"""Processor time and memory of a server's processes: the whole session that was started for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SESSION, _UTIME, _STIME = 3, 11, 12  # in /proc/PID/stat, counted after the name


def cpu_seconds(session: int) -> float:
    """Return the processor time, in user and in kernel mode, of the running processes so far."""
    return sum(int(stat[_UTIME]) + int(stat[_STIME]) for _, stat in _processes(session)) / _TICKS


def resident_memory(session: int) -> int:
    """Return the resident memory of the processes in bytes, summed."""
    return _memory(session, "VmRSS")


def peak_memory(session: int) -> int:
    """Return the peak memory of each process in bytes, summed."""
    return _memory(session, "VmHWM")


def process_ids(session: int) -> list[int]:
    """Return the processes of a session."""
    return [pid for pid, _ in _processes(session)]


def _processes(session: int) -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = Path(f"/proc/{name}/stat").read_text()
        except OSError:  # the process has ended meanwhile
            continue
        stat = text.rpartition(") ")[2].split()
        if int(stat[_SESSION]) == session:
            yield int(name), stat


def _memory(session: int, key: str) -> int:
    kilobytes = 0
    for pid in process_ids(session):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
    return kilobytes * 1024
